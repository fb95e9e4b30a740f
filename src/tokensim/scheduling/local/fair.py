"""Fair sharing by a virtual token counter (VTC: Sheng et al., "Fairness in Serving Large Language Models",
OSDI'24): who has been served least comes next.

Each tenant has a counter of the service it got: ``input_weight`` a prompt token, when its request is
admitted, and ``output_weight`` a decoded token, in every step (the paper's w_p and w_q). The waiting request
of the tenant with the smallest counter is admitted first. A tenant that comes back after a pause has its
counter lifted to the least of those that wait (or, if nobody waits, to that of the tenant who waited last),
so that it cannot save up service.

All else is vLLM V1's procedure (``continuous.py``). A counter between two events is a straight line in the
number of steps, so a run of equal steps ends where another tenant's line comes to lie lowest.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from tokensim.errors import InputError
from tokensim.registry import register
from tokensim.scheduling.local.base import Limits, Step
from tokensim.scheduling.local.continuous import ContinuousBatching
from tokensim.scheduling.local.decoding import FAR, DecodeSet, WindowedDecodeSet
from tokensim.scheduling.local.queues import Backlog, WaitingQueue
from tokensim.scheduling.local.request import Request


class Counter:
    """The service of one tenant: ``level(step)`` = ``fixed`` + ``rate`` · (its tokens decoded by ``step``).

    ``decoding`` of its requests decode, and after step k have ``base_sum + decoding·k`` tokens; what they had
    before, and what those that left have decoded, is in ``settled``.
    """

    __slots__ = ("base_sum", "decoding", "fixed", "rate", "settled")

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self.fixed = 0.0
        self.decoding = self.base_sum = self.settled = 0

    def level(self, step: int) -> float:
        """The counter after ``step``."""
        return self.fixed + self.rate * (self.settled + self.base_sum + self.decoding * step)


class Counters(dict[int, Counter]):
    """The counters of all tenants; ``weights`` is the share that each is entitled to (1 if not named)."""

    def __init__(self, input_weight: float, output_weight: float, weights: Mapping[int, float]) -> None:
        self._input, self._output, self._weights = input_weight, output_weight, weights

    def __missing__(self, tenant: int) -> Counter:
        counter = self[tenant] = Counter(self._output / self._weights.get(tenant, 1.0))
        return counter

    def charge(self, request: Request) -> float:
        """The prompt of ``request`` counts now; returns by how much."""
        tenant = request.traits.tenant
        cost = self._input * request.input_tokens / self._weights.get(tenant, 1.0)
        self[tenant].fixed += cost
        return cost

    def count(self, request: Request, step: int, sign: int) -> None:
        """``request`` decodes from ``step`` on (``sign`` 1), or no more after it (−1)."""
        counter = self[request.traits.tenant]
        counter.decoding += sign
        counter.base_sum += sign * request.base
        counter.settled -= sign * (request.base + step)


class CountingDecodeSet(DecodeSet):
    """A ``DecodeSet`` that tells the counters who decodes."""

    counters: Counters

    def join(self, request: Request, step: int) -> None:
        """See ``DecodeSet.join``."""
        super().join(request, step)
        self.counters.count(request, step, 1)

    def leave(self, request: Request, step: int) -> None:
        """See ``DecodeSet.leave``."""
        super().leave(request, step)
        self.counters.count(request, step, -1)


class CountingWindowedDecodeSet(CountingDecodeSet, WindowedDecodeSet):
    """The same with a sliding window."""


class TenantQueues(Backlog):
    """A queue for each tenant; the head is the first of the tenant whose ``levels`` entry is the smallest.
    Whoever is popped is charged."""

    counters: Counters

    def __init__(self) -> None:
        super().__init__()
        self.queues: dict[int, deque[Request]] = {}  # of tenants that wait, in the order in which they began
        self.levels: dict[int, float] = {}
        self.newcomers: list[int] = []  # tenants that have begun to wait since the last step
        self.last_left: int | None = None
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[Request]:
        return (request for queue in self.queues.values() for request in queue)

    def __contains__(self, request: object) -> bool:
        return any(request is other for other in self)

    def add(self, request: Request) -> bool:
        """Append to its tenant's queue; True if the tenant has just begun to wait."""
        tenant = request.traits.tenant
        self._came(request)
        self._size += 1
        if tenant in self.queues:
            self.queues[tenant].append(request)
            return False
        self.queues[tenant] = deque((request,))
        self.newcomers.append(tenant)
        return True

    def put_back(self, request: Request) -> None:
        """To the front of its tenant's queue; the counter stays as it is."""
        self._came(request)
        self._size += 1
        self.queues.setdefault(request.traits.tenant, deque()).appendleft(request)

    def least(self) -> int:
        """The waiting tenant served least."""
        return min(self.queues, key=self.levels.__getitem__)

    def head(self) -> Request:
        """The next request of the tenant served least."""
        return self.queues[self.least()][0]

    def pop(self) -> Request:
        """Remove and return the head. Its prompt counts once, however often it is computed."""
        tenant = self.least()
        request = self.queues[tenant][0]
        self.remove(request)
        if not (request.preemptions or request.loaded):
            self.levels[tenant] += self.counters.charge(request)
        return request

    def remove(self, request: Request) -> None:
        """Remove a request from wherever it stands."""
        tenant = request.traits.tenant
        self.queues[tenant].remove(request)
        self._went(request)
        self._size -= 1
        if not self.queues[tenant]:
            del self.queues[tenant]
            self.last_left = tenant
            if tenant in self.newcomers:
                self.newcomers.remove(tenant)


@register.local_scheduler("fair")
class Fair(ContinuousBatching):
    """``policy: fair``, by ``Request.traits.tenant``. Options: ``input_weight``, ``output_weight`` (the
    paper's 1 and 2) and ``weights``, tenant → its share (1 unless given)."""

    settles: ClassVar[Mapping[str, Any]] = {"scheduling_policy": "fcfs", "prefill_schedule_interval": 1}
    waiting: TenantQueues

    def __init__(
        self,
        limits: Limits,
        version: str = "0.33.0",
        *,
        exact_steps: bool = False,
        input_weight: float = 1.0,
        output_weight: float = 2.0,
        weights: Mapping[int, float] | None = None,
    ) -> None:
        try:
            shares = {int(tenant): float(share) for tenant, share in (weights or {}).items()}
        except (TypeError, ValueError, AttributeError):
            raise InputError(
                f"weights is {weights!r}",
                where="policy_options.weights",
                hint="a share for each tenant by number: {0: 1, 1: 2.5}",
            ) from None
        named = {"input_weight": input_weight, "output_weight": output_weight}
        for name, value in (
            *named.items(),
            *((f"weights.{tenant}", share) for tenant, share in shares.items()),
        ):
            if not value > 0.0:
                raise InputError(f"{value} is no weight", where=f"policy_options.{name}", hint="more than 0")
        super().__init__(limits, version, exact_steps=exact_steps)
        self.counters = Counters(input_weight, output_weight, shares)
        counting = (
            CountingDecodeSet(limits.block_size, limits.longest)
            if limits.window is None
            else CountingWindowedDecodeSet(limits.block_size, limits.window, limits.longest)
        )
        counting.counters = self.counters
        self.decoding = counting
        self.waiting.counters = self.counters

    def add(self, request: Request) -> bool:
        """See ``LocalScheduler.add``: a tenant that begins to wait is lifted at the next step boundary."""
        before = len(self.waiting.newcomers)
        return super().add(request) or len(self.waiting.newcomers) > before

    def schedule(self, now: float) -> Step:
        """See ``LocalScheduler.schedule``."""
        queue, step = self.waiting, self.index
        if queue.newcomers:
            self._lift(step)
        queue.levels = {tenant: self.counters[tenant].level(step) for tenant in queue.queues}
        return super().schedule(now)

    def preempt(self, step: Step, request: Request, served: int) -> None:
        """See ``ContinuousBatching.preempt``."""
        super().preempt(step, request, served)
        tenant = request.traits.tenant
        self.waiting.levels.setdefault(tenant, self.counters[tenant].level(step.index - 1))

    def horizon(self) -> int:
        """See ``ContinuousBatching.horizon``: until another tenant may have been served least."""
        queue = self.waiting
        if len(queue.queues) < 2 or len(self.running) >= self.max_active:
            return FAR
        least = queue.least()
        own, step, steps = self.counters[least], self.index, FAR
        level, slope = own.level(step), own.rate * own.decoding
        for tenant in queue.queues:
            other = self.counters[tenant]
            closer = slope - other.rate * other.decoding
            ahead = other.level(step) - level
            if ahead < 0.0 or (ahead == 0.0 and closer):
                return 1
            if closer > 0.0:
                steps = min(steps, int(ahead / closer))
        return steps

    def _lift(self, step: int) -> None:
        """Lift the counters of tenants that have begun to wait, in turn."""
        queue = self.waiting
        newcomers = list(queue.newcomers)
        queue.newcomers.clear()
        for i, tenant in enumerate(newcomers):
            others = [other for other in queue.queues if other not in newcomers[i:]]
            if not others and queue.last_left is not None:
                others = [queue.last_left]
            if others:
                least = min(self.counters[other].level(step) for other in others)
                counter = self.counters[tenant]
                counter.fixed += max(0.0, least - counter.level(step))

    def _queue(self) -> WaitingQueue:
        return TenantQueues()
