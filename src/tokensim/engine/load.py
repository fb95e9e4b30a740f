"""What a router sees of the instances: exact at any instant, without advancing anyone.

Each rank has a row: where it stands in its run of equal steps, and what was left to do when the run began
(``LocalScheduler.outlook``). How many of the run's steps have been scheduled by now is the root of a
quadratic, and all that moves is linear in it, so that a whole column, over all ranks, is a few operations on
arrays. A row is written anew only if its rank took a decision or a request since the last look: an arrival
costs what happened since the one before, not the number of instances.

With a staleness, a row is what it was at the last multiple of it: the first event of a rank after that
moment keeps the row as it stood. Real routers scrape their engines' metrics like that (llm-d's endpoint
picker, production-stack), and these then do not contain what the router has sent since; what it counts
itself, requests outstanding, it knows at once; and what caches hold is pushed to it (KV events).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from typing import Any

import numpy as np

from tokensim.engine.prefixes import Prefixes
from tokensim.engine.rows import Rows
from tokensim.errors import asked
from tokensim.scheduling.cluster import GlobalScheduler, Target
from tokensim.scheduling.local import Request
from tokensim.workload.base import Floats, Ints


class TargetLoad:
    """One instance; see ``scheduling.cluster.Load``."""

    def __init__(self, loads: ClusterLoads, slot: int, target: Target) -> None:
        self._loads = loads
        self._slot = slot
        self._self = [target]

    @property
    def outstanding_requests(self) -> int:
        """See ``Load``."""
        return self._count("outstanding_requests")

    @property
    def outstanding_tokens(self) -> int:
        """See ``Load``."""
        return self._count("outstanding_tokens")

    @property
    def running(self) -> int:
        """See ``Load``."""
        return self._count("running")

    @property
    def waiting(self) -> int:
        """See ``Load``."""
        return self._count("waiting")

    @property
    def kv_use(self) -> float:
        """See ``Load``."""
        return float(self._loads.column("kv_use")[self._slot])

    @property
    def free_blocks(self) -> int:
        """See ``Load``."""
        return self._count("free")

    @property
    def predicted_work_s(self) -> float:
        """See ``Load``."""
        return float(self._loads.column("work_s")[self._slot])

    def cached_prefix(self, request: Request) -> int:
        """See ``Load``."""
        return int(self._loads.prefix_tokens(request, self._self)[0])

    def predicted_ttft_s(self, request: Request) -> float:
        """See ``Load``."""
        return float(self._loads.ttft_s(request, self._self)[0])

    def _count(self, name: str) -> int:
        return int(self._loads.column(name)[self._slot])


class ClusterLoads:
    """All instances; see ``scheduling.cluster.Loads``.

    ``transfer`` says how long KV takes on its way from one target to another: (seconds, seconds a token);
    None: no time, or nobody moves any. ``counts``: a router wants to know what is sent and what ends;
    ``active``: one reads loads.
    """

    def __init__(self, staleness_s: float = 0.0) -> None:
        self.active = False
        self.counts = False
        self.now = 0.0
        self.transfer: Callable[[Any, Any], tuple[float, float]] | None = None
        self._staleness_s = staleness_s
        self._rows = Rows(staleness_s)
        self._prefixes = Prefixes()
        self._routers: list[GlobalScheduler] = []
        self._told: list[GlobalScheduler] = []  # those that want to know what is sent and what ends
        self._targets: list[Any] = []  # by slot
        self._slots: dict[Any, int] = {}
        self._up: list[Any] = []
        self._sent: dict[Request, int] = {}  # to which slot
        self._origin: dict[int, int] = {}  # by index of the request: the slot that it was last sent to
        self._ways: dict[int, tuple[Floats, Floats]] = {}  # from a slot: ``transfer`` to each
        self._transit: dict[Request, tuple[int, int]] = {}  # on their way through a front end: slot, tokens
        self._outstanding = np.zeros(0, np.int64)
        self._transit_tokens = np.zeros(0)
        self._price = np.zeros(0)
        self._ends: list[tuple[float, int, int, Request]] = []  # a heap: who ends when, now or soon
        self._chosen: Sequence[Any] = ()
        self._where: Any = slice(None)
        self._mask = 0

    # Told by the simulation.

    def serve(self, router: GlobalScheduler) -> None:
        """``router`` reads loads from here, and is told what it wants to know."""
        router.loads = self
        self._routers.append(router)
        kind = type(router)
        if kind.sent is not GlobalScheduler.sent or kind.finished is not GlobalScheduler.finished:
            self._told.append(router)
        if router.reads_load:
            self.activate()
        self.counts = self.active or bool(self._told)

    def activate(self) -> None:
        """Somebody reads loads."""
        if not self.active:
            self.active = self.counts = True
            for target in self._targets:
                self._add(target)

    def join(self, target: Any) -> None:
        """``target`` is one of the cluster from now on."""
        slot = self._slots[target] = len(self._targets)
        target.load = TargetLoad(self, slot, target)
        self._targets.append(target)
        self._ways.clear()
        self._chosen = ()
        self._outstanding = np.append(self._outstanding, 0)
        self._transit_tokens = np.append(self._transit_tokens, 0.0)
        self._price = np.append(self._price, target.pool.price_per_hour_usd)
        if self.active:
            self._add(target)

    def _add(self, target: Any) -> None:
        self._rows.add(target)
        self._prefixes.add(target)

    def members(self, up: list[Any]) -> None:
        """These are the targets that can be chosen from now on."""
        before, self._up = self._up, up
        self._ways.clear()
        self._chosen = ()
        for router in self._routers:
            for target in before:
                if target not in up:
                    asked("global scheduler", router, "left", router.left, target)
            for target in up:
                if target not in before:
                    asked("global scheduler", router, "joined", router.joined, target)

    def at(self, now: float, follows: bool) -> None:
        """It is ``now``; ``follows``: decisions of this very instant have been taken, and who finishes now
        has. HOT PATH."""
        self.now = now
        ends = self._ends
        while ends and (ends[0][0] < now or (follows and ends[0][0] == now)):
            time, _, _, request = heappop(ends)
            slot = self._sent.pop(request, None)
            if slot is not None:
                self._outstanding[slot] -= 1
                for router in self._told:
                    target = self._targets[slot]
                    asked("global scheduler", router, "finished", router.finished, request, target, time)
        if self.active:
            self._rows.at(now, follows)
            self._prefixes.at(now, follows)

    def sent(self, request: Request, target: Any) -> None:
        """``request`` was, or is about to be, sent to ``target``. HOT PATH."""
        slot = self._slots[target]
        before = self._sent.get(request)
        if before == slot:
            return
        if before is not None:  # it goes elsewhere
            self._outstanding[before] -= 1
        self._sent[request] = slot
        self._outstanding[slot] += 1
        if self.transfer is not None:
            self._origin[request.index] = slot
        for router in self._told:
            asked("global scheduler", router, "sent", router.sent, request, target, self.now)

    def lies(self, request: Request, target: Any) -> None:
        """The KV of ``request`` lies, or will lie, in ``target``, wherever it was sent to last."""
        if self.transfer is not None:
            self._origin[request.index] = self._slots[target]

    def leaves(self, request: Request) -> None:
        """``request`` is on its way through the front end of its instance."""
        slot, tokens = self._sent[request], request.length - 1
        self._transit[request] = slot, tokens
        self._transit_tokens[slot] += tokens

    def enters(self, request: Request) -> None:
        """The engine has got ``request``, or it got lost on the way."""
        if request in self._transit:
            slot, tokens = self._transit.pop(request)
            self._transit_tokens[slot] -= tokens

    def gone(self, request: Request) -> None:
        """``request`` was called back from where it was sent to."""
        slot = self._sent.pop(request, None)
        if slot is not None:
            self._outstanding[slot] -= 1

    def ended(self, request: Request, time: float) -> None:
        """``request`` ends at ``time``, now or later, as the client sees it."""
        heappush(self._ends, (time, request.index, id(request), request))
        if not request.held:
            self._origin.pop(request.index, None)

    # Read by routers.

    def column(self, name: str) -> Any:
        """A column of all targets, by slot."""
        rows = self._rows
        if name == "outstanding_requests":
            return self._outstanding
        if name == "outstanding_tokens":
            tokens = rows.total("tokens")
            return tokens if self._staleness_s else tokens + self._transit_tokens
        if name == "kv_use":
            return 1.0 - rows.total("free") / rows.total("blocks")
        if name.endswith("_s"):
            return rows.mean(name)
        return rows.total(name)

    def outstanding_requests(self, instances: Sequence[Target]) -> Ints:
        """See ``Loads``."""
        self._choose(instances)
        counts: Ints = self._outstanding[self._where]
        return counts

    def outstanding_tokens(self, instances: Sequence[Target]) -> Floats:
        """See ``Loads``."""
        return self._of(instances, self.column("outstanding_tokens"))

    def kv_use(self, instances: Sequence[Target]) -> Floats:
        """See ``Loads``."""
        return self._of(instances, self.column("kv_use"))

    def free_tokens(self, instances: Sequence[Target]) -> Floats:
        """See ``Loads``."""
        return self._of(instances, self.column("free_tokens"))

    def work_s(self, instances: Sequence[Target]) -> Floats:
        """See ``Loads``."""
        return self._of(instances, self.column("work_s"))

    def ttft_s(self, request: Request, instances: Sequence[Target]) -> Floats:
        """See ``Loads``. The steps that have been scheduled, the prompts before it, its own without what is
        cached, and, where seats or blocks are lacking, as many finishes as that takes."""
        own = request.tokens - self.prefix_tokens(request, instances)
        before = self.column("ahead_s") + self._rows.lacking_s(request.tokens)
        return self._of(instances, before) + own * self._of(instances, self.column("prefill_s"))

    def service_s(self, request: Request, instances: Sequence[Target]) -> Floats:
        """See ``Loads``."""
        own = request.tokens - self.prefix_tokens(request, instances)
        decode_s = self._of(instances, self.column("next_decode_s"))
        return (
            own * self._of(instances, self.column("prefill_s")) + (request.length - request.tokens) * decode_s
        )

    def prefix_tokens(self, request: Request, instances: Sequence[Target]) -> Ints:
        """See ``Loads``."""
        self._choose(instances)
        return self._prefixes.tokens(request, instances, self._slots, self._mask)

    def longest_prefix(self, request: Request, instances: Sequence[Target]) -> tuple[int, int]:
        """See ``Loads``."""
        busy = self.outstanding_requests(instances)
        return self._prefixes.longest(request, instances, self._slots, self._mask, busy)

    def transfer_s(self, request: Request, instances: Sequence[Target]) -> Floats:
        """See ``Loads``."""
        slot = self._origin.get(request.index)
        if self.transfer is None or slot is None:
            return np.zeros(len(instances))
        ways = self._ways.get(slot)
        if ways is None:
            source = self._targets[slot]
            found = np.array([self.transfer(source, target) for target in self._targets])
            ways = self._ways[slot] = found[:, 0], found[:, 1]
        return self._of(instances, ways[0] + request.tokens * ways[1])

    def price_per_hour_usd(self, instances: Sequence[Target]) -> Floats:
        """See ``Loads``."""
        return self._of(instances, self._price)

    def _of(self, instances: Sequence[Target], column: Any) -> Floats:
        self._choose(instances)
        values: Floats = column[self._where]
        return values

    def _choose(self, instances: Sequence[Target]) -> None:
        """Where ``instances`` stand among all, found once for each sequence of them."""
        if instances is self._chosen:
            return
        slots = [self._slots[instance] for instance in instances]
        everybody = len(slots) == len(self._targets) and slots == list(range(len(slots)))
        self._chosen = instances
        self._where = slice(None) if everybody else np.array(slots, np.intp)
        self._mask = sum(1 << slot for slot in slots)
