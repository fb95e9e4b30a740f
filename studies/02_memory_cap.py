"""Study 2: the cap on memory use for admission against throughput under bounds on latency.

python studies/02_memory_cap.py --figures docs/studies/figures
"""

from __future__ import annotations

from pathlib import Path

import kit
import polars as pl

from tokensim.explore.executors import Executor
from tokensim.explore.question import Question
from tokensim.explore.study import Study
from tokensim.report.figures.base import Figure
from tokensim.report.figures.study import Axis, Words, columns_of, line_figure


def run(small: bool, executor: Executor, folder: Path | None) -> pl.DataFrame:
    """One row a setup and ratio: the capacity, and what the run there was like."""
    less = ("workload.num_requests=300",) if small else ()
    study = Study.from_yaml(kit.HERE / "02-memory-cap.yaml", less)
    question = Question(seeds=1, tolerance=0.05) if small else Question(seeds=3, tolerance=0.02)
    frame = kit.borne(study, question, executor, folder)
    return frame.with_columns((1 - pl.col("engine.watermark")).round(2).alias("ratio"))


def figures(frame: pl.DataFrame) -> list[Figure]:
    """Capacity over the ratio."""
    words = Words(
        "02-memory-cap",
        "Capacity over the share of the KV cache that admissions may fill",
        "The highest rate that keeps TTFT within 15 s and gaps within 0.3 s, over the cap on memory use.",
    )
    drawn = columns_of(frame, "setup", "ratio", "capacity")
    x = Axis("ratio", "share of KV cache that admissions may fill")
    y = Axis("capacity", "requests a second", zero=True)
    return [line_figure(words, drawn, x, y, "setup")]


def table(frame: pl.DataFrame) -> str:
    """Capacity and preemptions by setup and ratio."""
    titles = {
        "setup": "",
        "ratio": "cap",
        "capacity": "requests/s",
        "interval_low": "from",
        "interval_high": "to",
        "bound": "bound by",
        "at.usage.kv_max": "KV cache in use at most",
        "at.usage.batch_max": "batch at most",
        "at.preemptions": "preemptions",
    }
    return kit.markdown(frame, titles)


if __name__ == "__main__":
    kit.main(run, figures, table)
