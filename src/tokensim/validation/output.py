"""Where results go: a terminal or a pipe, and files that appear whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tokensim.errors import SimulationError
from tokensim.report.atomic import write_atomic

if TYPE_CHECKING:
    from rich.console import RenderableType


def print_plain(part: RenderableType) -> None:
    """Print ``part`` to standard output; in a pipe without the blanks that tables pad their cells with."""
    from rich.console import Console

    console = Console(highlight=False)
    if console.is_terminal:
        console.print(part, highlight=False)
        return
    with console.capture() as captured:
        console.print(part, highlight=False)
    console.file.write("".join(line.rstrip() + "\n" for line in captured.get().splitlines()))


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path``, its folder made if absent; raises ``SimulationError`` naming the file."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SimulationError(f"{path.parent}: cannot be written to: {error.strerror or error}") from error
    write_atomic(path, lambda file: (file.write(text.encode()), None)[1])
