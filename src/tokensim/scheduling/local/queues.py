"""Waiting queues: who is next, who was sent back. Each is the order that one policy asks for."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from heapq import heapify, heappop, heappush
from typing import Protocol

from tokensim.errors import SimulationError
from tokensim.scheduling.local.request import Request


class WaitingQueue(Collection[Request], Protocol):
    """Requests that wait for admission, fresh and preempted ones alike."""

    def add(self, request: Request) -> bool:
        """Take a new request; True if it is now the head, or may be."""
        ...

    def put_back(self, request: Request) -> None:
        """Take a preempted request."""
        ...

    def head(self) -> Request:
        """The next request to admit."""
        ...

    def pop(self) -> Request:
        """Remove and return the head."""
        ...

    def remove(self, request: Request) -> None:
        """Remove a request from wherever it stands."""
        ...


class Backlog:
    """What those in a queue needed when they came, as long as they are there: ``prefill_tokens`` of prompts
    (and of what preempted ones compute again), ``decode_tokens`` of output."""

    def __init__(self) -> None:
        super().__init__()
        self.prefill_tokens = 0
        self.decode_tokens = 0
        self._needs: dict[Request, tuple[int, int]] = {}

    def look_again(self, request: Request) -> None:
        """A token of ``request`` has come that was in flight when it was preempted."""
        if request in self._needs:
            self._went(request)
            self._came(request)

    def _came(self, request: Request) -> None:
        self._needs[request] = needs = request.tokens - request.computed, request.length - request.tokens
        self.prefill_tokens += needs[0]
        self.decode_tokens += needs[1]

    def _went(self, request: Request) -> None:
        prefill, decode = self._needs.pop(request)
        self.prefill_tokens -= prefill
        self.decode_tokens -= decode


class Fifo(Backlog, deque[Request]):
    """First come, first served; a preempted request goes to the front."""

    def add(self, request: Request) -> bool:
        """Append; True if nobody waited."""
        self._came(request)
        self.append(request)
        return len(self) == 1

    def put_back(self, request: Request) -> None:
        """To the front."""
        self._came(request)
        self.appendleft(request)

    def head(self) -> Request:
        """The oldest."""
        return self[0]

    def pop(self) -> Request:  # type: ignore[override]
        """Remove and return the oldest."""
        request = self.popleft()
        self._went(request)
        return request

    def remove(self, request: Request) -> None:
        """Remove from wherever it stands."""
        super().remove(request)
        self._went(request)


Rank = tuple[float, ...]
"""Numbers that say where a request stands; the lowest first."""


class ByRank(Backlog):
    """Ordered by a rank that does not change while a request waits. A preempted request is just pushed
    again."""

    def __init__(self, rank: Callable[[Request], Rank]) -> None:
        super().__init__()
        self._rank = rank
        self._heap: list[tuple[Rank, int, Request]] = []
        self._pushed = 0

    def __len__(self) -> int:
        return len(self._heap)

    def __iter__(self) -> Iterator[Request]:
        return (entry[2] for entry in self._heap)

    def __contains__(self, request: object) -> bool:
        return any(entry[2] is request for entry in self._heap)

    def add(self, request: Request) -> bool:
        """Push; True if it became the head."""
        self._came(request)
        self._pushed += 1
        heappush(self._heap, (self._rank(request), self._pushed, request))
        return self._heap[0][2] is request

    def put_back(self, request: Request) -> None:
        """Push again."""
        self.add(request)

    def head(self) -> Request:
        """The lowest rank."""
        return self._heap[0][2]

    def pop(self) -> Request:
        """Remove and return the lowest rank."""
        request = heappop(self._heap)[2]
        self._went(request)
        return request

    def remove(self, request: Request) -> None:
        """Remove from the middle; linear."""
        self._heap = [entry for entry in self._heap if entry[2] is not request]
        heapify(self._heap)
        self._went(request)


def urgency(request: Request) -> Rank:
    """(priority, arrival, index)."""
    return request.priority, request.arrival_s, request.index


class ByPriority(ByRank):
    """Ordered by (priority, arrival time, index): vLLM's priority policy."""

    def __init__(self) -> None:
        super().__init__(urgency)


class Ordered(Backlog):
    """In the order of a user's function, asked anew whenever the queue has changed."""

    def __init__(self, order: Callable[[list[Request]], Iterable[Request]]) -> None:
        super().__init__()
        self._order = order
        self._requests: list[Request] = []
        self._sorted = True

    def __len__(self) -> int:
        return len(self._requests)

    def __iter__(self) -> Iterator[Request]:
        return iter(self._requests)

    def __contains__(self, request: object) -> bool:
        return request in self._requests

    def add(self, request: Request) -> bool:
        """Add; the order may put it first, so it may be the head."""
        self._came(request)
        self._requests.append(request)
        self._sorted = False
        return True

    def put_back(self, request: Request) -> None:
        """Add at the front, for orders that keep equals as they stand."""
        self._came(request)
        self._requests.insert(0, request)
        self._sorted = False

    def head(self) -> Request:
        """The first in the user's order."""
        if not self._sorted:
            ordered = list(self._order(list(self._requests)))
            if len(ordered) != len(self._requests) or set(ordered) != set(self._requests):
                raise SimulationError("admission_order must return the waiting requests, each once")
            self._requests, self._sorted = ordered, True
        return self._requests[0]

    def pop(self) -> Request:
        """Remove and return the head."""
        request = self.head()
        del self._requests[0]
        self._went(request)
        return request

    def remove(self, request: Request) -> None:
        """Remove from wherever it stands."""
        self._requests.remove(request)
        self._went(request)
