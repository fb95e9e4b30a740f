"""Links, the flows on them, the transfers of a flow; and what a fair share is.

A flow is all transfers in flight over the same links with the same limit of their ends. Its ``served`` bytes
are what a transfer that was there from its start would have got; a transfer that joins when ``served`` is s
ends when it is s plus its size, whatever the rate was in between.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from heapq import heappop, heappush
from math import inf

from tokensim.metrics.log import LinkUse

ROUNDING = 1e-9
"""A link counts as full from this share below its capacity on, and as overfull from this share above: sums of
rates drift by far less."""


class Link:
    """A link in use. ``load`` is the sum of the rates on it; the rest is its account."""

    __slots__ = ("busy_s", "capacity", "count", "flows", "load", "moved", "name", "peak", "since_s")

    def __init__(self, name: str, capacity: float) -> None:
        self.name = name
        self.capacity = capacity
        self.flows: dict[Flow, None] = {}
        self.count = 0
        self.load = 0.0
        self.moved = 0.0
        self.busy_s = 0.0
        self.since_s = 0.0
        self.peak = 0

    @property
    def full(self) -> bool:
        """Whether its transfers leave nothing of it."""
        return self.load >= self.capacity * (1 - ROUNDING)

    def join(self, rate: float, now: float) -> None:
        """One more transfer, at ``rate`` until shares are made anew."""
        if not self.count:
            self.since_s = now
        self.count += 1
        self.load += rate
        self.peak = max(self.peak, self.count)

    def leave(self, rate: float, moved: float, now: float) -> None:
        """One transfer less, which moved ``moved`` bytes."""
        self.count -= 1
        self.moved += moved
        self.load -= rate
        if not self.count:
            self.busy_s += now - self.since_s
            self.load = 0.0  # no rounding is left over

    def use(self, now: float) -> LinkUse:
        """The account up to ``now``, transfers in flight included."""
        moved = self.moved + sum(flow.moved_by(now) for flow in self.flows)
        busy_s = self.busy_s + (now - self.since_s if self.count else 0.0)
        return LinkUse(self.name, self.capacity, moved, busy_s, self.peak)


class Transfer:
    """One transfer of ``size`` bytes that was sent at ``start_s``.

    While it flows it is part of ``flow`` and ends when that has ``served`` it up to ``goal``; then it is
    under way for its latency and arrives at ``due_s``. ``moved``: bytes, once it has left its links.
    """

    __slots__ = (
        "done",
        "due_s",
        "flow",
        "goal",
        "kind",
        "latency_s",
        "moved",
        "number",
        "over",
        "size",
        "source",
        "start_s",
        "target",
    )

    def __init__(self, number: int, size: float, now: float, done: Callable[[float], None]) -> None:
        self.number = number
        self.size = size
        self.start_s = now
        self.done = done
        self.flow: Flow | None = None
        self.goal = 0.0
        self.latency_s = 0.0
        self.moved = 0.0
        self.due_s = inf
        self.over = False
        self.source = self.target = -1
        self.kind = "kv"

    @property
    def rate(self) -> float:
        """Bytes/s now."""
        return 0.0 if self.flow is None else self.flow.rate

    def moved_by(self, now: float) -> float:
        """Bytes that are through at ``now``."""
        if self.flow is None:
            return self.moved
        return min(max(self.size - (self.goal - self.flow.served_by(now)), 0.0), self.size)


class Flow:
    """The ``count`` transfers over ``links``, each at ``rate`` bytes/s, at most ``ceiling``.

    ``served`` bytes each by ``settled_s``; the first of them ends at ``due_s``.
    """

    __slots__ = (
        "_goals",
        "ceiling",
        "count",
        "due_s",
        "key",
        "links",
        "rate",
        "served",
        "settled_s",
    )

    def __init__(self, key: tuple[tuple[int, ...], float], links: tuple[Link, ...], now: float) -> None:
        self.key = key
        self.links = links
        self.ceiling = key[1]
        self.count = 0
        self.rate = 0.0
        self.served = 0.0
        self.settled_s = now
        self.due_s = inf
        self._goals: list[tuple[float, int, Transfer]] = []
        for link in links:
            link.flows[self] = None

    def served_by(self, now: float) -> float:
        """Bytes that each transfer has got by ``now``."""
        return self.served + self.rate * (now - self.settled_s)

    def moved_by(self, now: float) -> float:
        """Bytes that all transfers in flight have got by ``now``."""
        return sum(transfer.moved_by(now) for _, _, transfer in self._goals if transfer.flow is self)

    def join(self, transfer: Transfer, now: float) -> None:
        """One more transfer, at the rate of the others until shares are made anew."""
        transfer.flow = self
        transfer.goal = self.served_by(now) + transfer.size
        heappush(self._goals, (transfer.goal, transfer.number, transfer))
        self.count += 1
        for link in self.links:
            link.join(self.rate, now)

    def leave(self, transfer: Transfer, now: float) -> None:
        """``transfer`` is through, or gives up."""
        transfer.flow = None
        self.count -= 1
        for link in self.links:
            link.leave(self.rate, transfer.moved, now)
            if not self.count:
                del link.flows[self]

    def ended(self) -> Iterator[Transfer]:
        """The transfers that end at ``due_s``, when the first of them does; called then."""
        first = self._goals[0][0]
        self.settled_s += (first - self.served) / self.rate
        self.served = first
        while self._goals and self._goals[0][0] <= first:
            transfer = heappop(self._goals)[2]
            if transfer.flow is self:
                yield transfer

    def change(self, rate: float, now: float) -> None:
        """Serve at ``rate`` from ``now`` on."""
        self.served = self.served_by(now)
        self.settled_s = now
        for link in self.links:
            link.load += self.count * (rate - self.rate)
        self.rate = rate

    def next_end(self) -> float:
        """When the first transfer ends at this rate."""
        goals = self._goals
        while goals[0][2].flow is not self:
            heappop(goals)  # it gave up
        return self.settled_s + max(goals[0][0] - self.served, 0.0) / self.rate


def shares(changed: Sequence[Flow]) -> dict[Flow, float]:
    """Fair rates of the flows that ``changed`` and of all that this reaches over full links. HOT PATH."""
    if len(changed) == 1 and all(len(link.flows) == 1 for link in changed[0].links):
        flow = changed[0]  # nobody else is on its links
        return {flow: min([flow.ceiling, *[link.capacity / flow.count for link in flow.links]])}
    reached = dict.fromkeys(changed)
    limits: dict[Link, None] = {}
    new = list(changed)
    while True:
        while new:
            for link in new.pop().links:
                if link.full and link not in limits:
                    new += _bind(link, limits, reached)
        rates = fair_rates(list(reached), list(limits))
        loads: dict[Link, float] = {}
        for flow, rate in rates.items():
            for link in flow.links:
                if link not in limits:
                    loads[link] = loads.get(link, link.load) + flow.count * (rate - flow.rate)
        overfull = [link for link, load in loads.items() if load > link.capacity * (1 + ROUNDING)]
        if not overfull:
            return rates
        for link in overfull:
            new += _bind(link, limits, reached)


def _bind(link: Link, limits: dict[Link, None], reached: dict[Flow, None]) -> list[Flow]:
    """Let ``link`` limit its flows; returns those that were not ``reached`` before."""
    limits[link] = None
    new = [flow for flow in link.flows if flow not in reached]
    reached.update(dict.fromkeys(new))
    return new


def fair_rates(flows: Sequence[Flow], links: Sequence[Link]) -> dict[Flow, float]:
    """Max-min fair rates (bytes/s) of a transfer of each of ``flows``, which hold all that cross any of
    ``links``; other links limit them by their ceilings only."""
    spare = {link: link.capacity for link in links}
    waiting = {link: link.count for link in links}
    by_ceiling = sorted(flows, key=lambda flow: flow.ceiling)
    rates: dict[Flow, float] = {}
    low = 0
    level = 0.0
    while len(rates) < len(flows):
        full: Link | None = None
        share = inf
        for link, room in spare.items():
            if room / waiting[link] < share:
                full, share = link, room / waiting[link]
        share = max(share, level)  # levels rise but for rounding
        settled: list[Flow] = []
        while low < len(by_ceiling) and by_ceiling[low].ceiling <= share:
            if by_ceiling[low] not in rates:
                settled.append(by_ceiling[low])
            low += 1
        if not settled:
            assert full is not None  # a flow below its ceiling is held back by a link
            settled = [flow for flow in full.flows if flow not in rates]
            level = share
        for flow in settled:
            rates[flow] = rate = min(share, flow.ceiling)
            for link in flow.links:
                if link in spare:
                    spare[link] -= rate * flow.count
                    waiting[link] -= flow.count
                    if not waiting[link]:
                        del spare[link], waiting[link]
    return rates
