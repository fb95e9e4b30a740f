"""Progress bars on stderr, where that is a terminal."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich import progress as bars

Progress = Callable[[float, int, int], None]
"""Called with (simulated seconds, requests done, requests in all) a few times a second."""


Points = Callable[[int, int, int], None]
"""Called with (points done, of these bad, points in all) after each."""

BAR, DONE_OF_ALL, ELAPSED, LEFT = "bar", "done of all", "elapsed", "left"
"""Columns of a bar that are no text."""


@contextlib.contextmanager
def terminal_bar(quiet: bool, *columns: str) -> Iterator[bars.Progress | None]:
    """A bar of ``columns`` for the length of the block: those above, else text (rich's templates). None when
    ``quiet`` or when stderr is no terminal."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich import progress as bars
    from rich.console import Console

    special = {
        BAR: bars.BarColumn(bar_width=None),
        DONE_OF_ALL: bars.MofNCompleteColumn(),
        ELAPSED: bars.TimeElapsedColumn(),
        LEFT: bars.TimeRemainingColumn(elapsed_when_finished=True),
    }
    made = [special.get(column) or bars.TextColumn(column) for column in columns]
    with bars.Progress(*made, console=Console(stderr=True), transient=True) as bar:
        yield bar


@contextlib.contextmanager
def progress_bar(quiet: bool) -> Iterator[Progress | None]:
    """A bar for the length of the block; None when ``quiet`` or when stderr is no terminal."""
    columns = (
        *("simulating", BAR, "{task.completed:,.0f}/{task.total:,.0f} requests"),
        *("{task.fields[speed]:,.0f}/s", "at {task.fields[simulated]}", LEFT),
    )
    with terminal_bar(quiet, *columns) as bar:
        if bar is None:
            yield None
            return
        task = bar.add_task("", total=0, speed=0.0, simulated="0 s")
        started = time.perf_counter()

        def show(simulated_s: float, done: int, total: int) -> None:
            elapsed = time.perf_counter() - started
            speed = done / elapsed if elapsed > 0 else 0.0
            bar.update(task, completed=done, total=total, speed=speed, simulated=clock(simulated_s))

        yield show


@contextlib.contextmanager
def points_bar(quiet: bool, what: str = "points", bad: str = "failed") -> Iterator[Points | None]:
    """A bar over the points of a study, with their rate and the time left; None when ``quiet`` or when stderr
    is no terminal."""
    columns = ("running", BAR, DONE_OF_ALL, what, "{task.fields[rate]}", "{task.fields[bad]}", LEFT)
    with terminal_bar(quiet, *columns) as bar:
        if bar is None:
            yield None
            return
        task = bar.add_task("", total=None, bad="", rate="")
        started, before = time.perf_counter(), -1

        def show(done: int, of_these: int, total: int) -> None:
            nonlocal before
            if before < 0:  # what an earlier sweep has done took this one no time
                before = done - 1
            elapsed = time.perf_counter() - started
            bar.update(
                task,
                completed=done,
                total=total,
                bad=f"{of_these:,} {bad}" if of_these else "",
                rate=f"{(done - before) / elapsed:,.1f}/s" if elapsed > 0 else "",
            )

        yield show


def clock(seconds: float) -> str:
    """Simulated time as people say it: ``42.0 s``, ``12:05 min``, ``3:12:05 h``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 60:
        return f"{minutes}:{rest:02d} min"
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d} h"
