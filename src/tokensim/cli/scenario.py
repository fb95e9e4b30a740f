"""``tokensim scenario``: a scenario from the command line that starts a server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tokensim.cli.options import Overrides

if TYPE_CHECKING:
    from tokensim.server_flags import Translation

SETTINGS = {"allow_interspersed_args": False}
"""All that follows the first word of the server's command is the server's."""


def scenario(
    command: Annotated[
        list[str], typer.Argument(metavar="COMMAND", help="vllm serve …, sglang serve …, trtllm-serve …")
    ],
    hardware: Annotated[str, typer.Option(metavar="ID", help="Catalog id, or a YAML file.")],
    workload: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="A scenario whose workload and SLO are taken. [default: a stand-in]"
        ),
    ] = None,
    set_: Overrides = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="[default: standard output]")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file.")] = False,
    skip_unknown: Annotated[
        bool, typer.Option("--skip-unknown", help="Go on without flags that are not known here.")
    ] = False,
) -> None:
    """Write a scenario from the command line that starts your server.

    Our options come first, then the server's command as it stands. What became of each flag is told on
    standard error: its key, or that no time depends on it, or that it is not simulated.
    """
    from tokensim.errors import InputError
    from tokensim.report.atomic import write_bytes
    from tokensim.server_flags import translate
    from tokensim.server_flags.document import as_yaml, document

    if output is not None and output.exists() and not force:
        raise InputError("is there already", where=str(output), hint="another --output, or --force")
    found = translate(command, skip_unknown=skip_unknown)
    text = as_yaml(document(found, hardware, workload, set_ or ()), found)
    if output is None:
        typer.echo(text, nl=False)
    else:
        write_bytes(output, text.encode())
    _tell(found, stand_in=workload is None)
    if output is not None:
        typer.echo(f"Scenario: {output}", err=True)


def _tell(found: Translation, *, stand_in: bool) -> None:
    """What became of each flag."""
    from tokensim.scenario import yaml_text

    width = max((len(taken.given) for taken in found.taken), default=0)
    for taken in found.taken:
        typer.echo(f"{taken.given:{width}}  {yaml_text.dotted(taken.path)}: {taken.value}", err=True)
    if found.inert:
        typer.echo("No time depends on: " + ", ".join(found.inert), err=True)
    for one in found.apart:
        typer.echo(f"Not in the scenario: {one.given}: {one.why}", err=True)
    if stand_in:
        typer.echo("The workload is a stand-in: --workload FILE takes that of a scenario.", err=True)
