"""Lines of block characters for reports in a terminal: histograms of latencies, and numbers in a row.

The bars of a histogram are intervals of equal ratio between the least and the greatest value, so that a
long tail does not squeeze the rest into one bar.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from tokensim.metrics.latency import RequestLatency
from tokensim.report.numbers import duration
from tokensim.workload.base import Floats

if TYPE_CHECKING:
    from rich.console import RenderableType

BARS = 40
BLOCKS, ASCII = " ▁▂▃▄▅▆▇█", " .:-=+*#"
LEAST = 20
"""Requests of which a histogram says anything."""


def latency_charts(latency: RequestLatency | None, ascii_only: bool) -> RenderableType | None:
    """A line for each latency that varies: label, histogram, its range; None if there is none."""
    from rich.table import Table
    from rich.text import Text

    if latency is None:
        return None
    named = (("TTFT", latency.ttft_s), ("TPOT", latency.tpot_s), ("end to end", latency.e2e_s))
    lines = [(label, told) for label, values in named if (told := histogram(values, ascii_only))]
    if not lines:
        return None
    table = Table.grid(padding=(0, 1, 0, 0))
    table.add_column(min_width=12, style="dim", no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_row("histogram", Text("requests, in steps of equal ratio"))
    for label, (bars, low, high) in lines:
        table.add_row(label, Text(f"{low:>7} {bars} {high}"))
    return table


def histogram(values: Floats, ascii_only: bool) -> tuple[str, str, str] | None:
    """(bars, least, greatest) of the positive ``values``; None if they are few or all the same."""
    known = values[~np.isnan(values) & (values > 0)]
    if len(known) < LEAST or known.max() <= known.min() * (1 + 1e-9):
        return None
    counts, edges = np.histogram(np.log(known), bins=BARS)
    levels = ASCII if ascii_only else BLOCKS
    steps = np.ceil(counts / counts.max() * (len(levels) - 1)).astype(int)
    low, high = float(np.exp(edges[0])), float(np.exp(edges[-1]))
    return "".join(levels[step] for step in steps), duration(low), duration(high)


def sparkline(values: Sequence[float | None], ascii_only: bool) -> str:
    """A block for each of ``values``, of ``BARS`` at most evenly spread ones: the least is low, the greatest
    high, None is blank."""
    levels = ASCII if ascii_only else BLOCKS
    drawn = values[:: max(1, -(-len(values) // BARS))]
    known = [value for value in values if value is not None]
    low, high = min(known, default=0.0), max(known, default=0.0)
    scale = (len(levels) - 2) / (high - low) if high > low else 0.0
    return "".join(levels[0] if v is None else levels[1 + round((v - low) * scale)] for v in drawn)
