"""Transfers in flight as fluid flows: every link is shared max-min fairly by the transfers that cross it.

A transfer gets the largest rate that takes nothing from one with less: rates rise together until a link is
full, whose transfers then stay where they are, and the others rise on (progressive filling; Bertsekas and
Gallager, "Data Networks", 2nd ed., 1992, section 6.5.2). Rates change only when a transfer starts or leaves
its links, and only among those that share a full link with it, directly or over others: that is all the work
of an event. A link that is not full limits nobody and connects nobody: a wide spine does not tie a thousand
transfers together. Rates are constant between events, so that ends are closed-form.

Transfers over the same links always have the same rate: they are one *flow*, which remembers how many bytes
it has given to each of its transfers. A thousand of them between two instances cost no more than one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from math import inf, isfinite

from tokensim.engine.agenda import Agenda
from tokensim.engine.fairness import Flow, Link, Transfer, shares
from tokensim.errors import SimulationError
from tokensim.metrics.log import LinkUse

STALE_ENTRIES = 64
"""Ends in the heap that may be out of date, besides three a transfer in flight, before it is made anew."""


@dataclass(frozen=True, slots=True)
class LinkSpec:
    """One direction of a link: what transfers reach on it, bytes/s, above 0 and finite."""

    name: str
    bandwidth_bytes_per_s: float


class Network:
    """Links by index, and the transfers on them.

    At ``due_s`` the next transfer ends or arrives; an event of the agenda at another time is out of date.
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
        self._flows: dict[tuple[tuple[int, ...], float], Flow] = {}
        self._ends: list[tuple[float, int, Flow | Transfer]] = []
        self.due_s = inf
        self._numbered = self._expected = 0
        for spec in links:
            self.add_link(spec)

    def add_link(self, spec: LinkSpec) -> int:
        """One more link; returns its index in paths."""
        if not (isfinite(spec.bandwidth_bytes_per_s) and spec.bandwidth_bytes_per_s > 0):
            raise SimulationError(f"link {spec.name}: a bandwidth of {spec.bandwidth_bytes_per_s} bytes/s")
        self.links.append(Link(spec.name, spec.bandwidth_bytes_per_s))
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
        transfer = Transfer(self._numbered, float(bytes_), now, done)
        transfer.latency_s = latency_s
        transfer.source, transfer.target, transfer.kind = source, target, kind
        links = tuple(dict.fromkeys(path))
        ceiling = min([most_bytes_per_s, *[self.links[index].capacity for index in links]])
        if bytes_ and ceiling < inf:
            flow = self._flows.get((links, ceiling))
            if flow is None:
                flow = Flow((links, ceiling), tuple(self.links[i] for i in links), now)
                self._flows[flow.key] = flow
            flow.join(transfer, now)
            self._share([flow], now)
        else:
            transfer.moved = transfer.size
            self._expect(transfer, now + latency_s)
        self._wake()
        return transfer

    def cancel(self, transfer: Transfer, now: float) -> None:
        """End ``transfer`` at once; its ``done`` is never called. Nothing happens if it is over already."""
        if transfer.over:
            return
        transfer.due_s = inf
        if transfer.flow is not None:
            transfer.moved = transfer.moved_by(now)
            self._share(self._release(transfer, now), now)
        self._close(transfer, now, False)
        self._wake()

    def fire(self, now: float) -> None:
        """What is due at ``now``, which is ``due_s``, ends. HOT PATH."""
        self.due_s = inf
        ends = self._ends
        arrived: list[Transfer] = []
        freed: dict[Flow, None] = {}
        while ends and ends[0][0] <= now:
            due, _, who = heappop(ends)
            if who.due_s != due:
                continue  # its rate has changed since
            who.due_s = inf
            if isinstance(who, Transfer):
                arrived.append(who)
                continue
            for transfer in who.ended():
                transfer.moved = transfer.size
                freed.update(dict.fromkeys(self._release(transfer, now)))
                if now + transfer.latency_s > now:
                    self._expect(transfer, now + transfer.latency_s)
                else:
                    arrived.append(transfer)
        if freed:
            self._share([flow for flow in freed if flow.count], now)
        arrived.sort(key=lambda transfer: transfer.number)
        for transfer in arrived:
            if not transfer.over:  # what was done for an earlier one may have cancelled it
                self._close(transfer, now, True)
                transfer.done(now)
        self._wake()

    def use(self, now: float) -> list[LinkUse]:
        """The account of every link up to ``now``, by index."""
        return [link.use(now) for link in self.links]

    def _release(self, transfer: Transfer, now: float) -> list[Flow]:
        """Take ``transfer`` off its links; returns the flows whose rate or next end may change."""
        flow = transfer.flow
        assert flow is not None
        freed = {flow: None} if flow.count > 1 else {}
        for link in flow.links:
            if link.full:
                freed.update(link.flows)
        flow.leave(transfer, now)
        if not flow.count:
            freed.pop(flow, None)
            flow.due_s = inf
            del self._flows[flow.key]
        return list(freed)

    def _close(self, transfer: Transfer, now: float, arrived: bool) -> None:
        transfer.over = True
        self.in_flight -= 1
        if self.note is not None:
            self.note(transfer, now, arrived)

    def _share(self, changed: Sequence[Flow], now: float) -> None:
        """Give the flows that ``changed``, and whom this reaches over full links, their fair rates and next
        ends. HOT PATH."""
        for flow, rate in shares(changed).items():
            if rate != flow.rate:
                flow.change(rate, now)
                self._expect(flow, flow.next_end())
        for flow in changed:  # others may be in it now, at the same rate
            if flow.next_end() != flow.due_s:
                self._expect(flow, flow.next_end())

    def _expect(self, who: Flow | Transfer, due_s: float) -> None:
        who.due_s = due_s
        self._expected += 1
        heappush(self._ends, (due_s, self._expected, who))

    def _wake(self) -> None:
        """See that the agenda has an event at the next end; those put for others are out of date then."""
        ends = self._ends
        if len(ends) > STALE_ENTRIES + 3 * self.in_flight:
            ends[:] = [entry for entry in ends if entry[2].due_s == entry[0]]
            heapify(ends)
        while ends and ends[0][2].due_s != ends[0][0]:
            heappop(ends)
        next_s = ends[0][0] if ends else inf
        if next_s != self.due_s:
            self.due_s = next_s
            if next_s < inf:
                self.agenda.transfer(next_s, self)
