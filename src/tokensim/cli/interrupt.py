"""Ctrl-C during a simulation is taken between two events, so that the partial results are consistent.

An interrupt in the middle of an event could leave a request half finished. The first Ctrl-C is therefore only noted,
and raised when the engine next reports its progress, a few times a second; a second one is raised at once.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

from tokensim.cli.progress import Progress


@contextlib.contextmanager
def interruptible(progress: Progress | None) -> Iterator[Progress]:
    """``progress`` (None: nobody looks) for the length of the block, raising ``KeyboardInterrupt`` after a Ctrl-C."""
    asked = False

    def note(signum: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True

    def report(simulated_s: float, done: int, total: int) -> None:
        if progress is not None:
            progress(simulated_s, done, total)
        if asked and done < total:
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, note)
    try:
        yield report
    finally:
        signal.signal(signal.SIGINT, before)
