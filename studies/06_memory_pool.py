"""Study 6: what is a memory pool worth to conversations?

python studies/06_memory_pool.py [--small]
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import kit

from tokensim.explore.executors import Executor
from tokensim.explore.question import Question
from tokensim.explore.study import Study
from tokensim.report.figures.base import Figure
from tokensim.report.figures.comparison import lines
from tokensim.report.series.base import columns

if TYPE_CHECKING:
    import polars as pl

NAME = "06-memory-pool"
SMALL = ("workload.sessions.count=200",)
QUESTION = Question(load="rate", seeds=1, tolerance=0.05)
ROUNDS = 4
"""Requests of a session; the study's load is a rate of sessions."""


def answer(
    study: Study,
    executor: Executor | None = None,
    folder: Path | None = None,
    question: Question = QUESTION,
) -> pl.DataFrame:
    """The rate (requests/s, four for each conversation) that every configuration bears."""
    import polars as pl

    found = kit.rates(kit.borne(study, question, executor, folder), study)
    return found.with_columns(ROUNDS * pl.col("rate"))


def draw(frame: pl.DataFrame) -> Figure:
    """The rate over the length of answers, a line for each memory."""
    rows = frame.to_dicts()
    table = columns(
        panel=[row["set-up"] for row in rows],
        series=[row["memory"] for row in rows],
        x=[int(row["workload.output_tokens"]) for row in rows],
        y=[row["rate"] for row in rows],
    )
    return lines(
        NAME,
        "A memory pool for conversations",
        "Highest request rate under TTFT 1 s and TPOT 100 ms (p99) of conversations of four rounds, over the "
        "length of an answer.",
        table,
        x="tokens of an answer",
        y="requests/s",
        log_x=True,
    )


if __name__ == "__main__":
    kit.one_figure(NAME, answer, draw, SMALL)
