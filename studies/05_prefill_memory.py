"""Study 5: how much memory do prefill devices need?

python studies/05_prefill_memory.py [--small]
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import kit

from tokensim.explore.question import Question
from tokensim.report.figures.base import Figure
from tokensim.report.figures.comparison import bars
from tokensim.report.series.base import columns

if TYPE_CHECKING:
    import polars as pl

NAME = "05-prefill-memory"
SMALL = ("workload.num_requests=80",)
QUESTION = Question(load="rate", seeds=1, tolerance=0.03)


answer = kit.bearing(QUESTION)
"""The rate (requests/s) that every configuration bears."""


def draw(frame: pl.DataFrame) -> Figure:
    """Bars of the rate by memory, a panel for each set-up."""
    rows = frame.to_dicts()
    table = columns(
        panel=[row["set-up"] for row in rows],
        bar=[row["memory"] for row in rows],
        value=[row["rate"] for row in rows],
    )
    return bars(
        NAME,
        "Less memory on prefill or decode devices",
        "Highest request rate under TTFT 1 s and TPOT 100 ms (p90), by the memory that devices have.",
        table,
        value="requests/s",
    )


if __name__ == "__main__":
    kit.one_figure(NAME, answer, draw, SMALL)
