"""What a server leaves in the end: the files of a run, and its arrivals as a trace, so that the run can be
repeated offline.

The trace counts from the server's start, as failures, restarts and autoscalers do. It says of every prompt
which segments it is made of, and which segment its answer is, so that the prefix cache finds offline what it
found live.
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


def leave_run(result: Result, workload: Workload, folder: Path) -> None:
    """Write ``result`` of ``workload`` into ``folder``."""

    def write(file: IO[bytes]) -> None:
        for row in rows(workload):
            file.write(json.dumps(row).encode() + b"\n")

    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / ARRIVALS, write)
    result.scenario = replayed(result.scenario)
    result.save(folder)


def replayed(scenario: Scenario) -> Scenario:
    """``scenario`` with the arrivals as its trace."""
    trace = TraceSpec(path=ARRIVALS, format="generic", time_zero="file")
    return scenario.model_copy(update={"workload": WorkloadSpec(trace=trace)})


def rows(workload: Workload) -> Iterator[dict[str, Any]]:
    """The lines of the trace."""
    wanted = ("arrival_s", "input_tokens", "output_tokens", "priority", "tenant", "session", "adapter")
    columns = {name: column.tolist() for name in wanted if (column := getattr(workload, name)) is not None}
    names = workload.names
    segments = workload.segments
    for row in range(len(workload)):
        line = {name: column[row] for name, column in columns.items()}
        if names is not None:
            line["request_id"] = names[row]
        if segments is not None:
            own = slice(int(segments.offsets[row]), int(segments.offsets[row + 1]))
            parts = zip(segments.ids[own].tolist(), segments.tokens[own].tolist(), strict=True)
            line["segments"] = list(map(list, parts))
            if segments.output_ids is not None:
                line["answer_id"] = int(segments.output_ids[row])
        yield line
