"""What is compared: run folders, points of sweeps, scenario files, or scenarios, each read as a side.

A point of a sweep is named by its number, after the folder: ``runs/chunk-size@3``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tokensim.errors import InputError
from tokensim.explore.judging import Figures
from tokensim.explore.results import RESULTS_FILE
from tokensim.explore.study import STUDY_FILE, Study
from tokensim.explore.task import flatten
from tokensim.scenario import Scenario
from tokensim.scenario.loading import from_mapping, load_scenario

Item = str | Path | Scenario

AT = "@"
"""Between the folder of a sweep and the number of a point."""


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


def read_sides(items: Sequence[Item]) -> list[Side]:
    """The sides that ``items`` name, each with a name of its own; those of folders with their runs. Beside
    run folders, whose scenarios have every default filled in, those of others have so, too. Raises
    ``InputError``."""
    sides = list(_named([_read(item) for item in items], items))
    if not any(_is_run(item) for item in items):
        return sides
    return [
        side if _is_run(item) else replace(side, scenario=_filled(side.scenario))
        for side, item in zip(sides, items, strict=True)
    ]


def _is_run(item: Item) -> bool:
    return not isinstance(item, Scenario) and Path(item).is_dir()


def _read(item: Item) -> Side:
    """A side as it was given: of a folder, with the runs that it holds."""
    if isinstance(item, Scenario):
        return Side("", item, (item.seed,), ())
    path = Path(item)
    folder, at, point = path.name.rpartition(AT)
    if at and not path.exists():
        return _of_sweep(path.with_name(folder), point, str(item))
    if not path.is_dir():
        return Side("", load_scenario(path), (0,), ())
    if _is_sweep(path):
        raise InputError(
            "is of a sweep: many configurations",
            where=str(path),
            hint=f"name one of its points, e.g. {path}{AT}0; `tokensim report {path}` shows them all",
        )
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


def _is_sweep(folder: Path) -> bool:
    return all((folder / name).is_file() for name in (STUDY_FILE, RESULTS_FILE))


def _of_sweep(folder: Path, number: str, where: str) -> Side:
    """The configuration of a point of the sweep in ``folder``, with the runs of all its seeds."""
    import polars as pl

    if not _is_sweep(folder):
        raise InputError(
            f"there is no sweep in {folder}", where=where, hint="give what `tokensim sweep --output` left"
        )
    study = Study.from_yaml(folder / STUDY_FILE)
    frame = pl.read_parquet(folder / RESULTS_FILE)
    if not number.isdigit() or int(number) >= len(study):
        raise InputError(f"no point '{number}'", where=where, hint=f"0 to {len(study) - 1}")
    seeds = study.file.seeds
    first = int(number) // seeds * seeds
    rows = list(frame.filter(pl.col("point").is_between(first, first + seeds - 1)).iter_rows(named=True))
    bad = next((row for row in rows if row["status"] != "ok"), None)
    if bad is not None or len(rows) < seeds:
        told = "was not run" if bad is None else f"{bad['status']}: {bad['error']}"
        raise InputError(told, where=where, hint="compare points that are ok")
    data = study.task(study.point(first)).data
    own = {"point", "seed", "status", "error", *(parameter.name for parameter in study.parameters)}
    runs = tuple({name: value for name, value in row.items() if name not in own} for row in rows)
    return Side("", from_mapping(data), tuple(row["seed"] for row in rows), runs)


def _named(sides: Sequence[Side], items: Sequence[Item]) -> Iterator[Side]:
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
