"""Study 9: how long may a chunk be?

python studies/09_chunk_size.py [--small]
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import kit

from tokensim.explore.executors import Executor
from tokensim.explore.study import Study
from tokensim.report.figures.base import Figure
from tokensim.report.figures.comparison import lines
from tokensim.report.series.base import columns

if TYPE_CHECKING:
    import polars as pl

NAME = "09-chunk-size"
SMALL = ("workload.num_requests=300",)
CHUNK = "engine.max_num_batched_tokens"
FIGURES = {
    "ttft_p50": "latency.ttft_s.p50",
    "ttft_p99": "latency.ttft_s.p99",
    "tpot_p50": "latency.tpot_s.p50",
    "itl_p99": "latency.itl_s.p99",
}
"""What is shown (s)."""


def answer(study: Study, executor: Executor | None = None, folder: Path | None = None) -> pl.DataFrame:
    """Latencies (s) of every configuration."""
    import polars as pl

    found = kit.swept(study, executor, folder).sort("point")
    shown = (pl.col(figure).alias(name) for name, figure in FIGURES.items())
    return found.select(*(parameter.name for parameter in study.parameters), *shown)


def draw(frame: pl.DataFrame) -> Figure:
    """Median TTFT and ITL p99 over the chunk, a line for each set-up."""
    rows = frame.to_dicts()
    shown = {"TTFT p50": "ttft_p50", "ITL p99": "itl_p99"}
    points = [(panel, row["set-up"], row[CHUNK], row[name]) for panel, name in shown.items() for row in rows]
    table = columns(
        panel=[point[0] for point in points],
        series=[point[1] for point in points],
        x=[int(point[2]) for point in points],
        y=[1000 * point[3] for point in points],
    )
    return lines(
        NAME,
        "Chunk size against TTFT and gaps",
        "Median TTFT and the 99th percentile of gaps between tokens, over max_num_batched_tokens.",
        table,
        x="tokens in a step at most",
        y="ms",
        log_x=True,
        log_y=True,
    )


if __name__ == "__main__":
    kit.one_figure(NAME, answer, draw, SMALL)
