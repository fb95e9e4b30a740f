"""Measured and simulated over time, on a time axis that is shared and zooms."""

from __future__ import annotations

from tokensim.report.figures.base import Figure, Spec
from tokensim.report.figures.parts import MEDIUM, SECONDS, time_axis, time_param
from tokensim.report.figures.sides import SIDES, Shown, bands, by_side, when_hovered
from tokensim.report.figures.study import Words
from tokensim.report.series.base import Columns

GAP = 4
"""A line over time goes over up to so many intervals without a value less one (a poll that was missed, a
pause in the arrivals)."""


def sides_over_time(
    words: Words, table: Columns, end_s: float, title: str, shown: Shown, numbers: Columns
) -> Figure:
    """Both sides over time; a row of ``table`` is an interval: ``time_s`` (its middle), ``measured`` and
    ``simulated``, None where a side says nothing. The axis is called ``title``."""
    x = {**time_axis(end_s), "title": "seconds from the first arrival"}
    form = {"duration": {"labelExpr": SECONDS}, "count": {"format": ",~r"}, "share": {"format": "~%"}}
    y: Spec = {
        "type": "quantitative",
        "title": title,
        "scale": {"zero": True, "nice": True},
        "axis": {**form[shown], "tickCount": 5, **({"tickMinStep": 1} if shown == "count" else {})},
    }
    if not any(value for side in SIDES for value in table[side]):
        y["scale"] = {"domain": [0, 1]}
    far = f"!isValid(datum.before) || datum.time_s - datum.before > {2 * GAP + 1} * half"
    line: Spec = {
        "transform": [
            {"fold": list(SIDES), "as": ["side", "value"]},
            {"filter": "isValid(datum.value)"},
            _running({"op": "lag", "field": "time_s", "as": "before"}),
            {"calculate": f"{far} ? 1 : 0", "as": "begins"},
            _running({"op": "sum", "field": "begins", "as": "stretch"}),
        ],
        "params": [time_param()],
        "mark": {"type": "line", "clip": True, "strokeCap": "round"},
        "encoding": {"x": x, "y": {"field": "value", **y}, "detail": {"field": "stretch"}, **by_side()},
    }
    around: Spec = {"field": "time_s", "title": "around (s)", "format": ",.4~f"}
    around_bands = bands("x", "time_s", x, shown, around, 0.18)
    dots: Spec = {
        "transform": line["transform"][:2],
        "mark": {"type": "point", "filled": True, "size": 45, "clip": True, "tooltip": None, "aria": False},
        "encoding": {
            "x": x,
            "y": {"field": "value", **y},
            "color": by_side()["color"],
            "opacity": when_hovered(1),
        },
    }
    return Figure(
        name=words.name,
        title=words.title,
        description=words.description,
        spec={"data": {"name": "sides"}, "height": MEDIUM, "layer": [line, around_bands, dots]},
        datasets={"sides": table},
        numbers=numbers,
        note=words.note,
        timed=True,
        values={"half": end_s / 2 / max(len(table["time_s"]), 1)},
    )


def _running(window: Spec) -> Spec:
    """``window`` over the rows of a side up to each, in order of time."""
    return {"window": [window], "groupby": ["side"], "sort": [{"field": "time_s"}]}
