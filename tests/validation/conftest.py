"""Cases whose truth is known: what the simulator itself says, under a known calibration, as if measured."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from case_files import scenario_tree, write_case
from tokensim.cost.calibration import Calibration
from tokensim.scenario import from_mapping
from tokensim.validation.replay import simulate_with

CaseMaker = Callable[..., Path]


@pytest.fixture
def simulated_case(tmp_path: Path) -> CaseMaker:
    """Make a case of what is simulated under ``truth``: ``rate`` requests a second, Poisson, 512 in."""

    def make(
        name: str = "case",
        truth: Calibration | None = None,
        *,
        anchor: str = "client-send",
        rate: float = 6.0,
        requests: int = 150,
        input_tokens: int = 512,
        cap: int | None = None,
        **facts: Any,
    ) -> Path:
        folder = tmp_path / name
        rng = np.random.default_rng(1)
        arrivals = np.cumsum(rng.exponential(1 / rate, requests)).round(6)
        lengths = rng.integers(input_tokens // 2, input_tokens * 3 // 2, requests)
        rows = [
            {"arrival_s": float(at), "input_tokens": int(tokens), "output_tokens": 64}
            for at, tokens in zip(arrivals, lengths, strict=True)
        ]
        write_case(folder, rows)
        tree = facts.get("scenario", scenario_tree())
        trace = {"path": str(folder / "requests.jsonl"), "format": "generic"}
        front_end = {"front_end": anchor == "client-send"}
        whole = {
            **tree,
            "performance": {**front_end, **tree["performance"]},
            "workload": {"trace": trace, "max_in_flight": cap},
        }
        table = simulate_with(from_mapping(whole), truth).requests
        engine = anchor == "engine-queue"
        for row, told in zip(rows, table.iter_rows(named=True), strict=True):
            start = told["queued_s"] if engine else told["arrival_s"]
            row["queued_s" if engine else "sent_s"] = start
            row["ttft_s"] = told["first_token_s"] - start if engine else told["ttft_s"]
            row["e2e_s"] = told["finish_s"] - start if engine else told["e2e_s"]
        return write_case(folder, rows, anchor=anchor, client={"max_in_flight": cap}, **facts)

    return make
