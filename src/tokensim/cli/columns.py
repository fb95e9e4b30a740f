"""Plain columns for lists: they read well in a terminal and in a pipe."""

from __future__ import annotations

from collections.abc import Sequence


def columns(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """``rows`` under ``titles``: the first column to the left, the others to the right."""
    table = [titles, *rows]
    widths = [max(len(row[column]) for row in table) for column in range(len(titles))]
    lines = []
    for row in table:
        cells = [
            row[0].ljust(widths[0]),
            *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True)),
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
