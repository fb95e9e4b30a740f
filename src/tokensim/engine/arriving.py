"""Requests that come one by one while time passes: the live counterparts of ``client.py`` and
``requests.py``.

The loop reads them exactly as it reads those of a workload, so the engine is the very one that simulates
offline. What differs is who knows the future: here nobody does, and the loop stops where the present ends.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from math import inf, nan

import numpy as np

from tokensim.engine.agenda import Agenda
from tokensim.engine.client import Client
from tokensim.engine.requests import Requests
from tokensim.memory import Content
from tokensim.scheduling.local import Request, Traits
from tokensim.workload.base import Segments, Workload


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request as its client sends it: a row of a ``Workload``.

    ``segments`` (id, tokens) of its prompt, of ``input_tokens`` in all (empty: nobody shares it), and
    ``output_id`` of its answer (−1: nobody will send it back): see ``Segments``. ``name`` is for tables.
    """

    input_tokens: int
    output_tokens: int
    segments: tuple[tuple[int, int], ...] = ()
    output_id: int = -1
    priority: int = 0
    adapter: int = -1
    tenant: int = 0
    session: int = -1
    name: str = ""


def no_requests() -> Workload:
    """The workload of a simulation whose requests are still to come."""
    return Workload(np.empty(0), np.empty(0, np.int64), np.empty(0, np.int64))


class LiveClient(Client):
    """Sends what it was given, at the time that was given with it, and ends the loop at ``until``.

    The loop ends where ``due_s`` is not a number: nothing is due before it, nor is it due itself.
    """

    def __init__(self, agenda: Agenda) -> None:
        super().__init__(no_requests(), agenda)
        self._coming: deque[tuple[float, int]] = deque()
        self._until_s = nan
        self.due_s = nan

    @property
    def next_s(self) -> float:
        """When the next request comes; ``inf``: nobody is announced."""
        return self._coming[0][0] if self._coming else inf

    def put(self, time_s: float, index: int) -> None:
        """Request ``index`` comes at ``time_s``, not before those that were put earlier."""
        self._coming.append((time_s, index))

    def drop(self, index: int) -> bool:
        """Request ``index`` does not come after all; whether it was still to come."""
        for entry in self._coming:
            if entry[1] == index:
                self._coming.remove(entry)
                return True
        return False

    def open(self, until_s: float) -> None:
        """Let the loop run up to ``until_s``: arrivals of that very instant come, other events wait."""
        self._until_s = until_s
        self.due_s = min(until_s, self.next_s)

    def take(self) -> int:
        """See ``Client.take``."""
        if self._coming and self._coming[0][0] <= self._until_s:
            _, index = self._coming.popleft()
            self.due_s = min(self._until_s, self.next_s)
            return index
        self.due_s = nan
        return -1


class LiveRequests(Requests):
    """Makes requests of arrivals; ``present`` are those in the system, by index.

    ``remade`` is called with the index of a request that begins anew (its replica has died).
    """

    def __init__(self) -> None:
        super().__init__(no_requests())
        self.arrivals: dict[int, Arrival] = {}
        self.present: dict[int, Request] = {}
        self.remade: list[int] = []

    def shares(self, index: int) -> bool:
        """See ``Requests.shares``."""
        return bool(self.arrivals[index].segments)

    def make(self, index: int, arrival_s: float) -> Request:
        """See ``Requests.make``."""
        if index in self.present:
            self.remade.append(index)
        arrival = self.arrivals[index]
        prompt, output = arrival.input_tokens, arrival.output_tokens
        request = Request(index, arrival_s, prompt, output, prompt + (output or 1))
        request.priority = arrival.priority
        request.traits = Traits(
            tenant=arrival.tenant,
            session=arrival.session,
            predicted_tokens=output,
            adapter=arrival.adapter,
        )
        self.present[index] = request
        return request

    def identify(self, request: Request) -> None:
        """See ``Requests.identify``; the ids of arrivals tell adapters apart already."""
        arrival = self.arrivals[request.index]
        request.shared_output = arrival.output_id >= 0
        answer = arrival.output_id if request.shared_output else -1 - request.index
        request.content = Content.of_runs(arrival.segments, answer)

    def forget(self, index: int) -> None:
        """Request ``index`` is over."""
        self.present.pop(index, None)
        self.arrivals.pop(index, None)


class Register:
    """The requests that came, as columns: what a log needs to know of them in the end."""

    def __init__(self) -> None:
        self._rows: list[tuple[float, Arrival]] = []

    def add(self, arrival_s: float, arrival: Arrival) -> None:
        """``arrival`` came at ``arrival_s``; the first one is request 0."""
        self._rows.append((arrival_s, arrival))

    def workload(self) -> Workload:
        """All of them, as a workload that can be simulated again."""
        arrivals = [arrival for _, arrival in self._rows]

        def whole(name: str) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
            return np.array([getattr(arrival, name) for arrival in arrivals], np.int64)

        def unless(name: str, plain: int) -> np.ndarray[tuple[int], np.dtype[np.int64]] | None:
            column = whole(name)
            return column if (column != plain).any() else None

        return Workload(
            np.array([time for time, _ in self._rows], np.float64),
            whole("input_tokens"),
            whole("output_tokens"),
            priority=unless("priority", 0),
            segments=_segments(arrivals),
            names=[arrival.name for arrival in arrivals] if any(a.name for a in arrivals) else None,
            tenant=unless("tenant", 0),
            session=unless("session", -1),
            adapter=unless("adapter", -1),
            predicted_tokens=whole("output_tokens"),
        )


def _segments(arrivals: list[Arrival]) -> Segments | None:
    """What the prompts share; None if nothing is known of any. A prompt of which nothing is known is one
    segment that nobody else has."""
    if not any(arrival.segments for arrival in arrivals):
        return None
    known = [one for arrival in arrivals for one, _ in arrival.segments]
    fresh = 1 + max(known + [arrival.output_id for arrival in arrivals])
    parts = [
        arrival.segments or ((fresh + row, arrival.input_tokens),) for row, arrival in enumerate(arrivals)
    ]
    return Segments(
        np.cumsum([0, *(len(part) for part in parts)]).astype(np.int64),
        np.array([one for part in parts for one, _ in part], np.int64),
        np.array([tokens for part in parts for _, tokens in part], np.int64),
        np.array([arrival.output_id for arrival in arrivals], np.int64),
    )
