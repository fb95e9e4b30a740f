"""What a recording says at its end: the figures of ``tokensim run``, and how true the recorder was."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tokensim.metrics.latency import Distribution
from tokensim.record.recording import Recording
from tokensim.report.numbers import count, duration

if TYPE_CHECKING:
    from rich.console import RenderableType

COLUMNS = ("mean", "p50", "p90", "p95", "p99", "max")


def render(recording: Recording, title: str, more: Sequence[str] = ()) -> RenderableType:
    """One recording as a block for the terminal, without figures if it has none; ``more`` notes follow its
    own."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    good, notes = recording.usable, [*recording.notes(), *more]
    head = Text("", "bold")
    if not recording.driven.complete:
        head.append("PARTIAL: ", "red")
    head.append(f"{title}: {count(len(good))} of {count(len(recording.workload))} requests answered")
    told = [Text(f"note: {note}", "yellow") for note in notes]
    if not good:
        return Group(head, *told, Text())
    figures = recording.figures()
    head.append(f" in {duration(figures.makespan_s)}", "not bold")
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="dim")
    table.add_column("latency", min_width=11, no_wrap=True)
    for name in COLUMNS:
        table.add_column(name, justify="right", min_width=7, no_wrap=True)
    for label, sample in _rows(recording):
        table.add_row(label, *(duration(getattr(sample, name)) for name in COLUMNS))
    late, lag = recording.driven.trueness.lateness, recording.driven.trueness.lag
    lines = [
        f"throughput   {count(figures.requests_per_s)} requests/s; tokens/s:"
        f" {count(figures.input_tokens_per_s)} in, {count(figures.output_tokens_per_s)} out",
        f"recorder     sent late by p50 {_ms(late.p50_s)}, p99 {_ms(late.p99_s)}, max {_ms(late.max_s)}",
        f"event loop   a timer waited p50 {_ms(lag.p50_s)}, p99 {_ms(lag.p99_s)}, max {_ms(lag.max_s)}",
    ]
    series = recording.series
    if len(series.time_s) or series.missed:
        lines.append(f"metrics      {count(len(series.time_s))} polls, {count(series.missed)} missed")
    return Group(head, Text(), table, Text(), *(Text(line) for line in lines), *told, Text())


def as_dict(recording: Recording, more: Sequence[str] = ()) -> dict[str, Any]:
    """The same for a program; seconds and tokens a second."""
    figures, trueness = recording.figures(), recording.driven.trueness
    latency = {
        label.lower().replace(" ", "_"): {name: getattr(sample, name) for name in COLUMNS}
        for label, sample in _rows(recording)
    }
    return {
        "complete": recording.complete,
        "requests": {
            "total": len(recording.workload),
            "cancelled": len(recording.driven.cancelled),
            **recording.statuses(),
        },
        "server": recording.facts.to_dict(),
        "latency_s": latency,
        "throughput": {
            "requests_per_s": figures.requests_per_s,
            "input_tokens_per_s": figures.input_tokens_per_s,
            "output_tokens_per_s": figures.output_tokens_per_s,
        },
        "makespan_s": figures.makespan_s,
        "recorder": {"lateness": trueness.lateness.to_dict(), "loop_lag": trueness.lag.to_dict()},
        "metrics": {"polls": len(recording.series.time_s), "missed": recording.series.missed},
        "notes": [*recording.notes(), *more],
    }


def _rows(recording: Recording) -> tuple[tuple[str, Distribution], ...]:
    figures = recording.figures()
    return (
        ("TTFT", figures.ttft_s),
        ("TPOT", figures.tpot_s),
        ("ITL", figures.itl_s),
        ("end to end", figures.e2e_s),
        ("connect", figures.connect_s),
    )


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.1f} ms"
