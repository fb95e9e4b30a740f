"""What the scripts of the studies share: their command line, their tables, where figures go.

python studies/01_batching.py --output out/01          # runs that are there already are not made again
python studies/01_batching.py --small                  # in seconds, with less to see
python studies/01_batching.py --figures docs/studies/figures
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from tokensim.explore.capacities import capacities
from tokensim.explore.executors import Executor, make_executor
from tokensim.explore.question import Question
from tokensim.explore.study import Study
from tokensim.explore.sweep import sweep
from tokensim.report.export import write_figure
from tokensim.report.figures.base import Figure

if TYPE_CHECKING:
    import polars as pl

HERE = Path(__file__).resolve().parent

Answer = Callable[[Study, Executor | None, Path | None], "pl.DataFrame"]
"""The table of a study, on an executor, in a folder that keeps the runs."""


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


def swept(
    study: Study, executor: Executor | None = None, folder: Path | None = None, resume: bool = True
) -> pl.DataFrame:
    """The table of ``study``; raises ``RuntimeError`` if a point went wrong."""
    return _checked(sweep(study, folder, executor=executor, resume=resume).frame, ("ok",))


def borne(
    study: Study, question: Question, executor: Executor | None = None, folder: Path | None = None
) -> pl.DataFrame:
    """The capacities of ``study``. A configuration that keeps its SLO at no load, or that is refused since
    the model does not fit, counts as zero; raises ``RuntimeError`` for any other mishap."""
    import polars as pl

    frame = capacities(study, question, folder, executor=executor, resume=True).frame
    frame = _checked(frame, ("found", "none", "refused"))
    return frame.with_columns(pl.col("capacity").fill_null(0.0))


def rates(found: pl.DataFrame, study: Study, figures: Mapping[str, str] | None = None) -> pl.DataFrame:
    """Of what ``borne`` has ``found``: the parameters, the ``rate`` that each configuration bears
    (requests/s), ``figures`` of the run there (names of ours → names in the summary), and ``binding``, the
    bound that the next higher rate misses."""
    import polars as pl

    return found.select(
        *(parameter.name for parameter in study.parameters),
        pl.col("capacity").alias("rate"),
        *(pl.col(f"at.{figure}").alias(name) for name, figure in (figures or {}).items()),
        "binding",
    )


def bearing(question: Question, figures: Mapping[str, str] | None = None) -> Callable[..., pl.DataFrame]:
    """What answers a study by the rates that its configurations bear under ``question``: see ``rates``."""

    def answer(
        study: Study,
        executor: Executor | None = None,
        folder: Path | None = None,
        question: Question = question,
    ) -> pl.DataFrame:
        return rates(borne(study, question, executor, folder), study, figures)

    return answer


def _checked(frame: pl.DataFrame, fine: Sequence[str]) -> pl.DataFrame:
    import polars as pl

    bad = frame.filter(~pl.col("status").is_in(fine))
    if len(bad):
        raise RuntimeError(f"{len(bad)} of {len(frame)} points: {bad['status'][0]}, {bad['error'][0]}")
    return frame


def value(frame: pl.DataFrame, field: str = "rate", **equal: Any) -> float:
    """``field`` of the one row whose parameters are ``equal``."""
    return float(frame.filter(**equal)[field].item())


def markdown(frame: pl.DataFrame, titles: Mapping[str, str] | None = None) -> str:
    """``frame`` as a table of Markdown, its columns under ``titles`` (None: all, under their names)."""
    titles = titles or {name: name for name in frame.columns}
    rows = [f"| {' | '.join(titles.values())} |", f"|{'---|' * len(titles)}"]
    rows += [f"| {' | '.join(map(_cell, row))} |" for row in frame.select(list(titles)).iter_rows()]
    return "\n".join(rows)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def main(
    run: Callable[[bool, Executor, Path | None], pl.DataFrame],
    figures: Callable[[pl.DataFrame], Iterable[Figure]],
    table: Callable[[pl.DataFrame], str],
) -> None:
    """The command line of a study: ``run(small, executor, folder)`` makes what ``figures`` and ``table``
    show."""
    options = argparse.ArgumentParser()
    options.add_argument("--small", action="store_true", help="fewer points and requests")
    options.add_argument("--output", type=Path, help="keep the runs in this folder, and go on from them")
    options.add_argument("--figures", type=Path, help="write the figures into this folder, as SVG")
    options.add_argument("--jobs", type=int, help="runs at a time (default: one a processor)")
    given = options.parse_args()
    frame = run(given.small, make_executor(jobs=given.jobs), given.output)
    print(table(frame))
    if given.figures is not None:
        given.figures.mkdir(parents=True, exist_ok=True)
        for figure in figures(frame):
            write_figure(figure, given.figures / f"{figure.name}.svg")


def one_figure(
    name: str, answer: Answer, draw: Callable[[pl.DataFrame], Figure], small: Sequence[str]
) -> None:
    """The command line of the study ``name``, whose table has one figure; ``small``: overrides of the
    scenario for a quick look."""

    def run(quick: bool, executor: Executor, folder: Path | None) -> pl.DataFrame:
        return answer(read(name, small if quick else ()), executor, folder)

    main(run, lambda frame: [draw(frame)], markdown)
