"""Study 7: what do prefill devices need: compute, bandwidth or memory?

python studies/07_prefill_sensitivity.py [--small]
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import kit

from tokensim.explore.question import Question
from tokensim.report.figures.base import Figure
from tokensim.report.figures.comparison import lines
from tokensim.report.series.base import columns

if TYPE_CHECKING:
    import polars as pl

NAME = "07-prefill-sensitivity"
SMALL = ("workload.num_requests=80",)
QUESTION = Question(load="rate", seeds=1, tolerance=0.03)
WHOLE = "as they are"
ABILITIES = ("compute", "bandwidth", "memory")


answer = kit.bearing(QUESTION)
"""The rate (requests/s) that every configuration bears."""


def draw(frame: pl.DataFrame) -> Figure:
    """The rate over the factor, a line for each ability."""
    rows = frame.to_dicts()
    points = []
    for row in rows:
        ability, _, factor = row["prefill devices"].partition(" × ")
        for name in ABILITIES if ability == WHOLE else (ability,):
            points.append((row["set-up"], name, float(factor or 1), row["rate"]))
    points.sort(key=lambda point: (ABILITIES.index(point[1]), point[2]))
    table = columns(
        panel=[point[0] for point in points],
        series=[point[1] for point in points],
        x=[point[2] for point in points],
        y=[point[3] for point in points],
    )
    return lines(
        NAME,
        "What prefill devices need",
        "Highest request rate under TTFT 1 s and TPOT 100 ms (p90), over what prefill devices have of an "
        "ability, as a factor of the data sheet's.",
        table,
        x="times what the device has",
        y="requests/s",
        log_x=True,
    )


if __name__ == "__main__":
    kit.one_figure(NAME, answer, draw, SMALL)
