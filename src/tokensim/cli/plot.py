"""``tokensim plot``: the figures of a folder that a command left, as files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def plot(
    left: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="What a command left: of a run, a sweep, a search, …")
    ],
    figure: Annotated[
        list[str] | None,
        typer.Option("--figure", metavar="NAME", help="Only this one. Repeatable. [default: all]"),
    ] = None,
    format_: Annotated[
        str, typer.Option("--format", metavar="FORMAT", help="svg, png, pdf, or json (Vega-Lite).")
    ] = "svg",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="Where they go. [default: FOLDER/figures]"),
    ] = None,
    dark: Annotated[bool, typer.Option("--dark", help="On a dark ground.")] = False,
    list_: Annotated[bool, typer.Option("--list", help="Print the names of the figures, and stop.")] = False,
) -> None:
    """Write the figures of a folder as files: the same as in its report.html.

    Folders of run, sweep, optimize, capacity, compare and sensitivity.
    """
    from tokensim.errors import InputError, SimulationError, nearest
    from tokensim.explore.kinds import figures_in
    from tokensim.report.export import FORMATS, write_figure

    if format_ not in FORMATS:
        raise InputError(f"'{format_}' is no format", where="--format", hint=nearest(format_, FORMATS))
    figures = {one.name: one for one in figures_in(left)}
    if list_:
        width = max([len("figure"), *map(len, figures)])
        titles = [("figure", "title"), *((one.name, one.title) for one in figures.values())]
        typer.echo("\n".join(f"{name:<{width}}  {title}" for name, title in titles))
        return
    for name in figure or ():
        if name not in figures:
            raise InputError(f"there is no figure '{name}'", where="--figure", hint=nearest(name, figures))
    folder = output or left / "figures"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SimulationError(f"{folder}: cannot be written to: {error.strerror or error}") from error
    for name in dict.fromkeys(figure or figures):
        path = folder / f"{name}.{format_}"
        write_figure(figures[name], path, dark=dark)
        typer.echo(str(path))
