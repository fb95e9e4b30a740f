"""The progress bar on stderr: simulated time, requests done, requests a second."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

Progress = Callable[[float, int, int], None]
"""Called with (simulated seconds, requests done, requests in all) a few times a second."""


@contextlib.contextmanager
def progress_bar(quiet: bool) -> Iterator[Progress | None]:
    """A bar for the length of the block; None when ``quiet`` or when stderr is no terminal."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich import progress as bars
    from rich.console import Console

    bar = bars.Progress(
        bars.TextColumn("simulating"),
        bars.BarColumn(bar_width=None),
        bars.TextColumn("{task.completed:,.0f}/{task.total:,.0f} requests"),
        bars.TextColumn("{task.fields[speed]:,.0f}/s"),
        bars.TextColumn("at {task.fields[simulated]}"),
        bars.TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    with bar:
        task = bar.add_task("", total=0, speed=0.0, simulated="0 s")
        started = time.perf_counter()

        def show(simulated_s: float, done: int, total: int) -> None:
            elapsed = time.perf_counter() - started
            speed = done / elapsed if elapsed > 0 else 0.0
            bar.update(task, completed=done, total=total, speed=speed, simulated=clock(simulated_s))

        yield show


@contextlib.contextmanager
def points_bar(quiet: bool) -> Iterator[Callable[[int, int, int], None] | None]:
    """A bar over the points of a study: called with (done, of these not ok, in all)."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich import progress as bars
    from rich.console import Console

    bar = bars.Progress(
        bars.TextColumn("running"),
        bars.BarColumn(bar_width=None),
        bars.TextColumn("{task.completed:,.0f}/{task.total:,.0f} points"),
        bars.TextColumn("{task.fields[failed]}"),
        bars.TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    with bar:
        task = bar.add_task("", total=0, failed="")

        def show(done: int, failed: int, total: int) -> None:
            bar.update(task, completed=done, total=total, failed=f"{failed:,} failed" if failed else "")

        yield show


def clock(seconds: float) -> str:
    """Simulated time as people say it: ``42.0 s``, ``12:05 min``, ``3:12:05 h``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 60:
        return f"{minutes}:{rest:02d} min"
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d} h"
