"""Transfers in flight as fluid flows: every link is shared max-min fairly by the transfers that cross it.

A transfer gets the largest rate that takes nothing from one with less: rates rise together until a link is
full, whose transfers then stay where they are, and the others rise on (progressive filling; Bertsekas and
Gallager, "Data Networks", 2nd ed., 1992, section 6.5.2). Rates change only when a transfer starts or leaves
its links, and only among those that share a full link with it, directly or over others: that is all the work
of an event. A link that is not full limits nobody and connects nobody: a wide spine does not tie a thousand
transfers together. Rates are constant between events, so that ends are closed-form.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from math import inf, isfinite

from tokensim.engine.agenda import Agenda
from tokensim.errors import SimulationError
from tokensim.metrics.log import LinkUse

STALE_ENTRIES = 64
"""Entries of the heap of ends that may be out of date, besides three a transfer, before it is made anew."""


ROUNDING = 1e-9
"""A link counts as full from this share below its capacity on, and as overfull from this share above: sums of
rates drift by far less."""


@dataclass(frozen=True, slots=True)
class LinkSpec:
    """One direction of a link: what transfers reach on it, bytes/s, above 0 and finite."""

    name: str
    bandwidth_bytes_per_s: float


class Link:
    """A link in use: the transfers on it, and its account. ``load`` is the sum of their rates."""

    __slots__ = ("busy_s", "capacity", "load", "moved", "name", "peak", "since_s", "transfers")

    def __init__(self, spec: LinkSpec) -> None:
        self.name = spec.name
        self.capacity = spec.bandwidth_bytes_per_s
        self.transfers: dict[Transfer, None] = {}
        self.load = 0.0
        self.moved = 0.0
        self.busy_s = 0.0
        self.since_s = 0.0
        self.peak = 0

    @property
    def full(self) -> bool:
        """Whether its transfers leave nothing of it."""
        return self.load >= self.capacity * (1 - ROUNDING)

    def join(self, transfer: Transfer, now: float) -> None:
        """``transfer`` starts to use the link."""
        if not self.transfers:
            self.since_s = now
        self.transfers[transfer] = None
        self.peak = max(self.peak, len(self.transfers))

    def leave(self, transfer: Transfer, now: float) -> None:
        """``transfer`` ends its use of the link."""
        del self.transfers[transfer]
        self.moved += transfer.moved
        self.load -= transfer.rate
        if not self.transfers:
            self.busy_s += now - self.since_s
            self.load = 0.0  # no rounding is left over

    def use(self, now: float) -> LinkUse:
        """The account up to ``now``, transfers in flight included."""
        moved = self.moved + sum(transfer.moved_by(now) for transfer in self.transfers)
        busy_s = self.busy_s + (now - self.since_s if self.transfers else 0.0)
        return LinkUse(self.name, self.capacity, moved, busy_s, self.peak)


class Transfer:
    """One transfer: ``size`` bytes over ``links`` from ``start_s`` on, at ``rate`` bytes/s now.

    ``ceiling`` is the rate it would get alone. It leaves its links at ``due_s``, or, when it has left them,
    arrives then. ``moved`` bytes were through by ``settled_s``.
    """

    __slots__ = (
        "ceiling",
        "done",
        "due_s",
        "kind",
        "latency_s",
        "links",
        "moved",
        "number",
        "over",
        "rate",
        "settled_s",
        "size",
        "source",
        "start_s",
        "target",
    )

    def __init__(
        self, number: int, size: float, links: tuple[Link, ...], now: float, done: Callable[[float], None]
    ) -> None:
        self.number = number
        self.size = size
        self.links = links
        self.start_s = self.settled_s = now
        self.done = done
        self.latency_s = 0.0
        self.ceiling = inf
        self.rate = 0.0
        self.moved = 0.0
        self.due_s = inf
        self.over = False
        self.source = self.target = -1
        self.kind = "kv"

    def moved_by(self, now: float) -> float:
        """Bytes that are through at ``now``."""
        return min(self.size, self.moved + self.rate * (now - self.settled_s)) if self.rate else self.moved


class Network:
    """Links by index, and the transfers on them.

    ``note(transfer, now, arrived)`` is called for each one that ends: when it arrived, or was cancelled. Of
    transfers that end at one instant the one sent first comes first.
    """

    def __init__(
        self,
        agenda: Agenda,
        links: Sequence[LinkSpec] = (),
        note: Callable[[Transfer, float, bool], None] | None = None,
    ) -> None:
        self.agenda = agenda
        self.note = note
        self.links: list[Link] = []
        self.in_flight = 0
        self._ends: list[tuple[float, int, Transfer]] = []
        self._due_s = inf
        self._numbered = 0
        for spec in links:
            self.add_link(spec)

    def add_link(self, spec: LinkSpec) -> int:
        """One more link; returns its index in paths."""
        if not (isfinite(spec.bandwidth_bytes_per_s) and spec.bandwidth_bytes_per_s > 0):
            raise SimulationError(f"link {spec.name}: a bandwidth of {spec.bandwidth_bytes_per_s} bytes/s")
        self.links.append(Link(spec))
        return len(self.links) - 1

    def send(
        self,
        path: Sequence[int],
        bytes_: float,
        now: float,
        done: Callable[[float], None],
        *,
        latency_s: float = 0.0,
        most_bytes_per_s: float = inf,
        source: int = -1,
        target: int = -1,
        kind: str = "kv",
    ) -> Transfer:
        """Start to move ``bytes_`` over all links of ``path`` at once; the loop calls ``done(time)`` at their
        end.

        ``latency_s`` comes once, after the last byte has left. ``most_bytes_per_s``: what the ends can do.
        ``source``, ``target`` (instances; −1: none) and ``kind`` are for the record. An empty path takes no
        time but the latency. Raises ``SimulationError`` for sizes and rates that cannot be.
        """
        if not (isfinite(bytes_) and bytes_ >= 0 and 0 <= latency_s < inf and most_bytes_per_s > 0):
            raise SimulationError(
                f"a transfer of {bytes_} bytes with latency {latency_s} s, at most {most_bytes_per_s} bytes/s"
            )
        self._numbered += 1
        self.in_flight += 1
        links = tuple(self.links[index] for index in dict.fromkeys(path))
        transfer = Transfer(self._numbered, float(bytes_), links, now, done)
        transfer.latency_s = latency_s
        transfer.source, transfer.target, transfer.kind = source, target, kind
        transfer.ceiling = min([most_bytes_per_s, *[link.capacity for link in links]])
        if bytes_ and transfer.ceiling < inf:
            for link in links:
                link.join(transfer, now)
            self._share([transfer], now)
        else:
            transfer.moved, transfer.links = transfer.size, ()
            self._expect(transfer, now + latency_s)
        self._wake()
        return transfer

    def cancel(self, transfer: Transfer, now: float) -> None:
        """End ``transfer`` at once; its ``done`` is never called. Nothing happens if it is over already."""
        if transfer.over:
            return
        transfer.moved = transfer.moved_by(now)
        transfer.due_s = inf
        self._share(self._release(transfer, now), now)
        self._close(transfer, now, False)
        self._wake()

    def fire(self, now: float) -> None:
        """What is due at ``now`` ends; called by the loop for each event that this network put on the agenda.
        HOT PATH.
        """
        if now != self._due_s:
            return  # put before an earlier end was known, and put again since
        self._due_s = inf
        ends = self._ends
        arrived: list[Transfer] = []
        freed: dict[Transfer, None] = {}
        while ends and ends[0][0] <= now:
            due, _, transfer = heappop(ends)
            if transfer.due_s != due:
                continue  # its rate has changed since
            if transfer.links:
                transfer.moved = transfer.size
                freed.update(dict.fromkeys(self._release(transfer, now)))
                if now + transfer.latency_s > now:
                    self._expect(transfer, now + transfer.latency_s)
                    continue
            transfer.due_s = inf
            arrived.append(transfer)
        self._share([transfer for transfer in freed if transfer.links], now)
        arrived.sort(key=lambda transfer: transfer.number)
        for transfer in arrived:
            if not transfer.over:  # what was done for an earlier one may have cancelled it
                self._close(transfer, now, True)
                transfer.done(now)
        self._wake()

    def use(self, now: float) -> list[LinkUse]:
        """The account of every link up to ``now``, by index."""
        return [link.use(now) for link in self.links]

    def _release(self, transfer: Transfer, now: float) -> list[Transfer]:
        """Take ``transfer`` off its links; returns those that may get more of them now."""
        freed: dict[Transfer, None] = {}
        for link in transfer.links:
            full = link.full
            link.leave(transfer, now)
            if full:
                freed.update(link.transfers)
        transfer.links, transfer.rate = (), 0.0
        return list(freed)

    def _close(self, transfer: Transfer, now: float, arrived: bool) -> None:
        transfer.over = True
        self.in_flight -= 1
        if self.note is not None:
            self.note(transfer, now, arrived)

    def _share(self, changed: Iterable[Transfer], now: float) -> None:
        """Give ``changed`` transfers, and whom this reaches over full links, their fair rates."""
        reached = dict.fromkeys(changed)
        limits: dict[Link, None] = {}
        new = list(reached)
        while True:
            while new:
                for link in new.pop().links:
                    if link.full and link not in limits:
                        new += _bind(link, limits, reached)
            rates = fair_rates(list(reached), list(limits))
            loads: dict[Link, float] = {}
            for transfer, rate in rates.items():
                for link in transfer.links:
                    if link not in limits:
                        loads[link] = loads.get(link, link.load) + (rate - transfer.rate)
            overfull = [link for link, load in loads.items() if load > link.capacity * (1 + ROUNDING)]
            if not overfull:
                break
            for link in overfull:
                new += _bind(link, limits, reached)
        for transfer, rate in rates.items():
            if rate != transfer.rate:
                transfer.moved = transfer.moved_by(now)
                for link in transfer.links:
                    link.load += rate - transfer.rate
                transfer.settled_s, transfer.rate = now, rate
                self._expect(transfer, now + (transfer.size - transfer.moved) / rate)

    def _expect(self, transfer: Transfer, due_s: float) -> None:
        transfer.due_s = due_s
        heappush(self._ends, (due_s, transfer.number, transfer))

    def _wake(self) -> None:
        """See that the agenda has an event at the next end. One that is too early does no harm: it finds
        nothing due."""
        ends = self._ends
        if len(ends) > STALE_ENTRIES + 3 * self.in_flight:
            ends[:] = [entry for entry in ends if entry[2].due_s == entry[0]]
            heapify(ends)
        while ends and ends[0][2].due_s != ends[0][0]:
            heappop(ends)
        if ends and ends[0][0] < self._due_s:
            self._due_s = ends[0][0]
            self.agenda.transfer(self._due_s, self.fire)


def _bind(link: Link, limits: dict[Link, None], reached: dict[Transfer, None]) -> list[Transfer]:
    """Let ``link`` limit its transfers; returns those that were not ``reached`` before."""
    limits[link] = None
    new = [transfer for transfer in link.transfers if transfer not in reached]
    reached.update(dict.fromkeys(new))
    return new


def fair_rates(transfers: Sequence[Transfer], links: Sequence[Link]) -> dict[Transfer, float]:
    """Max-min fair rates (bytes/s) of ``transfers``, which hold all that cross any of ``links``; other links
    limit them by their ceilings only."""
    spare = {link: link.capacity for link in links}
    waiting = {link: len(link.transfers) for link in links}
    by_ceiling = sorted(transfers, key=lambda transfer: transfer.ceiling)
    rates: dict[Transfer, float] = {}
    low = 0
    level = 0.0
    while len(rates) < len(transfers):
        full: Link | None = None
        share = inf
        for link, room in spare.items():
            if room / waiting[link] < share:
                full, share = link, room / waiting[link]
        share = max(share, level)  # levels rise but for rounding
        settled: list[Transfer] = []
        while low < len(by_ceiling) and by_ceiling[low].ceiling <= share:
            if by_ceiling[low] not in rates:
                settled.append(by_ceiling[low])
            low += 1
        if not settled:
            assert full is not None  # a transfer below its ceiling is held back by a link
            settled = [transfer for transfer in full.transfers if transfer not in rates]
            level = share
        for transfer in settled:
            rates[transfer] = rate = min(share, transfer.ceiling)
            for link in transfer.links:
                if link in spare:
                    spare[link] -= rate
                    waiting[link] -= 1
                    if not waiting[link]:
                        del spare[link], waiting[link]
    return rates
