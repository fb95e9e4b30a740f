"""The page of ``tokensim validate --html``: how far off every case is, and one case after the other.

It begins with the worst error of each mean; of several cases follow all their errors, and then the sections
of the one that is chosen (``case_sections``). Every case is in the page; the figures of one are drawn at a
time.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from tokensim.report.figures.errors import error_figure
from tokensim.report.figures.study import Words
from tokensim.report.numbers import NOTHING, count, duration
from tokensim.report.page import Listing, Page, Section, Tile, render_page
from tokensim.report.series.base import Columns, cells
from tokensim.validation.case_sections import MANY, OUTER, case_sections, detail_of
from tokensim.validation.errors import METRICS, CaseErrors
from tokensim.validation.replay import Replay
from tokensim.validation.table import FAIR, GOOD, LABELS, Refused, percent, worth

Named = Sequence[tuple[str, CaseErrors]]
"""The cases by names that differ."""

MEANING = (
    ("Error", "simulated over measured, less one"),
    ("Each", "the mean over requests of the absolute error of each"),
    ("Axes", f"leave out the outermost {OUTER:.1%} of {MANY} requests or more at each end"),
)


def validation_page(
    errors: Sequence[CaseErrors], replays: Sequence[Replay], refused: Sequence[Refused] = ()
) -> str:
    """The page as HTML; ``errors`` and ``replays`` are of the same cases in the same order."""
    named = list(zip(_names(errors), errors, strict=True))
    detail = detail_of(len(named))
    sections = [_overview(named)] if len(named) > 1 else []
    for number, ((name, case), replay) in enumerate(zip(named, replays, strict=True), 1):
        sections += case_sections(name, number, case, replay, detail)
    if refused:
        told = tuple(f"{name}: {why}" for name, why in refused)
        sections.append(Section("refused", "Not simulated", notes=told))
    title = "Measured and simulated"
    return render_page(
        Page(
            title=f"{named[0][0]}: measured and simulated" if len(named) == 1 else title,
            lead=_lead(named),
            lines=MEANING,
            tiles=tuple(_tiles(named)),
            sections=tuple(sections),
            warning=f"{len(refused)} of {len(refused) + len(named)} cases could not be simulated;"
            " the last section says why."
            if refused
            else "",
            choice="Case",
        )
    )


def _names(errors: Sequence[CaseErrors]) -> list[str]:
    """The names of the cases; those that come again are numbered."""
    seen: Counter[str] = Counter()
    taken = {case.name for case in errors}
    names = []
    for case in errors:
        seen[case.name] += 1
        name = case.name if seen[case.name] == 1 else f"{case.name} ({seen[case.name]})"
        while name != case.name and name in taken:
            seen[case.name] += 1
            name = f"{case.name} ({seen[case.name]})"
        taken.add(name)
        names.append(name)
    return names


def _lead(named: Named) -> str:
    if not named:
        return ""
    if len(named) == 1:
        ((_, case),) = named
        told = (f"{LABELS[metric]} {percent(errors['mean'])}" for metric, errors in case.error.items())
        return f"The simulated means are off by: {', '.join(told)}."
    worst = [case.worst_mean() for _, case in named]
    good, fair = (sum(off <= limit for off in worst) for limit in (GOOD, FAIR))
    requests = sum(case.requests for _, case in named)
    return (
        f"{len(named):,} cases of {count(requests)} requests. Every mean (of TTFT, TPOT, E2E and output"
        f" tokens a second) is within {GOOD:.0%} of what was measured in {good:,}, and within {FAIR:.0%} in"
        f" {fair:,}."
    )


def _tiles(named: Named) -> list[Tile]:
    """The worst mean of each metric over the cases, and the worst error request by request."""
    tiles = []
    for metric, label in LABELS.items():
        found = {name: error for name, case in named if (error := case.error[metric]["mean"]) is not None}
        if not found:
            continue
        name, error = max(found.items(), key=lambda item: abs(item[1]))
        detail = name
        if len(named) == 1:
            shown = duration if metric in METRICS else count
            sides = named[0][1].measured, named[0][1].simulated
            detail = "{} measured, {} simulated".format(*(shown(side[metric]["mean"]) for side in sides))
        good = {"good": True, "bad": False}.get(worth(error))
        tiles.append(Tile(f"{label}, {_worst(named)}mean", percent(error), detail, good))
    for metric in METRICS:
        each = {
            name: (off, case.per_request[metric].seconds)
            for name, case in named
            if (off := case.per_request[metric].relative) is not None
        }
        if each:
            name, (off, seconds) = max(each.items(), key=lambda item: item[1][0])
            detail = name if len(named) > 1 else f"{duration(seconds)} between the sides, on average"
            tiles.append(Tile(f"{LABELS[metric]}, {_worst(named)}each", f"{off:.1%}", detail))
    if len(named) == 1:
        tiles.append(Tile("Requests", count(named[0][1].requests), "on both sides"))
    elif named:
        met = sum(case.worst_mean() <= FAIR for _, case in named)
        detail = f"have every mean within {FAIR:.0%}"
        tiles.append(Tile("Cases", f"{met:,} of {len(named):,}", detail, met == len(named)))
    return tiles


def _worst(named: Named) -> str:
    return "worst " if len(named) > 1 else ""


def _overview(named: Named) -> Section:
    """Every mean error as a dot, and the list of all."""
    drawn = [
        (name, LABELS[metric], error)
        for name, case in named
        for metric, errors in case.error.items()
        if (error := errors["mean"]) is not None
    ]
    table: Columns = {
        "case": [name for name, _, _ in drawn],
        "metric": [metric for _, metric, _ in drawn],
        "error": cells([error for _, _, error in drawn]),
        "error_told": [percent(error) for _, _, error in drawn],
    }
    words = Words(
        "errors",
        "How far off each mean is",
        f"A dot is the error of one mean of one case. Shaded: up to {GOOD:.0%} and up to {FAIR:.0%} off."
        " Click one to see its case below.",
    )
    texts, keys, worths = _listed(named)
    return Section(
        "overview",
        "All cases",
        (error_figure(words, table, (GOOD, FAIR), _quantiles(named)),) if drawn else (),
        listings=(Listing("Errors of all cases", texts, keys, worths, chooses=True),),
    )


def _quantiles(named: Named) -> Columns:
    """How the sizes of the errors are spread over the cases."""
    numbers: Columns = {"mean of": [], "cases": [], "median size": [], "worst": [], f"within {GOOD:.0%}": []}
    numbers[f"within {FAIR:.0%}"] = []
    for metric, label in LABELS.items():
        found = [error for _, case in named if (error := case.error[metric]["mean"]) is not None]
        if found:
            sizes = np.abs(found)
            row = [label, len(found), f"{np.median(sizes):.1%}", percent(found[int(sizes.argmax())])]
            row += [int((sizes <= limit).sum()) for limit in (GOOD, FAIR)]
            for column, cell in zip(numbers.values(), row, strict=True):
                column.append(cell)
    return numbers


def _listed(named: Named) -> tuple[Columns, Columns, Columns]:
    """A row a case: as text, as numbers to sort by, and what each is worth."""
    found: dict[str, list[float | None]] = {}
    for metric in METRICS:
        for name in ("mean", "p50", "p99"):
            found[f"{LABELS[metric]} {name}"] = [case.error[metric][name] for _, case in named]
    found[LABELS["throughput"]] = [case.error["throughput"]["mean"] for _, case in named]
    each = {
        f"{LABELS[metric]} each": [case.per_request[metric].relative for _, case in named]
        for metric in METRICS
    }
    worst = [case.worst_mean() for _, case in named]
    first: Columns = {"case": [name for name, _ in named]}
    size: Columns = {"requests": [case.requests for _, case in named]}
    off = [None if math.isinf(value) else value for value in worst]
    texts = {
        **first,
        "requests": [count(value) for value in size["requests"]],
        "worst mean": [NOTHING if value is None else f"{value:.1%}" for value in off],
        **{name: [percent(value) for value in values] for name, values in found.items()},
        **{name: [NOTHING if v is None else f"{v:.1%}" for v in values] for name, values in each.items()},
    }
    sizes = {
        name: [None if value is None else abs(value) for value in values]
        for name, values in {**found, **each}.items()
    }
    keys = {**first, **size, "worst mean": cells(off), **{name: cells(v) for name, v in sizes.items()}}
    marked = {"worst mean": off, **found}
    return texts, keys, {name: [worth(value) for value in values] for name, values in marked.items()}
