"""The figures of a search: what was found, how, and what became of all that was looked at."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokensim.explore.answer_files import Plain, read_answer
from tokensim.explore.figures import in_seconds
from tokensim.explore.over import capital, slug
from tokensim.explore.results import RESULTS_FILE
from tokensim.explore.study import STUDY_FILE, Study
from tokensim.explore.study_data import CONFIGURATION, SHOWN, in_words, short_names
from tokensim.report.figures.base import Figure
from tokensim.report.figures.coordinates import coordinates_figure
from tokensim.report.figures.load_curve import wide
from tokensim.report.figures.search import (
    BEST,
    KEEPS,
    MISSES,
    OUTCOMES,
    found_figure,
    progress_figure,
    run_only,
)
from tokensim.report.figures.study import Axis, Words, bar_figure
from tokensim.report.series.base import Columns, columns, length

if TYPE_CHECKING:
    import polars as pl

OPTIMUM_ANSWER = "optimum.json"
FAILED = "failed"

BAR = 22
"""Height of a bar and its gap, pixels."""

SPARED = {
    "refused": "not possible",
    "late": "cannot keep what is required",
    "worse": "cannot beat what was found",
    "short": "too late in a short run",
    "repeated": "looked at before",
}
"""What became of trials that were not run in full, by the rule that says so."""


@dataclass(frozen=True)
class OptimumData:
    """A search: its study, its answer as plain data, and the table of its runs and trials."""

    study: Study
    answer: Plain
    frame: pl.DataFrame

    @property
    def goals(self) -> list[Plain]:
        """The goals, as the answer has them, each with the ``title`` of its column: without dots, which
        Vega-Lite takes for a path."""
        return [{**goal, "title": goal["name"].replace(".", " ")} for goal in self.answer["goals"]]

    @cached_property
    def titles(self) -> dict[str, str]:
        """The figures that are looked at, the goals first, by their titles."""
        titles = {goal["figure"]: goal["title"] for goal in self.goals}
        there = {n: t for n, t in SHOWN if n in self.frame.columns and self.frame[n].count()}
        return {**titles, **{name: title for name, title in there.items() if name not in titles}}

    @cached_property
    def parameters(self) -> dict[str, str]:
        """The parameters that vary among the trials (or the first), by their short names."""
        names = [parameter.name for parameter in self.study.parameters]
        varied = [name for name in names if self.frame[name].n_unique() > 1] or names[:1]
        return dict(zip(varied, short_names(varied), strict=True))

    @cached_property
    def table(self) -> Columns:
        """One row a trial: its number, its parameters, what became of it, and the means of its figures."""
        import polars as pl

        bound = self.bounded
        figures = [n for n in (*self.titles, *(bound or ())) if n in self.frame.columns]
        told = self.frame.group_by("point", maintain_order=True).agg(
            *(pl.col(name).first() for name in self.parameters),
            *(pl.col(name).first() for name in ("rule", "feasible", "best")),
            (pl.col("status") == "ok").all().alias("ok"),
            *(pl.col(name).cast(pl.Float64).mean() for name in dict.fromkeys(figures)),
        )
        table: Columns = {title: told[name].to_list() for name, title in self.parameters.items()}
        table[CONFIGURATION] = in_words(table, list(self.parameters.values()))
        table["trial"] = told["point"].to_list()
        table["outcome"] = [
            _outcome(rule, ok, feasible, best)
            for rule, ok, feasible, best in zip(
                told["rule"], told["ok"], told["feasible"], told["best"], strict=True
            )
        ]
        for name, title in {**self.titles, **dict.fromkeys(bound or (), "")}.items():
            cells = told[name].to_list() if name in told.columns else [None] * len(told)
            table[title or name.replace(".", " ")] = cells
        return columns(**table)

    @cached_property
    def bounded(self) -> tuple[str, str] | None:
        """The latency (its figure, and that of its bound) that is nearest to its SLO at the best, or that
        most others miss; None: none is bounded."""
        names = [*(name for best in self.answer["best"] for name in best["binding"]), *self.answer["missed"]]
        names += [f"slo.{metric}" for metric in ("ttft", "tpot", "e2e", "itl")]
        for name in names:
            metric = name.removeprefix("slo.")
            value, bound = (f"slo.bounds.{metric}.{part}_s" for part in ("value", "bound"))
            if value in self.frame.columns and self.frame[value].count():
                return value, bound
        return None


def _outcome(rule: str, ok: bool, feasible: bool, best: bool) -> str:
    if rule:
        return SPARED[rule]
    if not ok:
        return FAILED
    return BEST if best else KEEPS if feasible else MISSES


def optimum_figures(data: OptimumData) -> list[Figure]:
    """What was found, how it was found, what became of all trials, and everything at once."""
    table = data.table
    figures = []
    if length(run_only(table)):
        figures += _found(data)
        figures += [_progress(data, goal) for goal in data.goals]
    figures.append(_outcomes(table))
    run = run_only(table)
    if length(run) > 2:
        names = [*data.parameters.values()]
        axes = [Axis(name, name) for name in names]
        axes += [_axis(name, title) for name, title in data.titles.items() if any(run[title])]
        words = Words(
            "coordinates",
            "Parameters and figures",
            "A line for each configuration that was run in full, through its parameters and its figures; each"
            " axis runs from the lowest value below to the highest above.",
        )
        figures.append(coordinates_figure(words, run, axes, data.goals[0]["title"]))
    return figures


def _axis(figure: str, title: str, values: list[Any] | None = None) -> Axis:
    shown = dict(SHOWN).get(figure, title)
    named = title if shown == title else f"{title} ({shown})"
    return Axis(title, named, log=values is not None and wide(values), seconds=in_seconds(figure))


def _found(data: OptimumData) -> list[Figure]:
    """The goals against each other; of one goal, against the latency that is nearest to its bound."""
    run = run_only(data.table)
    goals = [(goal["figure"], goal["title"], goal["direction"] == "maximize") for goal in data.goals]
    first, title, more = goals[0]
    x = _axis(first, title, run[title])
    told = "A dot for each configuration that was run in full."
    if len(goals) > 1:
        figures = []
        for figure, name, more_y in goals[1:]:
            words = Words(
                slug(f"front-{name}-{title}"),
                capital(f"{name} against {title}"),
                f"{told} Diamonds are beaten by no other in all goals at once:"
                f" {better(title, more)}, {better(name, more_y)}.",
            )
            y = _axis(figure, name, run[name])
            figures.append(found_figure(words, data.table, x, y, front=len(goals) == 2, more_x=more))
        return figures
    bounded = data.bounded
    if bounded is not None:
        metric = bounded[0].split(".")[2].upper()
        value, limit = (name.replace(".", " ") for name in bounded)
        limits = set(data.table[limit]) - {None}
        bound = limits.pop() if len(limits) == 1 else None
        percentile = float(data.frame["slo.percentile"].drop_nulls()[0])
        name = f"{metric} p{percentile:g}"
        table = {**data.table, name: data.table[value]}
        told += " The dashed line is the bound." if bound is not None else ""
        y = Axis(name, name, log=wide([*run[value], *([bound] if bound else [])]), seconds=True)
    else:
        table, bound = data.table, None
        other = next((n for n in data.titles if n != first), None)
        if other is None:
            return []
        y = _axis(other, data.titles[other], run[data.titles[other]])
        name = y.field
    words = Words(
        "found",
        capital(f"{title} against {name}"),
        f"{told} The diamond is the best of those that keep what is required: {better(title, more)}.",
    )
    return [found_figure(words, table, x, y, front=False, bound=bound)]


def better(name: str, more: bool) -> str:
    """What is wanted of a goal: ``most goodput``."""
    return f"{'most' if more else 'least'} {name}"


def _progress(data: OptimumData, goal: Plain) -> Figure:
    name = goal["title"]
    more = goal["direction"] == "maximize"
    words = Words(
        slug(f"progress-{name}"),
        capital(f"{better(name, more)} so far"),
        f"{capital(name)} of each trial; the line is the best so far of those that keep what is"
        " required. Ticks below are trials that no full run was spent on.",
    )
    y = _axis(goal["figure"], name, run_only(data.table)[name])
    return progress_figure(words, data.table, y, -1 if more else 1)


def _outcomes(table: Columns) -> Figure:
    order = [*OUTCOMES, FAILED, *SPARED.values()]
    there = [name for name in order if name in table["outcome"]]
    counts = [table["outcome"].count(name) for name in there]
    words = Words(
        "outcomes",
        "What became of all that were looked at",
        "Configurations by what became of them: first those that were run in full, then those that a rule"
        " spared: they are not possible, cannot keep what is required, or cannot beat what was found.",
    )
    bars = columns(outcome=there, configurations=counts)
    x = Axis("configurations", "configurations", zero=True)
    figure = bar_figure(words, bars, Axis("outcome", ""), x)
    return replace(figure, spec={**figure.spec, "height": BAR * len(there)})


def read_optimum(folder: Path) -> OptimumData:
    """The search that ``folder`` holds; raises ``InputError``."""
    import polars as pl

    answer = read_answer(folder, OPTIMUM_ANSWER).plain
    return OptimumData(Study.from_yaml(folder / STUDY_FILE), answer, pl.read_parquet(folder / RESULTS_FILE))
