"""Study 8: prefill and decode apart, or together, on two devices?

python studies/08_disaggregation.py [--small]
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

NAME = "08-disaggregation"
SMALL = ("workload.num_requests=100",)
QUESTION = Question(load="rate", seeds=1, tolerance=0.03)


answer = kit.bearing(QUESTION)
"""The rate (requests/s) that every configuration bears."""


def draw(frame: pl.DataFrame) -> Figure:
    """Bars of the rate by arrangement, a panel for each set-up."""
    rows = frame.to_dicts()
    table = columns(
        panel=[row["set-up"] for row in rows],
        bar=[row["devices"] for row in rows],
        value=[row["rate"] for row in rows],
    )
    return bars(
        NAME,
        "Apart or together, on two devices",
        "Highest request rate of two devices under TPOT 40 ms and TTFT 400 ms (long prompts: 1 s), p90.",
        table,
        value="requests/s",
    )


if __name__ == "__main__":
    kit.one_figure(NAME, answer, draw, SMALL)
