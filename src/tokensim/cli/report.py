"""``tokensim report``: the page of a run, or of a study, made again from its files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from tokensim.report.figures.base import Figure


def report(
    run: Annotated[
        Path, typer.Argument(metavar="RUN_FOLDER", help="A folder that `tokensim run` or `sweep` wrote.")
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="[default: report.html in the folder]"),
    ] = None,
) -> None:
    """Make the page of a run again, from summary.json, figures.json and scenario.yaml; or that of a sweep,
    from study.yaml and results.parquet.

    A run of an earlier version gets the page of this one, without being simulated again.
    """
    from tokensim.report.atomic import write_bytes

    page = page_of(run).encode()
    path = output or run / "report.html"
    write_bytes(path, page)
    typer.echo(str(path))


def page_of(folder: Path) -> str:
    """The HTML of the page of the run, or the study, in ``folder``; raises ``InputError``."""
    from tokensim.explore.page import study_page
    from tokensim.explore.study_data import read_study
    from tokensim.report.run_page import run_page
    from tokensim.report.series.run import read_run

    study = read_study(folder)
    return run_page(read_run(folder)) if study is None else study_page(study)


def figures_in(folder: Path) -> list[Figure]:
    """The figures of the run, or the study, in ``folder``; raises ``InputError``."""
    from tokensim.explore.study_data import read_study
    from tokensim.explore.study_figures import study_figures
    from tokensim.report.figures.run import run_figures
    from tokensim.report.series.run import read_run

    study = read_study(folder)
    return list(run_figures(read_run(folder))) if study is None else study_figures(study)
