"""What a server leaves in the end: the files of a run, and its arrivals as a trace, so that the run can be
repeated offline.

The trace has a hash id for every full block of a prompt. It says nothing of answers that came back in later
prompts: offline, their blocks are found only if some prompt had them before.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from tokensim.assemble.run import Result
from tokensim.report.atomic import write_atomic
from tokensim.scenario import Scenario
from tokensim.scenario.workload import TraceSpec, WorkloadSpec
from tokensim.workload import Workload

ARRIVALS = "arrivals.jsonl"

BLOCK_BITS = 24
"""Blocks of one segment are fewer than 2**24."""


def leave_run(result: Result, workload: Workload, block: int | None, folder: Path) -> None:
    """Write ``result`` of ``workload`` into ``folder``; ``block``: tokens of a hashed block (None: no
    hashes)."""

    def write(file: IO[bytes]) -> None:
        for row in rows(workload, block):
            file.write(json.dumps(row).encode() + b"\n")

    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / ARRIVALS, write)
    result.scenario = replayed(result.scenario, workload, block)
    result.save(folder)


def replayed(scenario: Scenario, workload: Workload, block: int | None) -> Scenario:
    """``scenario`` with the arrivals of ``workload`` as its trace."""
    hashed = block if workload.segments is not None else None
    trace = TraceSpec(path=ARRIVALS, format="generic", hash_block_tokens=hashed)
    return scenario.model_copy(update={"workload": WorkloadSpec(trace=trace)})


def rows(workload: Workload, block: int | None) -> Iterator[dict[str, Any]]:
    """The lines of the trace."""
    columns = {
        name: column.tolist()
        for name in ("arrival_s", "input_tokens", "output_tokens", "priority", "tenant", "adapter")
        if (column := getattr(workload, name)) is not None
    }
    names = workload.names
    segments = workload.segments
    for row in range(len(workload)):
        line = {name: column[row] for name, column in columns.items()}
        if names is not None:
            line["request_id"] = names[row]
        if segments is not None and block is not None:
            own = slice(int(segments.offsets[row]), int(segments.offsets[row + 1]))
            parts = zip(segments.ids[own].tolist(), segments.tokens[own].tolist(), strict=True)
            line["hash_ids"] = block_ids(list(parts), block)
        yield line


def block_ids(parts: list[tuple[int, int]], block: int) -> list[int]:
    """The id of each full block of a prompt of segments ``parts``: where its last token lies."""
    ids: list[int] = []
    end = 0
    for one, tokens in parts:
        end += tokens
        while (len(ids) + 1) * block <= end:
            ids.append((one << BLOCK_BITS) + len(ids))
    return ids
