"""Options that several commands share, and what they do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from tokensim.explore.executors import Executor

Operators = Annotated[
    str | None,
    typer.Option("--operators", metavar="SOURCE", help="Operator times, as in performance.operators."),
]

Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="PATH=VALUE", help="Override one value: engine.max_num_seqs=512. Repeatable."
    ),
]

Plugins = Annotated[
    list[Path] | None,
    typer.Option("--plugin", metavar="FILE", help="A Python file that registers parts. Repeatable."),
]

Executors = Annotated[
    str,
    typer.Option(
        "--executor", metavar="WHERE", help="local: processes of this machine; ray: a cluster; serial."
    ),
]

Jobs = Annotated[
    int | None, typer.Option("--jobs", "-j", metavar="N", help="Runs at a time. [default: one a processor]")
]

Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="DIR", help="Where the files go. [default: none are written]"),
]

OutputInRuns = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="DIR", help="Where the files go. [default: runs/NAME]"),
]

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")]


def share(text: str, where: str) -> float:
    """``2%`` or ``0.02`` as 0.02; raises ``InputError``."""
    from tokensim.errors import InputError

    try:
        return float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        raise InputError(f"{text!r} is no share", where=where, hint="e.g. 5% or 0.05") from None


def make_workers(where: str, jobs: int | None, plugins: Sequence[Path] | None) -> Executor:
    """What ``Executors``, ``Jobs`` and ``Plugins`` ask for; raises ``InputError``."""
    from tokensim.explore.executors import make_executor

    return make_executor(where, jobs, [str(file.absolute()) for file in plugins or ()])


def load_plugins(files: Sequence[Path] | None) -> None:
    """Import every installed plug-in, then ``files``; raises ``InputError`` for one that fails."""
    from tokensim.registry import load_entry_points, load_plugin

    load_entry_points()
    for file in files or ():
        load_plugin(file)
