"""The errors of several cases as one table for the terminal, and as markdown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tokensim.report.numbers import NOTHING, count, duration
from tokensim.validation.errors import METRICS, STATISTICS, CaseErrors
from tokensim.validation.output import print_plain

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

LABELS = {"ttft": "TTFT", "tpot": "TPOT", "e2e": "E2E", "throughput": "tokens/s"}

GOOD, FAIR = 0.03, 0.10
"""Errors up to these are good and fair: green and yellow in the terminal, others red. They colour, nothing
else."""

Refused = tuple[str, str]
"""The name of a case that cannot be simulated, and why."""


def print_errors(cases: Sequence[CaseErrors], refused: Sequence[Refused] = ()) -> None:
    """Print the table to standard output."""
    print_plain(render(cases, refused))


def render(cases: Sequence[CaseErrors], refused: Sequence[Refused] = ()) -> RenderableType:
    """One block of four lines a case: means of both sides, errors, and the mean absolute error a request."""
    from rich.console import Group
    from rich.text import Text

    parts: list[RenderableType] = []
    for case in cases:
        table = _table()
        for metric, errors in case.error.items():
            shown = duration if metric in METRICS else count
            each = case.per_request[metric].relative if metric in case.per_request else None
            table.add_row(
                LABELS[metric],
                shown(case.measured[metric]["mean"]),
                shown(case.simulated[metric]["mean"]),
                *(coloured(errors.get(name)) for name in STATISTICS),
                NOTHING if each is None else f"{each:.1%}",
            )
        parts += [Text(f"{case.name} ({count(case.requests)} requests)", "bold"), table]
        parts += [Text(f"note: {note}", "dim") for note in case.notes]
        parts.append(Text())
    for name, why in refused:
        parts += [Text(name, "bold"), Text(f"not simulated: {why}", "red"), Text()]
    parts.append(
        Text(
            "measured, simulated: means; each: mean absolute error request by request",
            "dim",
        )
    )
    return Group(*parts)


def _table() -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
    table.add_column("error of", width=8)
    for title in ("measured", "simulated", *STATISTICS, "each"):
        table.add_column(title, justify="right", width=9 if title.endswith("ed") else 7)
    return table


def coloured(error: float | None) -> RenderableType:
    """``+1.2%`` in the colour of its size."""
    from rich.text import Text

    if error is None:
        return Text(NOTHING)
    colour = {"good": "green", "fair": "yellow", "bad": "red"}[worth(error)]
    return Text(percent(error), colour)


def worth(error: float | None) -> str:
    """What an error is worth by its size: ``good``, ``fair`` or ``bad``; nothing where there is none."""
    if error is None:
        return ""
    size = abs(error)
    return "good" if size <= GOOD else "fair" if size <= FAIR else "bad"


def percent(error: float | None) -> str:
    """``+1.2%``; None → ``-``."""
    return NOTHING if error is None else f"{error:+.1%}"


def markdown(cases: Sequence[CaseErrors]) -> str:
    """A markdown table: a line a case, errors in percent, the per-request E2E error last."""
    figures = [(metric, name) for metric in METRICS for name in ("mean", "p50", "p99")]
    titles = ["case", *(f"{LABELS[metric]} {name}" for metric, name in figures), "tokens/s", "each E2E"]
    lines = ["| " + " | ".join(titles) + " |", "|---" * len(titles) + "|"]
    for case in cases:
        each = case.per_request["e2e"].relative
        cells = [_percent(case.error[metric][name]) for metric, name in figures]
        cells += [_percent(case.error["throughput"]["mean"]), NOTHING if each is None else f"{each:.1%}"]
        lines.append("| " + " | ".join([case.name, *cells]) + " |")
    return "\n".join(lines)


def _percent(error: float | None) -> str:
    return NOTHING if error is None else f"{error * 100:+.1f}"
