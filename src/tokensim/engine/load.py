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
from tokensim.scheduling.cluster import Facts, Target
from tokensim.scheduling.local import Request
from tokensim.workload.base import Floats, Ints

Told = Callable[[Request, Target, float], None]


class TargetLoad:
    """One instance; see ``scheduling.cluster.Load``."""

    def __init__(self, facts: Facts, loads: ClusterLoads, target: Any) -> None:
        self.facts = facts
        self._loads = loads
        self._self = [target]

    @property
    def outstanding_requests(self) -> int:
        """See ``Load``."""
        return int(self._loads.outstanding_requests(self._self)[0])

    @property
    def outstanding_tokens(self) -> int:
        """See ``Load``."""
        return int(self._loads.outstanding_tokens(self._self)[0])

    @property
    def running(self) -> int:
        """See ``Load``."""
        return int(self._loads.running(self._self)[0])

    @property
    def waiting(self) -> int:
        """See ``Load``."""
        return int(self._loads.waiting(self._self)[0])

    @property
    def kv_use(self) -> float:
        """See ``Load``."""
        return float(self._loads.kv_use(self._self)[0])

    @property
    def free_blocks(self) -> int:
        """See ``Load``."""
        return int(self._loads.free_blocks(self._self)[0])

    @property
    def predicted_work_s(self) -> float:
        """See ``Load``."""
        return float(self._loads.work_s(self._self)[0])

    def cached_prefix(self, request: Request) -> int:
        """See ``Load``."""
        return int(self._loads.prefix_tokens(request, self._self)[0])

    def predicted_ttft_s(self, request: Request) -> float:
        """See ``Load``."""
        return float(self._loads.ttft_s(request, self._self)[0])


class ClusterLoads:
    """All instances; see ``scheduling.cluster.Loads``. ``transfer`` says how long KV takes on its way: seconds
    from one target to another for so many tokens; None: no time, or nobody moves any."""

    def __init__(self, staleness_s: float = 0.0, *, active: bool = True) -> None:
        self.active = active
        self.now = 0.0
        self.transfer: Callable[[Any, Any, int], float] | None = None
        self.on_finish: Told | None = None
        self._rows = Rows(staleness_s)
        self._prefixes = Prefixes()
        self._targets: list[Any] = []  # by slot
        self._slots: dict[Any, int] = {}
        self._sent: dict[Request, int] = {}  # to which slot
        self._outstanding = np.zeros(0, np.int64)
        self._transit = np.zeros(0)  # tokens on their way through front ends
        self._price = np.zeros(0)
        self._ends: list[tuple[float, int, Request]] = []  # a heap: of those that end in the near future
        self._chosen: Sequence[Any] = ()
        self._count = -1
        self._where: Any = slice(0)
        self._mask = 0

    # Told by the simulation.

    def join(self, target: Any, facts: Facts | None = None) -> None:
        """``target`` is one to choose from."""
        target.load = TargetLoad(facts or Facts(), self, target)
        self._slots[target] = len(self._targets)
        self._targets.append(target)
        self._outstanding = np.append(self._outstanding, 0)
        self._transit = np.append(self._transit, 0.0)
        self._price = np.append(self._price, target.load.facts.price_per_hour_usd)
        self._chosen = ()
        if self.active:
            self._rows.add(target)
            self._prefixes.add(target)

    def at(self, now: float, follows: bool) -> None:
        """It is ``now``; ``follows``: decisions of this very instant have been taken, and who finishes now
        has."""
        self.now = now
        ends = self._ends
        while ends and (ends[0][0] < now or (follows and ends[0][0] == now)):
            time, _, request = heappop(ends)
            slot = self._sent.pop(request)
            self._outstanding[slot] -= 1
            if self.on_finish is not None:
                self.on_finish(request, self._targets[slot], time)
        self._rows.at(now, follows)
        self._prefixes.at(now, follows)

    def sent(self, request: Request, target: Any, in_transit: bool) -> None:
        """``request`` was sent to ``target``; ``in_transit``: its engine gets it later (``entered``)."""
        slot = self._slots[target]
        if request in self._sent:  # it moves from one to another
            self._outstanding[self._sent[request]] -= 1
        self._sent[request] = slot
        self._outstanding[slot] += 1
        if in_transit:
            self._transit[slot] += request.length

    def entered(self, request: Request) -> None:
        """The engine has got ``request``."""
        self._transit[self._sent[request]] -= request.length

    def ended(self, request: Request, time: float) -> None:
        """``request`` ends at ``time``, now or later, as the client sees it."""
        if request in self._sent:
            heappush(self._ends, (time, request.index, request))

    # Read by routers.

    def outstanding_requests(self, instances: Sequence[Target]) -> Ints:
        """See ``Loads``."""
        return self._of(instances, self._outstanding)

    def outstanding_tokens(self, instances: Sequence[Target]) -> Floats:
        """See ``Loads``."""
        tokens = self._rows.total("tokens")
        return self._of(instances, tokens if self._rows.staleness_s else tokens + self._transit)

    def running(self, instances: Sequence[Target]) -> Floats:
        """Requests, by instance."""
        return self._of(instances, self._rows.total("running"))

    def waiting(self, instances: Sequence[Target]) -> Floats:
        """Requests, by instance."""
        return self._of(instances, self._rows.total("waiting"))

    def kv_use(self, instances: Sequence[Target]) -> Floats:
        """See ``Loads``."""
        rows = self._rows
        return self._of(instances, 1.0 - rows.total("free") / rows.total("blocks"))

    def free_blocks(self, instances: Sequence[Target]) -> Floats:
        """Blocks, by instance."""
        return self._of(instances, self._rows.total("free"))

    def free_tokens(self, instances: Sequence[Target]) -> Floats:
        """See ``Loads``."""
        return self._of(instances, self._rows.total("free_tokens"))

    def work_s(self, instances: Sequence[Target]) -> Floats:
        """See ``Loads``."""
        return self._of(instances, self._rows.mean("work_s"))

    def ttft_s(self, request: Request, instances: Sequence[Target]) -> Floats:
        """See ``Loads``. The step in flight, the prompts before it, its own without what is cached, and, where
        seats or blocks are lacking, as many finishes as it takes."""
        rows = self._rows
        own = request.tokens - self.prefix_tokens(request, instances)
        ahead = self._of(instances, rows.mean("ahead_s"))
        wait = self._of(instances, rows.lacking_s(request.tokens))
        prefill: Floats = own * self._of(instances, rows.mean("prefill_s"))
        return ahead + wait + prefill

    def service_s(self, request: Request, instances: Sequence[Target]) -> Floats:
        """See ``Loads``."""
        rows = self._rows
        own = request.tokens - self.prefix_tokens(request, instances)
        decode = (request.length - request.tokens) * self._of(instances, rows.mean("decode_s"))
        total: Floats = own * self._of(instances, rows.mean("prefill_s")) + decode
        return total

    def prefix_tokens(self, request: Request, instances: Sequence[Target]) -> Ints:
        """See ``Loads``."""
        self._choose(instances)
        return self._prefixes.tokens(request, instances, self._slots, self._mask)

    def longest_prefix(self, request: Request, instances: Sequence[Target]) -> tuple[int, int]:
        """See ``Loads``."""
        self._choose(instances)
        return self._prefixes.longest(
            request, instances, self._slots, self._mask, self.outstanding_requests(instances)
        )

    def transfer_s(self, request: Request, instances: Sequence[Target]) -> Floats:
        """See ``Loads``."""
        slot = self._sent.get(request)
        if self.transfer is None or slot is None:
            return np.zeros(len(instances))
        source = self._targets[slot]
        return np.array([self.transfer(source, target, request.tokens) for target in instances])

    def price_per_hour_usd(self, instances: Sequence[Target]) -> Floats:
        """See ``Loads``."""
        return self._of(instances, self._price)

    def _of(self, instances: Sequence[Target], column: Any) -> Any:
        self._choose(instances)
        return column[self._where]

    def _choose(self, instances: Sequence[Target]) -> None:
        """Where ``instances`` stand among all, found once for each sequence of them."""
        if instances is self._chosen and len(instances) == self._count:
            return
        slots = [self._slots[instance] for instance in instances]
        self._chosen, self._count = instances, len(instances)
        self._where = slice(None) if slots == list(range(len(self._targets))) else np.array(slots, np.intp)
        self._mask = sum(1 << slot for slot in slots)
