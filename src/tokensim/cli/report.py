"""``tokensim report``: the page of a folder that a command left, made again from its files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="What a command left: of a run, a sweep, a search, …")
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="[default: report.html in the folder]"),
    ] = None,
) -> None:
    """Make the page of a folder again from its other files, without simulating anything.

    Folders of run, sweep, optimize, capacity, compare and sensitivity. What an earlier version left gets the
    page of this one.
    """
    from tokensim.explore.kinds import page_of
    from tokensim.report.atomic import write_bytes

    page = page_of(folder).encode()
    path = output or folder / "report.html"
    write_bytes(path, page)
    typer.echo(str(path))
