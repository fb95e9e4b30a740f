"""A run as a case: ``case.yaml`` and ``requests.jsonl`` in a folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokensim.errors import InputError
from tokensim.scenario import yaml_text
from tokensim.validation.imports.base import Run
from tokensim.validation.output import write_text


def write_case(
    folder: Path,
    run: Run,
    scenario: Mapping[str, Any],
    *,
    name: str,
    source: str,
    max_in_flight: int | None = None,
    force: bool = False,
) -> list[Path]:
    """Write ``run`` with ``scenario`` (its tree, without workload) into ``folder``; returns the files.

    ``max_in_flight`` replaces the cap that the run says. Times start at the first arrival. Raises
    ``InputError`` if there is a case in the folder already and not ``force``, ``SimulationError`` if the
    folder cannot be written.
    """
    case_file, requests_file = folder / "case.yaml", folder / "requests.jsonl"
    if not force and (case_file.exists() or requests_file.exists()):
        raise InputError("there is a case in it already", where=str(folder), hint="--force replaces it")
    start = min(request.arrival_s for request in run.requests)
    lines = [
        json.dumps(
            {
                "arrival_s": round(request.arrival_s - start, 6),
                "sent_s": round(request.sent_s - start, 6),
                "input_tokens": request.input_tokens,
                "output_tokens": request.output_tokens,
                "ttft_s": round(request.ttft_s, 6),
                "e2e_s": round(request.e2e_s, 6),
            }
        )
        for request in sorted(run.requests)
    ]
    cap = max_in_flight if max_in_flight is not None else run.max_in_flight
    notes = list(run.notes)
    if run.failed:
        notes.append(f"{run.failed} requests failed or have no times; the replay leaves them out")
    tree: dict[str, Any] = {
        "name": name,
        "source": source,
        "measured_with": run.tool + (f", {run.model}" if run.model else ""),
        "anchor": "client-send",
        "client": {"max_in_flight": cap},
        "scenario": dict(scenario),
        "requests": requests_file.name,
    }
    if notes:
        tree["notes"] = notes
    write_text(requests_file, "\n".join(lines) + "\n")
    write_text(case_file, yaml_text.dump(tree))
    return [case_file, requests_file]
