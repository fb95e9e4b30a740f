"""What a page shows of one case: its errors and facts, latencies on both sides, and both sides over time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tokensim.report.figures.base import Figure, thinned
from tokensim.report.figures.sides import Ends, distribution_figure, scatter_figure
from tokensim.report.figures.sides_over_time import sides_over_time
from tokensim.report.figures.study import Words
from tokensim.report.numbers import NOTHING, count, duration, share
from tokensim.report.page import Listing, Section
from tokensim.report.series.base import Columns, columns
from tokensim.validation.errors import METRICS, STATISTICS, CaseErrors, series
from tokensim.validation.over_time import OverTime
from tokensim.validation.replay import Replay
from tokensim.validation.table import LABELS, percent, worth
from tokensim.workload.base import Floats

DOTS, QUANTILES = 1500, 200
"""Requests of a scatter, evenly picked, and shares of a distribution, at most."""

WHOLE = 12
"""Of so many cases each has its ``DOTS`` and ``QUANTILES``; of more, all together have as many as these."""

LEAST_DOTS, LEAST_QUANTILES = 150, 50
"""A case has so many of them, however many cases there are."""

OUTER, MANY = 0.005, 200
"""The share of requests that the axes leave out at each end, and of how many requests they leave out any."""

WRITTEN = {"duration": duration, "count": count, "share": share}
"""How a quantity over time is written."""


@dataclass(frozen=True, slots=True)
class Detail:
    """How much of each case is drawn: dots of a scatter, and shares of a distribution."""

    dots: int
    quantiles: int


def detail_of(cases: int) -> Detail:
    """What each of so many ``cases`` has."""
    part = min(1.0, WHOLE / max(cases, 1))
    return Detail(max(LEAST_DOTS, round(DOTS * part)), max(LEAST_QUANTILES, round(QUANTILES * part)))


def case_sections(name: str, number: int, case: CaseErrors, replay: Replay, detail: Detail) -> list[Section]:
    """The sections of the case called ``name``, the ``number``-th of the page."""
    prefix = f"case-{number}-"
    timed = tuple(_over_time(prefix, at, told) for at, told in enumerate(replay.over_time))
    return [
        Section(
            f"{prefix}errors",
            "Errors",
            lines=_facts(case, replay),
            notes=case.notes,
            listings=(Listing("By statistic", *_errors(case)),),
            of=name,
        ),
        Section(f"{prefix}latencies", "Latencies", _latencies(prefix, case, replay, detail), of=name),
        *([Section(f"{prefix}over-time", "Over time", timed, of=name)] if timed else []),
    ]


def _facts(case: CaseErrors, replay: Replay) -> tuple[tuple[str, str], ...]:
    facts = replay.case.facts
    cap = facts.client.max_in_flight
    since = {"client-send": "when the client sent it", "engine-queue": "when the engine's queue took it in"}
    told = (
        ("Requests", count(case.requests) + (f"; {count(cap)} in flight at most" if cap else "")),
        ("Times", f"of a request count from {since[facts.anchor]} ({facts.anchor})"),
        ("Measured", facts.measured_with),
        ("Source", facts.source),
    )
    return tuple((label, text) for label, text in told if text)


def _errors(case: CaseErrors) -> tuple[Columns, Columns, Columns]:
    """A row a metric: the means of both sides, the error of each statistic, and request by request; no keys;
    and what each error is worth."""
    table: Columns = {name: [] for name in ("mean of", "measured", "simulated")}
    table |= {f"error of {STATISTICS[0]}" if name == STATISTICS[0] else name: [] for name in STATISTICS}
    table["each"] = []
    value: Columns = {name: [] for name in list(table)[3:-1]}
    for metric, errors in case.error.items():
        shown = duration if metric in METRICS else count
        each = case.per_request[metric].relative if metric in case.per_request else None
        found = [errors.get(name) for name in STATISTICS]
        cells = [LABELS[metric], *(shown(side[metric]["mean"]) for side in (case.measured, case.simulated))]
        cells += [*map(percent, found), NOTHING if each is None else f"{each:.1%}"]
        for column, cell in zip(table.values(), cells, strict=True):
            column.append(cell)
        for column, error in zip(value.values(), found, strict=True):
            column.append(worth(error))
    return table, {}, value


def _latencies(prefix: str, case: CaseErrors, replay: Replay, detail: Detail) -> tuple[Figure, ...]:
    """Distributions, then scatters, of each metric that both sides have."""
    distributions, scatters = [], []
    for metric in METRICS:
        measured, simulated = series(replay.measured, metric), series(replay.simulated, metric)
        both = ~np.isnan(measured) & ~np.isnan(simulated)
        if both.any():
            sides = measured[both], simulated[both]
            distributions.append(_distribution(prefix, metric, case, sides, detail.quantiles))
            scatters.append(_scatter(prefix, metric, sides, detail.dots))
    return (*distributions, *scatters)


def ends_of(sides: tuple[Floats, Floats]) -> Ends:
    """One axis for both sides, without the outermost of many requests; from zero, where that is near."""
    together = np.concatenate(sides)
    outer = OUTER if len(sides[0]) >= MANY else 0.0
    low, high = (float(v) for v in np.quantile(together, (outer, 1 - outer)))
    if high <= 0 or low == high:
        low, high = 0.0, max(high, 1e-9) * 1.1
    if not (ends := Ends(low, high)).log:
        ends = Ends(0.0 if low < high / 2 else low - (high - low) * 0.05, high)
    return ends


def _distribution(
    prefix: str, metric: str, case: CaseErrors, sides: tuple[Floats, Floats], quantiles: int
) -> Figure:
    measured, simulated = sides
    at = np.linspace(0.0, 1.0, quantiles + 1)
    table = columns(
        share=at,
        measured=_short(np.quantile(measured, at)),
        simulated=_short(np.quantile(simulated, at)),
    )
    numbers: Columns = {
        "of": list(STATISTICS),
        "measured": [duration(case.measured[metric][name]) for name in STATISTICS],
        "simulated": [duration(case.simulated[metric][name]) for name in STATISTICS],
        "error": [percent(case.error[metric][name]) for name in STATISTICS],
    }
    words = Words(
        f"{prefix}{metric}-distribution",
        f"{LABELS[metric]}, all requests",
        "The share of requests (y) within a time (x).",
    )
    return distribution_figure(words, table, ends_of(sides), LABELS[metric], numbers)


def _scatter(prefix: str, metric: str, sides: tuple[Floats, Floats], dots: int) -> Figure:
    measured, simulated = sides
    ends = ends_of(sides)
    inside = np.all([(ends.low <= side) & (side <= ends.high) for side in sides], axis=0)
    there = np.flatnonzero(inside)
    picked = there[np.linspace(0, len(there) - 1, min(len(there), dots)).astype(int)]
    table = columns(measured=_short(measured[picked]), simulated=_short(simulated[picked]))
    known = measured > 0
    off = simulated[known] / measured[known] - 1
    at = (5, 25, 50, 75, 95)
    found = np.percentile(off, at).tolist() if len(off) else [None] * len(at)
    numbers: Columns = {
        "of the requests": [f"{percentile} %" for percentile in at],
        "have an error up to": [percent(error) for error in found],
    }
    note = f"{len(picked):,} of {len(measured):,} requests" if len(picked) < len(measured) else ""
    if note:
        note += ", evenly picked." if len(picked) < len(there) else "; the others are beyond the axes."
    words = Words(
        f"{prefix}{metric}-scatter",
        f"{LABELS[metric]}, request by request",
        "A dot a request; on the diagonal, both sides are equal.",
        note,
    )
    return scatter_figure(words, table, ends, LABELS[metric], numbers)


def _over_time(prefix: str, number: int, told: OverTime) -> Figure:
    table = columns(
        time_s=_short(told.time_s), measured=_short(told.measured), simulated=_short(told.simulated)
    )
    few, written = thinned(table), WRITTEN[told.shown]
    numbers: Columns = {
        "around (s)": few["time_s"],
        **{side: [written(value) for value in few[side]] for side in ("measured", "simulated")},
    }
    metric, _, how = told.title.partition(", ")
    words = Words(
        f"{prefix}time-{number}",
        f"{metric} over time",
        f"The mean of each interval{f', {how}' if how else ''}.",
    )
    end_s = float(told.time_s[-1] + told.time_s[0])
    return sides_over_time(words, table, end_s, metric, told.shown, numbers)


def _short(values: Floats) -> list[float]:
    """Four significant digits: more than a figure shows, and half of the room."""
    return [float(f"{value:.4g}") for value in values.tolist()]
