"""Scenarios whose capacity is known in closed form: a device that needs no time, a host that needs some."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tokensim import register
from tokensim.cost.base import AttentionTime, DecodeCurve, Origin, RowTime, Setting, Times
from tokensim.model.operators import Attention, Operator
from tokensim.scenario import Scenario
from tokensim.scenario.loading import from_mapping
from tokensim.workload.base import Floats

STEP_S = 0.01
NOWHERE = Origin("exact", "no time")


class NoTime:
    """Rows and attention that take no time."""

    needs_longest = False

    def seconds(self, rows: Floats) -> Floats:
        return np.zeros_like(rows)

    def decode(self, requests: int) -> DecodeCurve:
        return DecodeCurve((0.0, 1.0), (0.0, 0.0))

    def mixed(
        self, chunks: Sequence[tuple[int, int]], requests: int, context: float, longest: float
    ) -> float:
        return 0.0

    def origin(self, *_: Any) -> Origin:
        return NOWHERE


@register.operator_cost("no-time")
class Nothing:
    """Every operator in no time."""

    name = "no-time"

    def __init__(self, setting: Setting) -> None:
        pass

    def price(self, operators: Sequence[Operator]) -> Times:
        times: dict[str, RowTime | AttentionTime] = {}
        for op in operators:
            times[op.name] = NoTime()
        assert any(isinstance(op, Attention) for op in operators)
        return times


def server(
    arrivals: dict[str, Any],
    requests: int,
    *,
    slo: dict[str, Any] | None = None,
    step_s: float = STEP_S,
    request_s: float = 0.0,
    most: int = 1,
    tokens: int = 1,
    seed: int = 0,
) -> Scenario:
    """Steps of ``step_s`` and ``request_s`` for each of up to ``most`` requests in them."""
    return from_mapping(
        {
            "model": "meta-llama/Llama-3.1-8B",
            "cluster": {"pools": [{"name": "serve", "hardware": "h100-sxm-80gb"}]},
            "engine": {"async_scheduling": False, "max_num_seqs": most, "enable_prefix_caching": False},
            "performance": {
                "operators": "no-time",
                "host": {"step": step_s, "request": request_s, "gap": 0},
            },
            "workload": {
                "arrivals": arrivals,
                "input_tokens": 8,
                "output_tokens": tokens,
                "num_requests": requests,
            },
            "slo": slo,
            "seed": seed,
        }
    )
