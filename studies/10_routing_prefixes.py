"""Study 10: which router bears the most under shared prefixes?

python studies/10_routing_prefixes.py [--small]
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

NAME = "10-routing-prefixes"
SMALL = ("workload.num_requests=400",)
QUESTION = Question(load="rate", seeds=1, tolerance=0.03)
POLICY = "cluster.router.policy"


def answer(study: Study, executor: Executor | None = None, question: Question = QUESTION) -> list[pages.Row]:
    """The rate (requests/s) that every configuration bears, and the share of prompts found in caches."""
    found = capacities(study, question, executor=executor)
    return pages.capacity_rows(found, {"cached": "tokens.cached_share"})


def draw(rows: list[pages.Row]) -> Figure:
    """Bars of the rate by policy, a panel for each set-up."""
    table = columns(
        panel=[row["set-up"] for row in rows],
        bar=[row[POLICY] for row in rows],
        value=[row["rate"] for row in rows],
    )
    return bars(
        NAME,
        "Routers under shared prefixes",
        "Highest request rate of four devices under TTFT 1 s and TPOT 100 ms (p90), by the router's policy.",
        table,
        value="requests/s",
    )


if __name__ == "__main__":
    pages.main(NAME, answer, draw, SMALL)
