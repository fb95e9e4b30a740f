"""Study 1: continuous against static batching, by the cap on the batch.

python studies/01_batching.py --figures docs/studies/figures
"""

from __future__ import annotations

from pathlib import Path

import kit
import polars as pl

from tokensim.explore.executors import Executor
from tokensim.explore.study import Study
from tokensim.report.figures.base import Figure
from tokensim.report.figures.study import Axis, Words, columns_of, line_figure

BEARABLE_S = 10
"""Mean latency up to which a load counts as borne: three to five times what a lone request takes."""


def run(small: bool, executor: Executor, folder: Path | None) -> pl.DataFrame:
    """One row a setup, way of batching and rate."""
    less = ("workload.num_requests=150",) if small else ()
    frame = kit.swept(Study.from_yaml(kit.HERE / "01-batching.yaml", less), executor, folder)
    return frame.rename({"workload.arrivals.rate": "rate", "latency.e2e_s.mean": "latency"})


def borne(frame: pl.DataFrame) -> pl.DataFrame:
    """By setup and batching: the highest rate whose mean latency is at most ``BEARABLE_S``, the latency at
    the lowest rate, and the output tokens a second at the highest one."""
    keys = ["setup", "batching"]
    return frame.group_by(keys, maintain_order=True).agg(
        pl.col("rate").filter(pl.col("latency") <= BEARABLE_S).max().alias("rate"),
        pl.col("latency").first().alias("lightly"),
        pl.col("throughput.output_tokens_per_s").last().alias("tokens"),
        pl.col("usage.batch_max").last().alias("batch"),
    )


def figures(frame: pl.DataFrame) -> list[Figure]:
    """Mean latency over the rate."""
    words = Words(
        "01-batching",
        "Latency against load, by batching",
        "Mean end-to-end latency over requests a second, for static and continuous batches, by their cap.",
    )
    drawn = columns_of(frame, "setup", "batching", "rate", "latency")
    x = Axis("rate", "requests a second", log=True)
    y = Axis("latency", "mean latency", log=True, seconds=True)
    return [line_figure(words, drawn, x, y, "batching", panel="setup")]


def table(frame: pl.DataFrame) -> str:
    """What each way of batching bears."""
    titles = {
        "setup": "",
        "batching": "batching",
        "lightly": "mean latency at the lowest rate (s)",
        "rate": f"highest rate within {BEARABLE_S} s",
        "tokens": "output tokens/s at the highest rate",
        "batch": "requests in a step, at most",
    }
    return kit.markdown(borne(frame), titles)


if __name__ == "__main__":
    kit.main(run, figures, table)
