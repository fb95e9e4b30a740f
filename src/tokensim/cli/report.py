"""``tokensim report``: the page of a run, made again from its files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    run: Annotated[Path, typer.Argument(metavar="RUN_FOLDER", help="A folder that `tokensim run` wrote.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="[default: report.html in the folder]"),
    ] = None,
) -> None:
    """Make the page of a run again, from summary.json, figures.json and scenario.yaml.

    A run of an earlier version gets the page of this one, without being simulated again.
    """
    from tokensim.report.atomic import write_bytes
    from tokensim.report.run_page import run_page
    from tokensim.report.series.run import read_run

    page = run_page(read_run(run)).encode()
    path = output or run / "report.html"
    write_bytes(path, page)
    typer.echo(str(path))
