"""Lets simulated time pass with the clock, and hands every token to its answer when its time has come.

No task and no polling: a timer of the event loop rings when the next thing is due, an arrival rings it
sooner. How late a token leaves is measured where it is written (``lateness``, real seconds).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import inf
from typing import Protocol

from tokensim.assemble.live import LiveCluster
from tokensim.engine.arriving import Arrival
from tokensim.engine.live import AGAIN
from tokensim.serve.asking import ApiError
from tokensim.serve.clock import Clock
from tokensim.serve.histogram import Histogram

LATENESS_BOUNDS = (
    *(0.0005, 0.001, 0.0015, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075),
    *(0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0),
)
"""Seconds."""

LONGEST_NAP_S = 60.0
"""Real seconds after which the timer is set anew, however far the next event lies ahead."""


class Listener(Protocol):
    """Who waits for the tokens of one request."""

    def token(self, time_s: float) -> None:
        """One more token, at the simulated ``time_s``."""
        ...

    def again(self) -> None:
        """The request begins anew: the tokens that were there come once more."""
        ...

    def end(self, status: int, time_s: float) -> None:
        """The request is over (``metrics.recorder``: FINISHED, …); after its last token, if it has any."""
        ...

    def break_off(self, error: ApiError) -> None:
        """Nobody goes on serving: what has not come will not."""
        ...


class Pacer:
    """Drives ``cluster`` by ``clock``; ``failed`` is called once if the simulation breaks down."""

    def __init__(self, cluster: LiveCluster, clock: Clock, failed: Callable[[Exception], None]) -> None:
        self.live = cluster.simulation
        self.clock = clock
        self.lateness = Histogram(LATENESS_BOUNDS)
        self.error: Exception | None = None
        self._failed = failed
        self._listeners: dict[int, Listener] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.Handle | None = None
        self._rings_s = inf  # simulated
        self._last_s = 0.0  # the last arrival

    def send(self, arrival: Arrival, listener: Listener, time_s: float) -> int:
        """``arrival`` comes at ``time_s``, which is no earlier than ``earliest_s``; its tokens go to
        ``listener``. Returns its index."""
        index = self.live.submit(arrival, time_s)
        self._last_s = time_s
        self._listeners[index] = listener
        self.ring()
        return index

    @property
    def earliest_s(self) -> float:
        """Simulated time is there already: nothing can come before."""
        return max(self.live.now, self._last_s)

    def leave(self, index: int) -> None:
        """Nobody waits for request ``index`` any more."""
        if self._listeners.pop(index, None) is not None and self.error is None:
            self.tick()
            self.live.cancel(index)
            self.ring()

    @property
    def streams(self) -> int:
        """Requests that somebody waits for."""
        return len(self._listeners)

    def listeners(self) -> list[Listener]:
        """All who wait for something."""
        return list(self._listeners.values())

    def ring(self) -> None:
        """Something has changed: look as soon as the event loop can."""
        if self._rings_s > 0.0 and self.error is None:
            self._set(0.0, None)

    def stop(self) -> None:
        """Time stands still from now on."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._rings_s = inf

    def tick(self) -> None:
        """Let the simulation come to the present, and everybody have what is due."""
        if self.error is not None:
            return
        listeners = self._listeners
        try:
            for batch in self.live.advance(max(self.clock.now(), self.live.now)):
                time_s = batch.time_s
                for index in batch.tokens:
                    if (listener := listeners.get(index)) is not None:
                        listener.token(time_s)
                for index, status in batch.ends:
                    if status == AGAIN:
                        if (listener := listeners.get(index)) is not None:
                            listener.again()
                    elif (listener := listeners.pop(index, None)) is not None:
                        listener.end(status, time_s)
                    self.live.intakes.pop(index, None)
        except Exception as error:
            self.error = error
            self.stop()
            self._failed(error)

    def _rung(self) -> None:
        self._rings_s = inf
        self._timer = None
        self.tick()
        due_s = self.live.next_s
        if due_s < self._rings_s and self.error is None:
            self._set(due_s, min(max(self.clock.until(due_s), 0.0), LONGEST_NAP_S))

    def _set(self, due_s: float, delay_s: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        self._rings_s = due_s
        if delay_s is None:
            self._timer = self._loop.call_soon(self._rung)
        else:
            self._timer = self._loop.call_later(delay_s, self._rung)
