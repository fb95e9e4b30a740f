"""What the event loops of ``serve`` and ``record`` wait with: timers that ring within microseconds.

``epoll_wait`` counts in milliseconds, and Python rounds up: a timer of a plain asyncio loop is late by half a
millisecond on average, and a token that a simulated GPU gives every 8 ms would be too. ``pselect`` counts in
nanoseconds, and may wait for the epoll descriptor itself.
"""

from __future__ import annotations

import asyncio
import select
import selectors

MOST_FD = 1024
"""``select`` takes descriptors below FD_SETSIZE only (glibc)."""


class FineSelector(selectors.DefaultSelector):
    """The system's own selector, whose timeouts are exact where it would round them up (Linux)."""

    def __init__(self) -> None:
        super().__init__()
        epoll = isinstance(self, getattr(selectors, "EpollSelector", ()))
        self._fine = epoll and self.fileno() < MOST_FD

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """See ``selectors.BaseSelector``."""
        if self._fine and timeout is not None and timeout > 0.0:
            select.select((self.fileno(),), (), (), timeout)
            timeout = 0.0
        return super().select(timeout)


def fine_loop() -> asyncio.AbstractEventLoop:
    """A new event loop that waits with a ``FineSelector``."""
    return asyncio.SelectorEventLoop(FineSelector())
