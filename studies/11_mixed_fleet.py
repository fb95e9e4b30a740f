"""Study 11: what is a fleet of two generations worth, behind which router?

python studies/11_mixed_fleet.py [--small]
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

NAME = "11-mixed-fleet"
SMALL = ("workload.num_requests=400",)
QUESTION = Question(load="rate", seeds=1, tolerance=0.03)


answer = kit.bearing(QUESTION, {"usd": "spending.usd_per_million_output_tokens"})
"""The rate (requests/s) that every configuration bears, and what a million output tokens cost (USD)."""


def draw(frame: pl.DataFrame) -> Figure:
    """Bars of the rate by fleet, a panel for each model."""
    rows = frame.to_dicts()
    table = columns(
        panel=[row["model"] for row in rows],
        bar=[row["fleet"] for row in rows],
        value=[row["rate"] for row in rows],
    )
    return bars(
        NAME,
        "A fleet of H100 and A100",
        "Highest request rate of four devices under TTFT 500 ms and TPOT 50 ms (p90), by fleet and router.",
        table,
        value="requests/s",
    )


if __name__ == "__main__":
    kit.one_figure(NAME, answer, draw, SMALL)
