"""The account of a study in the terminal: its parameters beside the figures that people look at first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tokensim.report.numbers import duration

if TYPE_CHECKING:
    import polars as pl

    from tokensim.explore.sweep import SweepResult

ROWS = 40
"""Rows that are printed; the file has them all."""

FIGURES = (
    ("req/s", "throughput.requests_per_s", False),
    ("out tok/s", "throughput.output_tokens_per_s", False),
    ("TTFT p50", "latency.ttft_s.p50", True),
    ("TTFT p99", "latency.ttft_s.p99", True),
    ("TPOT p50", "latency.tpot_s.p50", True),
    ("TPOT p99", "latency.tpot_s.p99", True),
)
"""Title, column, whether it is in seconds."""


def print_sweep(result: SweepResult) -> None:
    """Print the table of ``result`` (its first rows), and what failed."""
    from rich.console import Console
    from rich.table import Table

    console, frame = Console(highlight=False), result.frame
    study = result.study
    names = [parameter.name for parameter in study.parameters]
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for name in names:
        table.add_column(name.rsplit(".", 1)[-1], justify="left")
    if study.file.seeds > 1:
        table.add_column("seed", justify="right")
    for title, _, _ in FIGURES:
        table.add_column(title, justify="right")
    for row in frame.head(ROWS).iter_rows(named=True):
        cells = [_cell(row[name]) for name in names]
        if study.file.seeds > 1:
            cells.append(str(row["seed"]))
        if row["status"] == "ok":
            cells += [_figure(row.get(column), seconds) for _, column, seconds in FIGURES]
        else:
            cells += [row["status"]]
        table.add_row(*cells)
    console.print(f"[bold]{study.file.name or 'Study'}[/]: {_told(result)}\n")
    console.print(table)
    if len(frame) > ROWS:
        console.print(f"… {len(frame) - ROWS:,} more rows in results.parquet")
    for line in _errors(frame):
        console.print(line, markup=False)


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


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _figure(value: Any, seconds: bool) -> str:
    if value is None:
        return "-"
    return duration(value) if seconds else f"{value:,.4g}"
