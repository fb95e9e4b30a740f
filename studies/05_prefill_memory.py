"""Study 5: how much memory do prefill devices need?

python studies/05_prefill_memory.py [--small]
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

NAME = "05-prefill-memory"
SMALL = ("workload.num_requests=80",)
QUESTION = Question(load="rate", seeds=1, tolerance=0.03)


def answer(study: Study, executor: Executor | None = None, question: Question = QUESTION) -> list[pages.Row]:
    """The rate (requests/s) that every configuration bears."""
    return pages.capacity_rows(capacities(study, question, executor=executor))


def draw(rows: list[pages.Row]) -> Figure:
    """Bars of the rate by memory, a panel for each set-up."""
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
    pages.main(NAME, answer, draw, SMALL)
