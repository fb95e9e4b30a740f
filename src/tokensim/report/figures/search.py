"""What a search found: the configurations that were run, by two figures and over the trials.

A table has one row a trial: ``trial``, ``configuration``, ``outcome`` (of ``OUTCOMES``, else why it was not
run), and the figures, None where it was not run.
"""

from __future__ import annotations

from tokensim.report.figures.base import Figure, Spec, thinned
from tokensim.report.figures.parts import MEDIUM, bound_rule, category
from tokensim.report.figures.study import Axis, Words, quantitative, tooltip
from tokensim.report.numbers import count, setting
from tokensim.report.series.base import Columns, columns

BEST, MISSES, KEEPS = OUTCOMES = ("best", "misses some", "keeps all")
"""What became of those that were run (what is required is missed, or kept), in the order of the colours."""

SHAPES = ("diamond", "cross", "circle")


def run_only(table: Columns) -> Columns:
    """The trials of ``table`` that were run in full."""
    keep = [row for row, outcome in enumerate(table["outcome"]) if outcome in OUTCOMES]
    return {name: [cells[row] for row in keep] for name, cells in table.items()}


def found_figure(
    words: Words,
    table: Columns,
    x: Axis,
    y: Axis,
    *,
    front: bool,
    more_x: bool = False,
    bound: float | None = None,
) -> Figure:
    """A dot for each trial at ``x`` and ``y``; with ``front``, the best are joined as a Pareto front (of
    ``x`` more is better, with ``more_x``). ``bound``: a dashed line at this height."""
    run = run_only(table)
    across = quantitative(x, run)
    up = quantitative(y, {y.field: [*run[y.field], *([bound] if bound is not None else [])]})
    layers: list[Spec] = []
    if bound is not None:
        layers += bound_rule(bound, f"limit {setting(bound) if y.seconds else count(bound)}", up)
    if front:
        layers.append(
            {
                "transform": [{"filter": f"datum.outcome == '{BEST}'"}],
                "mark": {
                    "type": "line",
                    "interpolate": "step-before" if more_x else "step-after",
                    "opacity": 0.6,
                },
                "encoding": {"x": across, "y": up, "order": {"field": x.field}},
            }
        )
    layers.append(_dots(run, across, up, tooltip("configuration", x, y)))
    return words.figure(
        {"data": {"name": "trials"}, "height": MEDIUM + 60, "layer": layers},
        {"trials": run},
        thinned({name: run[name] for name in ("trial", "configuration", "outcome", x.field, y.field)}),
    )


def progress_figure(words: Words, table: Columns, y: Axis, sign: int) -> Figure:
    """``y`` of each trial in the order of the search, a line through the best so far (the least with ``sign``
    1, the most with −1) of those that keep what is required, ticks below for those that were not run."""
    run = run_only(table)
    best: Columns = {"trial": [], "best so far": []}
    for trial, outcome, value in zip(run["trial"], run["outcome"], run[y.field], strict=True):
        if outcome != MISSES and value is not None:
            so_far = best["best so far"][-1:] or [value]
            best["trial"].append(trial)
            best["best so far"].append(min(value, *so_far) if sign > 0 else max(value, *so_far))
    if best["trial"] and table["trial"][-1] > best["trial"][-1]:
        best["trial"].append(table["trial"][-1])
        best["best so far"].append(best["best so far"][-1])
    spared = [row for row, outcome in enumerate(table["outcome"]) if outcome not in OUTCOMES]
    rest = columns(**{n: [table[n][row] for row in spared] for n in ("trial", "configuration", "outcome")})
    x = Axis("trial", "trial, in the order of the search")
    ends = {"trial": [0, *table["trial"]]}
    across, up = quantitative(x, ends), quantitative(y, run)
    across["axis"] |= {"tickMinStep": 1, "format": ",d"}
    layers: list[Spec] = [
        {
            "data": {"name": "spared"},
            "mark": {"type": "tick", "orient": "vertical", "opacity": 0.5, "style": "shade", "size": 10},
            "encoding": {
                "x": across,
                "y": {"value": {"expr": "height - 5"}},
                "tooltip": [{"field": name} for name in ("configuration", "outcome")],
            },
        },
        {
            "data": {"name": "best"},
            "mark": {"type": "line", "interpolate": "step-after", "opacity": 0.7},
            "encoding": {"x": across, "y": {**up, "field": "best so far"}},
        },
        {"data": {"name": "trials"}, **_dots(run, across, up, tooltip("configuration", x, y))},
    ]
    return words.figure(
        {"height": MEDIUM, "layer": layers},
        {"trials": run, "best": best, "spared": rest},
        thinned({name: run[name] for name in ("trial", "outcome", y.field)}),
        size="normal",
    )


def _dots(run: Columns, across: Spec, up: Spec, told: list[Spec]) -> Spec:
    """The trials, told apart by colour, shape and size."""
    colour = category("outcome", OUTCOMES, set(run["outcome"]))
    return {
        "mark": {"type": "point", "filled": True, "opacity": 0.85},
        "encoding": {
            "x": across,
            "y": up,
            "color": colour,
            "shape": {**colour, "scale": {"domain": list(OUTCOMES), "range": list(SHAPES)}},
            "size": {"condition": {"test": f"datum.outcome == '{BEST}'", "value": 130}, "value": 60},
            "order": {"field": "outcome", "sort": "descending"},
            "tooltip": [*told, {"field": "outcome"}],
        },
    }
