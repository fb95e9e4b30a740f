"""Study 10: which router bears the most under shared prefixes?

python studies/10_routing_prefixes.py [--small]
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

NAME = "10-routing-prefixes"
SMALL = ("workload.num_requests=400",)
QUESTION = Question(load="rate", seeds=1, tolerance=0.03)
POLICY = "cluster.router.policy"


answer = kit.bearing(QUESTION, {"cached": "tokens.cached_share"})
"""The rate (requests/s) that every configuration bears, and the share of prompts found in caches."""


def draw(frame: pl.DataFrame) -> Figure:
    """Bars of the rate by policy, a panel for each set-up."""
    rows = frame.to_dicts()
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
    kit.one_figure(NAME, answer, draw, SMALL)
