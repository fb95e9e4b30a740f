"""``compare``: runs side by side: what their scenarios have different, what came out, and whether that is
more than noise.

With several seeds a difference is tested: in pairs where both sides ran with the same seeds (what the seeds
change is then in both), else by Welch's t-test; all differences that are shown are judged together (Holm), so
that the chance of any false alarm is one minus the confidence. Sides whose seeds overlap without being the
same are taken as independent, which errs on the side of no difference. A single run says nothing about noise.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from tokensim.errors import InputError
from tokensim.explore.executors import Executor, make_executor
from tokensim.explore.judging import Figures
from tokensim.explore.key_figures import KeyFigure, key_figures
from tokensim.explore.runs import Progress, Runs
from tokensim.explore.statistics import holm, p_value
from tokensim.explore.task import flatten
from tokensim.scenario import Scenario
from tokensim.scenario.loading import load_scenario

SEEDS = 5
"""Of scenario files, which are run for the comparison."""


@dataclass(frozen=True, slots=True)
class Side:
    """One of what is compared: its ``scenario``, and the figures of its runs, one for each of ``seeds``."""

    name: str
    scenario: Scenario
    seeds: tuple[int, ...]
    runs: tuple[Figures, ...]

    def values(self, figure: str) -> list[float] | None:
        """``figure`` in every run; None if some run has none."""
        found = [run.get(figure) for run in self.runs]
        numbers = [float(value) for value in found if isinstance(value, int | float)]
        return numbers if len(numbers) == len(found) else None


@dataclass(frozen=True, slots=True)
class Gap:
    """A side against the first one: the ``relative`` difference of means (None: the first is 0), and the
    probability of one as large by chance, corrected (None: single runs). ``real``: smaller than allowed;
    None: nobody knows. ``equal``: the figures are the same in every run."""

    relative: float | None
    p: float | None
    real: bool | None
    equal: bool


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

    def to_dict(self) -> dict[str, Any]:
        """The same as plain data, ready for JSON."""
        names = [side.name for side in self.sides]
        return {
            "sides": [{"name": side.name, "seeds": list(side.seeds)} for side in self.sides],
            "confidence": self.confidence,
            "differences": {path: dict(zip(names, values, strict=True)) for path, values in self.differences},
            "figures": {
                row.figure.name: {
                    "means": dict(zip(names, row.means, strict=True)),
                    "against_first": {
                        name: None
                        if gap is None
                        else {"relative": gap.relative, "p": gap.p, "real": gap.real, "equal": gap.equal}
                        for name, gap in zip(names[1:], row.gaps, strict=True)
                    },
                }
                for row in self.figures
            },
        }


def compare(
    items: Sequence[str | Path | Scenario],
    *,
    seeds: int | None = None,
    confidence: float = 0.95,
    figures: Sequence[str] = (),
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Compare run folders, scenario files (or scenarios); the first is what the others are held against.

    ``seeds``: how many runs of each, with its own seed and those that follow; None: ``SEEDS`` if there are
    only scenarios, else 1: folders as they are. With more than one, runs of folders are repeated from their
    ``scenario.yaml``. ``figures``: which ones, by their name in a summary (none: the usual). Raises
    ``InputError``, also if a run cannot be made.
    """
    if len(items) < 2:
        raise InputError("nothing to compare with", where="compare", hint="give two runs or scenarios")
    if seeds is not None and seeds < 1:
        raise InputError(f"{seeds}", where="--seeds", hint="at least 1")
    if not 0 < confidence < 1:
        raise InputError(f"{confidence:g}", where="--confidence", hint="between 0 and 100 %, e.g. 95%")
    sides = list(_named([_read(item) for item in items], items))
    folders = any(side.runs for side in sides)
    count = seeds if seeds is not None else 1 if folders else SEEDS
    if folders:
        sides = [side if side.runs else replace(side, scenario=_filled(side.scenario)) for side in sides]
    made = _run(sides, count, Runs(executor or make_executor(), None, progress))
    known = sorted({name for side in made for run in side.runs for name in run})
    chosen = key_figures(figures, known, "--figure")
    paired = tuple(side.seeds == made[0].seeds for side in made[1:])
    rows = _judged([_compared(figure, made, paired) for figure in chosen], 1 - confidence)
    return Comparison(tuple(made), tuple(_differences(made)), tuple(rows), paired, confidence)


def _read(item: str | Path | Scenario) -> Side:
    """A side as it was given: of a folder, with its one run."""
    if isinstance(item, Scenario):
        return Side("", item, (item.seed,), ())
    path = Path(item)
    if not path.is_dir():
        return Side("", load_scenario(path), (0,), ())
    for name in ("summary.json", "scenario.yaml"):
        if not (path / name).is_file():
            raise InputError(
                f"the folder has no {name}", where=str(path), hint="give what `tokensim run --output` left"
            )
    scenario = load_scenario(path / "scenario.yaml")
    try:
        summary = json.loads((path / "summary.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"cannot be read: {error}", where=str(path / "summary.json")) from None
    if not isinstance(summary, Mapping):
        raise InputError("not a summary", where=str(path / "summary.json"))
    return Side("", scenario, (scenario.seed,), (flatten(summary),))


def _named(sides: Sequence[Side], items: Sequence[str | Path | Scenario]) -> Iterator[Side]:
    """``sides`` with names of their own: of files and folders the last part, unless two share it."""
    short = [(item.name or "") if isinstance(item, Scenario) else Path(item).resolve().stem for item in items]
    for index, (side, name) in enumerate(zip(sides, short, strict=True)):
        item = items[index]
        if (not name or short.count(name) > 1) and not isinstance(item, Scenario):
            name = str(item)
        if not name or [str(other) for other in items].count(str(item)) > 1 or short.count(name) > 1:
            name = f"{name or 'scenario'} ({chr(ord('A') + index)})"
        yield replace(side, name=name)


def _filled(scenario: Scenario) -> Scenario:
    """As a run leaves it, to be held against those that are."""
    from tokensim.assemble.run import filled_in

    return filled_in(scenario)


def _run(sides: Sequence[Side], count: int, runs: Runs) -> list[Side]:
    """``sides`` with ``count`` runs each; folders keep theirs if one is enough."""
    seeds = [tuple(side.scenario.seed + offset for offset in range(count)) for side in sides]
    wanted = [index for index, side in enumerate(sides) if not side.runs or count > 1]
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


def _compared(figure: KeyFigure, sides: Sequence[Side], paired: Sequence[bool]) -> ComparedFigure:
    """``figure`` of all sides, before anything is known of the other tests."""
    values = [side.values(figure.name) for side in sides]
    means = tuple(None if own is None else fmean(own) for own in values)
    first, gaps = values[0], list[Gap | None]()
    for own, pairs in zip(values[1:], paired, strict=True):
        if first is None or own is None:
            gaps.append(None)
            continue
        base = fmean(first)
        gaps.append(
            Gap(
                fmean(own) / base - 1 if base else None,
                p_value(first, own, paired=pairs),
                None,
                own == first,
            )
        )
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
        if path != "name" and any(value != values[0] for value in values):
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
