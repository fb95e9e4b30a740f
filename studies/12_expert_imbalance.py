"""Study 12: what do popular experts cost, and what does it help to place them by load?

python studies/12_expert_imbalance.py [--small]
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

NAME = "12-expert-imbalance"
SMALL = ("workload.num_requests=150",)
QUESTION = Question(load="rate", seeds=1, tolerance=0.03)


answer = kit.bearing(QUESTION, {"tpot_p50": "latency.tpot_s.p50"})
"""The rate (requests/s) that every configuration bears, and the median of TPOT there (s)."""


def draw(frame: pl.DataFrame) -> Figure:
    """Bars of the rate by the popularity of experts, a panel for each set-up."""
    rows = frame.to_dicts()
    table = columns(
        panel=[row["set-up"] for row in rows],
        bar=[row["experts"] for row in rows],
        value=[row["rate"] for row in rows],
    )
    return bars(
        NAME,
        "Popular experts",
        "Highest request rate of four devices under TTFT 2 s and TPOT 100 ms (p90), by popularity.",
        table,
        value="requests/s",
    )


if __name__ == "__main__":
    kit.one_figure(NAME, answer, draw, SMALL)
