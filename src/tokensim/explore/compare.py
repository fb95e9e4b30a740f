"""``compare``: runs side by side: what their scenarios have different, what came out, and whether that is
more than noise.

With several seeds a difference is tested: in pairs where both sides ran with the same seeds (what the seeds
change is then in both), else by Welch's t-test; all differences that are shown are judged together (Holm), so
that the chance of any false alarm is one minus the confidence. Sides whose seeds overlap without being the
same are taken as independent, which errs on the side of no difference. A single run says nothing about noise.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import fmean
from typing import Any

from tokensim.errors import InputError
from tokensim.explore.answer_files import about
from tokensim.explore.executors import Executor, make_executor
from tokensim.explore.key_figures import KeyFigure, key_figures
from tokensim.explore.runs import Progress, Runs
from tokensim.explore.sides import Item, Side, read_sides
from tokensim.explore.statistics import gap_half_width, holm, p_value

SEEDS = 5
"""Of scenario files, which are run for the comparison."""


@dataclass(frozen=True, slots=True)
class Gap:
    """A side against the first one: the ``relative`` difference of means (None: the first is 0) with the
    ``interval`` that covers it, each by itself (None: single runs), and the probability of one as large by
    chance, corrected (None: single runs). ``real``: smaller than allowed; None: nobody knows. ``equal``: the
    figures are the same in every run."""

    relative: float | None
    interval: tuple[float, float] | None
    p: float | None
    real: bool | None
    equal: bool

    def to_dict(self) -> dict[str, Any]:
        """The same as plain data, ready for JSON."""
        interval = None if self.interval is None else list(self.interval)
        return {**asdict(self), "interval": interval}


@dataclass(frozen=True, slots=True)
class ComparedFigure:
    """A figure: the mean of each side (None: it has none), and for each side after the first the gap."""

    figure: KeyFigure
    means: tuple[float | None, ...]
    gaps: tuple[Gap | None, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """``differences``: paths of the scenarios and their values by side, where these are not all the same;
    ``paired``: which sides after the first ran with the same seeds as it."""

    sides: tuple[Side, ...]
    differences: tuple[tuple[str, tuple[Any, ...]], ...]
    figures: tuple[ComparedFigure, ...]
    paired: tuple[bool, ...]
    confidence: float

    def statement(self) -> str:
        """What differs by more than noise, in a sentence or two."""
        base, *others = (side.name for side in self.sides)
        if all(len(side.seeds) == 1 for side in self.sides):
            return "One run of each: how much of a difference is noise is not known."
        told = []
        for at, name in enumerate(others):
            real = [
                (row.figure.title, gap.relative)
                for row in self.figures
                if (gap := row.gaps[at]) is not None and gap.real and not gap.equal
            ]
            sized = sorted(
                (each for each in real if each[1] is not None), key=lambda each: -abs(each[1] or 0)
            )
            most = ", ".join(f"{title} {relative or 0:+.1%}" for title, relative in sized[:3])
            told.append(
                f"{name} differs from {base} by more than noise in {len(real)} of {len(self.figures)} figures"
                + (f", most of all {most}." if most else ".")
            )
        return " ".join(told)

    def to_dict(self) -> dict[str, Any]:
        """The same as plain data, ready for JSON."""
        names = [side.name for side in self.sides]
        return {
            **about(self.sides[0].scenario),
            "statement": self.statement(),
            "sides": [{"name": side.name, "seeds": list(side.seeds)} for side in self.sides],
            "confidence": self.confidence,
            "differences": {path: dict(zip(names, values, strict=True)) for path, values in self.differences},
            "figures": {
                row.figure.name: {
                    "title": row.figure.title,
                    "better": row.figure.better,
                    "means": dict(zip(names, row.means, strict=True)),
                    "against_first": {
                        name: None if gap is None else gap.to_dict()
                        for name, gap in zip(names[1:], row.gaps, strict=True)
                    },
                }
                for row in self.figures
            },
        }


def compare(
    items: Sequence[Item],
    *,
    seeds: int | None = None,
    confidence: float = 0.95,
    figures: Sequence[str] = (),
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Compare run folders, points of sweeps (``FOLDER@3``) and scenario files (or scenarios); the first is
    what the others are held against.

    ``seeds``: how many runs of each, with its own seed and those that follow; None: ``SEEDS`` if there are
    only scenarios, else folders as they are, and scenarios run as often as the least of these. Folders with
    fewer runs than ``seeds`` are repeated from their scenario. ``figures``: which ones, by their name in a
    summary (none: the usual). Raises ``InputError``, also if a run cannot be made.
    """
    if len(items) < 2:
        raise InputError("nothing to compare with", where="compare", hint="give two runs or scenarios")
    if seeds is not None and seeds < 1:
        raise InputError(f"{seeds}", where="--seeds", hint="at least 1")
    if not 0 < confidence < 1:
        raise InputError(f"{confidence:g}", where="--confidence", hint="between 0 and 100 %, e.g. 95%")
    sides = read_sides(items)
    there = [len(side.runs) for side in sides if side.runs]
    count = seeds if seeds is not None else min(there, default=SEEDS)
    made = _run(sides, count, seeds is not None, Runs(executor or make_executor(), None, progress))
    known = sorted({name for side in made for run in side.runs for name in run})
    chosen = key_figures(figures, known, "--figure")
    paired = tuple(side.seeds == made[0].seeds for side in made[1:])
    rows = _judged([_compared(figure, made, paired, confidence) for figure in chosen], 1 - confidence)
    return Comparison(tuple(made), tuple(_differences(made)), tuple(rows), paired, confidence)


def _run(sides: Sequence[Side], count: int, exactly: bool, runs: Runs) -> list[Side]:
    """``sides`` with ``count`` runs each; those that have as many keep theirs (not ``exactly``: all that
    have any)."""
    sides = (
        [replace(side, seeds=side.seeds[:count], runs=side.runs[:count]) for side in sides]
        if exactly
        else sides
    )
    seeds = [tuple(side.scenario.seed + offset for offset in range(count)) for side in sides]
    wanted = [i for i, side in enumerate(sides) if not side.runs or (exactly and len(side.runs) < count)]
    for index, side in enumerate(sides):
        if index not in wanted and side.runs[0].get("complete") is False:
            raise InputError(
                "the run was interrupted, and its figures are partial",
                where=side.name,
                hint="--seeds 5 repeats it to its end",
            )
    trees = [
        {**sides[index].scenario.model_dump(mode="json"), "seed": seed}
        for index in wanted
        for seed in seeds[index]
    ]
    outcomes = iter(runs(trees) if trees else [])
    made = list(sides)
    for index in wanted:
        own = [next(outcomes) for _ in seeds[index]]
        for outcome in own:
            if outcome.status != "ok":
                raise InputError(f"{outcome.status}: {outcome.error}", where=sides[index].name)
        made[index] = replace(
            sides[index], seeds=seeds[index], runs=tuple(outcome.figures for outcome in own)
        )
    return made


def _compared(
    figure: KeyFigure, sides: Sequence[Side], paired: Sequence[bool], confidence: float
) -> ComparedFigure:
    """``figure`` of all sides, before anything is known of the other tests."""
    values = [side.values(figure.name) for side in sides]
    means = tuple(None if own is None else fmean(own) for own in values)
    first, gaps = values[0], list[Gap | None]()
    for own, pairs in zip(values[1:], paired, strict=True):
        if first is None or own is None:
            gaps.append(None)
            continue
        base = fmean(first)
        relative = fmean(own) / base - 1 if base else None
        half = gap_half_width(first, own, confidence, paired=pairs)
        interval = None
        if relative is not None and half is not None:
            interval = (relative - half / abs(base), relative + half / abs(base))
        gaps.append(Gap(relative, interval, p_value(first, own, paired=pairs), None, own == first))
    return ComparedFigure(figure, means, tuple(gaps))


def _judged(rows: Sequence[ComparedFigure], level: float) -> Iterator[ComparedFigure]:
    """``rows`` with corrected probabilities, and what is real at that ``level``. Figures that nobody has are
    left out."""
    rows = [row for row in rows if any(mean is not None for mean in row.means)]
    tested = [
        (i, j) for i, row in enumerate(rows) for j, gap in enumerate(row.gaps) if gap and gap.p is not None
    ]
    corrected = holm([float(rows[i].gaps[j].p) for i, j in tested])  # type: ignore[union-attr, arg-type]
    by_place = dict(zip(tested, corrected, strict=True))
    for i, row in enumerate(rows):
        yield replace(
            row,
            gaps=tuple(
                gap
                if gap is None or (i, j) not in by_place
                else replace(gap, p=by_place[i, j], real=by_place[i, j] <= level)
                for j, gap in enumerate(row.gaps)
            ),
        )


def _differences(sides: Sequence[Side]) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Paths at which not all scenarios have the same; None where one has nothing."""
    trees = [dict(_leaves(side.scenario.model_dump(mode="json"), "")) for side in sides]
    for path in dict.fromkeys(path for tree in trees for path in tree):
        values = tuple(tree.get(path) for tree in trees)
        empty = all(value is None or value in ([], {}) for value in values)  # others have entries, told below
        if path != "name" and not empty and any(value != values[0] for value in values):
            yield path, values


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _leaves(item, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list) and any(isinstance(item, Mapping | list) for item in value):
        for index, item in enumerate(value):
            yield from _leaves(item, f"{path}[{index}]")
    else:
        yield path, value
