"""The folder that a run leaves: the scenario, both tables, the timeline, the figures' data, the page and the
summary, each written whole.

The same run leaves the same bytes. An older ``summary.json`` is removed first and the new one written last,
so a folder with a summary holds files of one run only, whenever the process was killed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from tokensim.errors import SimulationError
from tokensim.metrics.energy import RequestEnergy
from tokensim.metrics.frames import requests_frame, steps_frame
from tokensim.metrics.log import RunLog
from tokensim.metrics.summary import Summary
from tokensim.report.atomic import write_atomic
from tokensim.report.run_page import run_page
from tokensim.report.series.run import RunData, RunFacts, figures_json, run_data
from tokensim.report.trace import write_trace

if TYPE_CHECKING:
    import polars as pl

RUN_FILES = (
    *("scenario.yaml", "requests.parquet", "steps.parquet", "trace.json"),
    *("figures.json", "report.html", "summary.json"),
)
"""The files of a run folder, in the order in which they are written."""

ROW_GROUP = 262_144
"""Rows of a parquet row group: fixed, so that the bytes do not depend on the machine."""

PROBE = 1 << 20
"""Bytes that do not fit either where a table did not."""


def write_run(
    folder: str | Path,
    *,
    summary: Summary,
    log: RunLog,
    scenario_yaml: str,
    facts: RunFacts,
    energy: RequestEnergy | None = None,
) -> list[Path]:
    """Write ``RUN_FILES`` into ``folder`` (made if absent) and return their paths.

    ``scenario_yaml`` is the scenario with every default filled in, ``facts`` what the log does not say,
    ``energy`` what each request stands for. Raises ``SimulationError`` naming the file that could not be
    written; no file is ever left half written.
    """
    root = Path(folder)

    @cache
    def data() -> RunData:
        return run_data(log, summary, facts, scenario_yaml)

    writers: dict[str, Callable[[IO[bytes]], None]] = {
        "scenario.yaml": lambda file: _write(file, scenario_yaml),
        "requests.parquet": lambda file: _write_parquet(file, requests_frame(log, energy)),
        "steps.parquet": lambda file: _write_parquet(file, steps_frame(log)),
        "trace.json": lambda file: write_trace(file, log, facts.instances),
        "figures.json": lambda file: _write(file, figures_json(data())),
        "report.html": lambda file: _write(file, run_page(data())),
        "summary.json": lambda file: _write(file, summary_json(summary)),
    }
    try:
        root.mkdir(parents=True, exist_ok=True)
        (root / "summary.json").unlink(missing_ok=True)
    except OSError as error:
        raise SimulationError(f"{root}: cannot be written to: {error.strerror or error}") from error
    for name in RUN_FILES:
        write_atomic(root / name, writers[name])
    return [root / name for name in RUN_FILES]


def summary_json(summary: Summary) -> str:
    """The text of ``summary.json``: indented, with lists of numbers on one line."""
    text = json.dumps(summary.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)
    numbers = re.compile(r"\[\s*((?:-?\d[-+.\deE]*,?\s*)+)\]")
    return numbers.sub(lambda match: "[" + " ".join(match[1].split()) + "]", text) + "\n"


def _write(file: IO[bytes], text: str) -> None:
    file.write(text.encode())


def _write_parquet(file: IO[bytes], frame: pl.DataFrame) -> None:
    import polars as pl

    options: dict[str, Any] = {"compression": "zstd", "row_group_size": ROW_GROUP, "statistics": True}
    try:
        frame.rechunk().write_parquet(file, **options)
    except pl.exceptions.PolarsError as error:
        file.write(bytes(PROBE))  # polars hides why a write failed; a write of our own says it
        file.flush()
        raise OSError(str(error)) from error
