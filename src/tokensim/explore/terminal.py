"""The account of a sweep in the terminal: its parameters beside the figures that people look at first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tokensim.explore.figures import in_seconds
from tokensim.report.numbers import NOTHING, duration

if TYPE_CHECKING:
    import polars as pl

    from tokensim.explore.sweep import SweepResult

ROWS = 40
"""Rows that are printed; the file has them all."""

FIGURES = (
    ("req/s", "throughput.requests_per_s"),
    ("out tok/s", "throughput.output_tokens_per_s"),
    ("TTFT p50", "latency.ttft_s.p50"),
    ("TTFT p99", "latency.ttft_s.p99"),
    ("TPOT p50", "latency.tpot_s.p50"),
    ("TPOT p99", "latency.tpot_s.p99"),
)
"""Title, column."""

WIDEST = 18
"""Characters of a parameter's value, at most."""


def print_sweep(result: SweepResult) -> None:
    """Print the table of ``result`` (its first rows), and what failed. Parameters that would not fit beside
    the figures stand in a list of their own under the point's number."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console, frame = Console(highlight=False), result.frame
    study = result.study
    console.print(f"[bold]{study.file.name or 'Study'}[/]: {_told(result)}\n", soft_wrap=True)
    names = [parameter.name for parameter in study.parameters]
    rows = list(frame.head(ROWS).iter_rows(named=True))
    columns = [
        *((title, [_short(shown(row[name])) for row in rows]) for title, name in _titled(names, rows)),
        *([("seed", [str(row["seed"]) for row in rows])] if study.file.seeds > 1 else []),
        *((title, [_figure(row, column, at) for row in rows]) for at, (title, column) in enumerate(FIGURES)),
    ]
    if _width(columns) > console.width:  # the percentiles in the middle go first
        columns = [column for column in columns if column[0] not in ("TTFT p50", "TPOT p50")]
    left_out = []
    while _width(columns) > console.width and len(columns) > len(FIGURES):
        # Then parameters, the last first: the point's number tells them.
        left_out.append(columns.pop(len(columns) - (len(FIGURES) - 2) - 1)[0])
    if left_out:
        columns.insert(0, ("point", [str(row["point"]) for row in rows]))
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    first_figure = next((at for at, (title, _) in enumerate(columns) if title == FIGURES[0][0]), 0)
    for at, (title, _) in enumerate(columns):
        table.add_column(Text(title), justify="right" if at >= first_figure else "left", no_wrap=True)
    for number in range(len(rows)):
        table.add_row(*(Text(cells[number]) for _, cells in columns))
    console.print(table)
    if left_out:
        told = ", ".join(reversed(left_out))
        console.print(f"Too narrow for {told}: results.parquet has them, by point", soft_wrap=True)
    if len(frame) > ROWS:
        console.print(f"… {len(frame) - ROWS:,} more rows in results.parquet")
    for line in _errors(frame):
        console.print(line, markup=False, soft_wrap=True)


def _titled(names: Sequence[str], rows: Sequence[Any]) -> list[tuple[str, str]]:
    return list(zip(short_names(names), names, strict=True))


def _width(columns: Sequence[tuple[str, Sequence[str]]]) -> int:
    return sum(max(len(title), *(len(cell) for cell in cells), 0) + 2 for title, cells in columns)


def short_names(names: Sequence[str]) -> list[str]:
    """``names`` of parameters as titles: their last parts, as many as tell them apart."""
    parts = [name.split(".") for name in names]
    titles = []
    for own in parts:
        size = 1
        while size < len(own) and sum(other[-size:] == own[-size:] for other in parts) > 1:
            size += 1
        titles.append(".".join(own[-size:]))
    return titles


def _told(result: SweepResult) -> str:
    counts = ", ".join(f"{count:,} {status}" for status, count in sorted(result.counts.items()))
    again = f"; {result.reused:,} of them from before" if result.reused else ""
    return f"{len(result.frame):,} of {len(result.study):,} points ({counts or 'none'}{again})"


def _errors(frame: pl.DataFrame) -> list[str]:
    """What went wrong, each kind once."""
    import polars as pl

    bad = frame.filter(pl.col("status") != "ok")
    kinds = bad.group_by("status", "error", maintain_order=True).agg(pl.col("point").first(), pl.len())
    return [
        f"{row['status']} (point {row['point']}"
        + (f" and {row['len'] - 1:,} more" if row["len"] > 1 else "")
        + f"): {row['error']}"
        for row in kinds.head(5).iter_rows(named=True)
    ]


def _short(text: str) -> str:
    """``text``, or its end where that is too long: paths and names differ there."""
    return text if len(text) <= WIDEST else f"…{text[1 - WIDEST :]}"


def shown(value: Any, figure: str = "") -> str:
    """``value`` as a cell; ``figure``: its name, which tells its unit."""
    if value is None:
        return NOTHING
    if isinstance(value, float) and in_seconds(figure):
        return duration(value)
    return f"{value:,.4g}" if isinstance(value, float) else str(value)


def _figure(row: Any, column: str, at: int) -> str:
    if row["status"] != "ok":
        return str(row["status"]) if at == 0 else ""
    return shown(row.get(column), column)
