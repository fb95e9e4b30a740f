"""The account of a sweep in the terminal: its parameters beside the figures that people look at first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tokensim.explore.figures import in_seconds
from tokensim.report.numbers import NOTHING, count, duration

if TYPE_CHECKING:
    import polars as pl
    from rich.table import Table

    from tokensim.explore.study import Study
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

MEDIANS = ("TTFT p50", "TPOT p50")
"""What goes first where there is no room."""

WIDEST = 18
"""Characters of a parameter's value, at most."""

Column = tuple[str, list[str]]
"""Title, cells."""


def print_sweep(result: SweepResult) -> None:
    """Print the table of ``result`` (its first rows), and what failed. Parameters with one value are told
    above it, those that would not fit beside the figures by the point's number alone."""
    from rich.console import Console
    from rich.markup import escape

    console, frame = Console(highlight=False), result.frame
    name = escape(result.study.file.name or "Study")
    console.print(f"[bold]{name}[/]: {_told(result)}", soft_wrap=True)
    rows = list(frame.head(ROWS).iter_rows(named=True))
    parameters, same = _parameters(result.study, rows)
    if same:
        console.print(f"Everywhere: {', '.join(same)}", markup=False, soft_wrap=True)
    figures = [
        (title, [_figure(row, column, at) for row in rows]) for at, (title, column) in enumerate(FIGURES)
    ]
    if _width([*parameters, *figures]) > console.width:
        figures = [column for column in figures if column[0] not in MEDIANS]
    left_out = []
    while parameters and _width([*parameters, *figures]) > console.width:
        left_out.append(parameters.pop()[0])
        if len(left_out) == 1:
            parameters.insert(0, ("point", [str(row["point"]) for row in rows]))
        elif len(parameters) == 1:
            break
    console.print()
    console.print(_table(parameters, figures))
    if left_out:
        told = ", ".join(reversed(left_out))
        console.print(f"Too narrow for {told}: results.parquet has them, by point", soft_wrap=True)
    if len(frame) > ROWS:
        console.print(f"… {len(frame) - ROWS:,} more rows in results.parquet")
    for line in _extremes(result, console.options.ascii_only):
        console.print(line, markup=False, soft_wrap=True)
    if result.study.file.goals:
        console.print(_best(result), markup=False, soft_wrap=True)
    for line in _errors(frame):
        console.print(line, markup=False, soft_wrap=True)


def _best(result: SweepResult) -> str:
    """The best point by the study's goals, or the front."""
    from tokensim.explore.wants import best_points

    study, best = result.study, best_points(result.study, result.frame.iter_rows(named=True))
    if not best:
        return "Best: nothing keeps what is required"
    told = [_point(study, point) for point in best[:ROWS]]
    return ("Best: " if len(study.file.goals) == 1 else "Pareto front: ") + "; ".join(told)


def _extremes(result: SweepResult, ascii_only: bool) -> list[str]:
    """Each figure over the configurations, in a line of blocks, and where it is best."""
    from tokensim.explore.extremes import extremes
    from tokensim.report.charts import sparkline

    titles = {figure: title for title, figure in FIGURES if title not in MEDIANS}
    found = extremes(result, list(titles))
    if not found:
        return []
    lines = ["", "Over the configurations, in their order, and the best of each:"]
    for one in found:
        best = f"{'most' if one.most else 'least'} {shown(one.best, one.figure)}"
        at = _point(result.study, one.point)
        lines.append(f"{titles[one.figure]:<9}  {sparkline(one.values, ascii_only)}  {best} at {at}")
    return lines


def _point(study: Study, point: int) -> str:
    """A point by its number and the parameters that tell it from others."""
    names = [parameter.name for parameter in study.parameters]
    told = [
        f"{title} {shown(choice.label)}"
        for parameter, title, choice in zip(
            study.parameters, short_names(names), study.point(point).choices, strict=True
        )
        if len(parameter.choices) != 1 or len(names) == 1
    ]
    return f"point {point} ({', '.join(told)})" if told else f"point {point}"


def _parameters(study: Study, rows: Sequence[Any]) -> tuple[list[Column], list[str]]:
    """The parameters that vary, as columns, and those that do not, in words."""
    names = [parameter.name for parameter in study.parameters]
    columns: list[Column] = []
    same = []
    for name, title in zip(names, short_names(names), strict=True):
        cells = [_short(shown(row[name])) for row in rows]
        if len(rows) > 1 and len(set(cells)) == 1 and len(names) > 1:
            same.append(f"{title} {cells[0]}")
        else:
            columns.append((title, cells))
    if study.file.seeds > 1:
        columns.append(("seed", [str(row["seed"]) for row in rows]))
    return columns, same


def _table(parameters: Sequence[Column], figures: Sequence[Column]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for title, column in parameters:
        numbers = all(cell[:1].isdigit() for cell in column)
        table.add_column(Text(title), justify="right" if numbers else "left", no_wrap=True)
    for title, _ in figures:
        table.add_column(Text(title), justify="right", no_wrap=True)
    for cells in zip(*(cells for _, cells in (*parameters, *figures)), strict=True):
        table.add_row(*(Text(cell) for cell in cells))
    return table


def _width(columns: Sequence[Column]) -> int:
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

    if frame.is_empty():
        return []
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
    value = row.get(column)
    return duration(value) if in_seconds(column) else count(value)
