"""Study 11: what is a fleet of two generations worth, behind which router?

python studies/11_mixed_fleet.py [--small]
"""

from __future__ import annotations

import pages
from tokensim.explore.capacities import capacities
from tokensim.explore.executors import Executor
from tokensim.explore.question import Question
from tokensim.explore.study import Study
from tokensim.report.figures.base import Figure
from tokensim.report.figures.comparison import bars
from tokensim.report.series.base import columns

NAME = "11-mixed-fleet"
SMALL = ("workload.num_requests=400",)
QUESTION = Question(load="rate", seeds=1, tolerance=0.03)


def answer(study: Study, executor: Executor | None = None, question: Question = QUESTION) -> list[pages.Row]:
    """The rate (requests/s) that every configuration bears, and what a million output tokens cost (USD)."""
    found = capacities(study, question, executor=executor)
    return pages.capacity_rows(found, {"usd": "spending.usd_per_million_output_tokens"})


def draw(rows: list[pages.Row]) -> Figure:
    """Bars of the rate by fleet, a panel for each model."""
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
    pages.main(NAME, answer, draw, SMALL)
