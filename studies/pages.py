"""What the scripts of these studies share: reading a study, in part if wanted; tables; where figures go."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tokensim.explore.capacities import Capacities
from tokensim.explore.executors import Executor
from tokensim.explore.study import Study
from tokensim.explore.sweep import sweep
from tokensim.report.export import write_figure
from tokensim.report.figures.base import Figure
from tokensim.report.series.base import Columns, columns

HERE = Path(__file__).parent
FIGURES = HERE.parent / "docs" / "studies" / "figures"

Row = dict[str, Any]
Answer = Callable[[Study, Executor | None], list[Row]]
Draw = Callable[[list[Row]], Figure]


def read(name: str, overrides: Sequence[str] = (), only: Mapping[str, Sequence[Any]] | None = None) -> Study:
    """The study ``name`` of this folder with ``overrides`` of its scenario; ``only``: for a parameter, which
    of its values (or names of values) are kept."""
    path = HERE / f"{name}.yaml"
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    for parameter, kept in (only or {}).items():
        values = data["parameters"][parameter]
        if isinstance(values, dict):
            data["parameters"][parameter] = {label: values[label] for label in kept}
        else:
            data["parameters"][parameter] = [value for value in values if value in kept]
    return Study.from_mapping(data, HERE, str(path), overrides=tuple(overrides))


def labels(choices: Sequence[Any], study: Study) -> Row:
    """The parameters of a configuration, by name."""
    return {p.name: choice.label for p, choice in zip(study.parameters, choices, strict=True)}


def capacity_rows(found: Capacities, figures: Mapping[str, str] | None = None) -> list[Row]:
    """A row a configuration: its parameters, the ``rate`` that it bears (requests/s, 0: none), ``figures`` of
    the run there (names of ours → names in the summary) and ``binding``, the bound that the next higher rate
    misses. Raises ``RuntimeError`` where a search failed."""
    rows = []
    for choices, result in zip(found.choices, found.results, strict=True):
        if result.status not in ("found", "none"):
            raise RuntimeError(f"{labels(choices, found.study)}: {result.status} {result.error or ''}")
        rows.append(
            {
                **labels(choices, found.study),
                "rate": result.value or 0.0,
                **{name: result.figures.get(figure) for name, figure in (figures or {}).items()},
                "binding": result.binding,
            }
        )
    return rows


def sweep_rows(study: Study, figures: Mapping[str, str], executor: Executor | None = None) -> list[Row]:
    """A row a point: its parameters, and ``figures`` of the run (names of ours → names in the summary).
    Raises ``RuntimeError`` where a run failed."""
    rows = []
    for point in sweep(study, executor=executor).frame.sort("point").iter_rows(named=True):
        if point["status"] != "ok":
            raise RuntimeError(f"point {point['point']}: {point['status']} {point['error']}")
        parameters = {parameter.name: point[parameter.name] for parameter in study.parameters}
        rows.append({**parameters, **{name: point[figure] for name, figure in figures.items()}})
    return rows


def value(rows: Sequence[Row], field: str = "rate", **equal: Any) -> float:
    """``field`` of the one row whose parameters are ``equal`` (``set_up`` stands for ``set-up``)."""
    wanted = {name.replace("_", "-"): value for name, value in equal.items()}
    (row,) = (row for row in rows if all(row[name] == value for name, value in wanted.items()))
    return float(row[field])


def table(rows: Sequence[Row], fields: Sequence[str]) -> Columns:
    """``fields`` of ``rows`` as columns, for a figure."""
    return columns(**{field: [row[field] for row in rows] for field in fields})


def markdown(rows: Sequence[Row]) -> str:
    """``rows`` as a Markdown table; numbers with three digits."""
    names = list(rows[0])
    lines = [f"| {' | '.join(names)} |", f"|{'---|' * len(names)}"]
    lines += [f"| {' | '.join(_cell(row[name]) for name in names)} |" for row in rows]
    return "\n".join(lines)


def main(name: str, answer: Answer, draw: Draw, small: Sequence[str]) -> None:
    """Run the study ``name``, print its table and write its figure; with ``--small`` at reduced size (the
    scenario with the overrides ``small``) and without writing the figure."""
    parser = argparse.ArgumentParser(description=read(name).file.description)
    parser.add_argument("--small", action="store_true", help="a quick look, with fewer requests")
    arguments = parser.parse_args()
    rows = answer(read(name, small if arguments.small else ()), None)
    print(markdown(rows))
    if not arguments.small:
        path = FIGURES / f"{name}.svg"
        write_figure(draw(rows), path)
        print(f"\n{path.relative_to(HERE.parent)}")


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return str(value)
