"""Ctrl-C is taken at good moments: before the simulation or between two of its events, not amid writing.

An interrupt in the middle of an event would leave a request half finished, and in the middle of an import
half a library. So the first Ctrl-C is noted, and raised where the command asks for it; a second one is raised
at once.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Any

import typer

from tokensim.cli import INCOMPLETE
from tokensim.cli.progress import Points, Progress


class Interrupt:
    """Catches Ctrl-C for the length of a ``with`` block."""

    def __init__(self) -> None:
        self._asked = False
        self._before: Any = signal.SIG_DFL

    def __enter__(self) -> Interrupt:
        self._before = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.signal(signal.SIGINT, self._before)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True

    def check(self) -> None:
        """Raise ``KeyboardInterrupt`` if Ctrl-C was pressed."""
        if self._asked:
            raise KeyboardInterrupt

    def between(self, progress: Points | None) -> Points:
        """``progress`` over the points of a study (None: nobody looks), with a check after each but the
        last."""

        def report(done: int, bad: int, total: int) -> None:
            if progress is not None:
                progress(done, bad, total)
            if done < total:
                self.check()

        return report

    def watch(self, progress: Progress | None) -> Progress:
        """``progress`` (None: nobody looks) with a check at each call before the last."""

        def report(simulated_s: float, done: int, total: int) -> None:
            if progress is not None:
                progress(simulated_s, done, total)
            if done < total:
                self.check()

        return report


@contextlib.contextmanager
def told_when_interrupted(hint: str = "") -> Iterator[None]:
    """For commands that have nothing to show when Ctrl-C ends them: one line, with a ``hint``, and exit."""
    try:
        yield
    except KeyboardInterrupt:
        typer.echo(f"error: interrupted{hint}", err=True)
        raise typer.Exit(INCOMPLETE) from None
