"""The gateway before the router: who may enter the cluster, when, and in what order.

A request that its tenant's rate limits allow enters at once while fewer than ``max_outstanding`` are in the
cluster. Else it waits here, in the order of the policy (``scheduling.cluster.gateway``), until a place is
free and its tenant may, or is rejected: when the queue is full, when it has waited for ``queue_timeout_s``,
or at once where ``over_limit`` says so. The client sees a rejection when it happens.

A limit is a token bucket, of requests or of prompt and output tokens: it fills with the rate up to the burst,
and a request takes its share. A request larger than the burst waits for a full bucket and leaves it in debt.
Everything is an event: an arrival, a finish, the moment at which a bucket is full enough, a timeout. Who
enters because of one of the last three misses the decisions of that instant, as a client's next request does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from heapq import heappop, heappush
from math import inf

from tokensim.engine.agenda import Agenda
from tokensim.scheduling.cluster.gateway import GatewayOrder
from tokensim.scheduling.local import Request

SLACK = 1e-9
"""Relative: a bucket that fills up to a sum of floats counts as full enough."""


@dataclass(frozen=True, slots=True)
class Limit:
    """``per_s`` on average, up to ``burst`` at once."""

    per_s: float
    burst: float


@dataclass(frozen=True, slots=True)
class TenantRules:
    """``weight`` in fair sharing; limits of requests and of tokens, None: none."""

    weight: float = 1.0
    requests: Limit | None = None
    tokens: Limit | None = None


@dataclass(frozen=True, slots=True)
class Rules:
    """What a gateway enforces; see above. ``tenants`` have rules of their own, all others have ``others``."""

    max_outstanding: float = inf
    max_queued: float = inf
    queue_timeout_s: float = inf
    over_limit: str = "queue"  # or reject
    others: TenantRules = TenantRules()
    tenants: Mapping[int, TenantRules] = field(default_factory=dict)

    def of(self, tenant: int) -> TenantRules:
        """The rules of ``tenant``."""
        return self.tenants.get(tenant, self.others)


class Bucket:
    """A token bucket: what is in it at any time follows from what was in it when it was last touched."""

    __slots__ = ("_at_s", "_level", "limit")

    def __init__(self, limit: Limit) -> None:
        self.limit = limit
        self._level = limit.burst
        self._at_s = 0.0

    def ready_s(self, amount: float, now: float) -> float:
        """When it holds ``amount``, or all that it can hold; not before ``now``."""
        lacking = min(amount, self.limit.burst) - self._level
        if lacking <= SLACK * self.limit.burst:
            return now
        ready_s = self._at_s + lacking / self.limit.per_s
        return ready_s if ready_s > now * (1 + SLACK) else now

    def take(self, amount: float, now: float) -> None:
        """Take ``amount`` out."""
        full = self._level + (now - self._at_s) * self.limit.per_s
        self._level = min(self.limit.burst, full) - amount
        self._at_s = now


class Queue:
    """The waiting requests of one tenant; one that has left is passed over when it comes up."""

    def __init__(self, order: GatewayOrder) -> None:
        self._order = order
        self._heap: list[tuple[tuple[float, ...], int, Request]] = []
        self.members: set[Request] = set()

    def add(self, request: Request) -> None:
        """Take ``request``."""
        heappush(self._heap, (self._order.key(request), request.index, request))
        self.members.add(request)

    def head(self) -> Request:
        """The first of them; there must be one."""
        while self._heap[0][2] not in self.members:
            heappop(self._heap)
        return self._heap[0][2]


class Gateway:
    """``admit(request, now, follows)`` lets a request into the cluster, ``reject(request)`` sends it away."""

    def __init__(
        self,
        rules: Rules,
        order: GatewayOrder,
        agenda: Agenda,
        admit: Callable[[Request, float, bool], None],
        reject: Callable[[Request], None],
    ) -> None:
        self.rules = rules
        self.order = order
        self.queued = 0
        self.rejected = 0
        """Requests turned away so far."""
        self._agenda = agenda
        self._admit = admit
        self._tell = reject
        self._strict = rules.over_limit == "reject"
        self._inside: set[int] = set()  # by index
        self._outstanding = 0  # of those inside, and those who ended a moment ago
        self._queues: dict[int, Queue] = {}  # of each tenant that waits
        self._buckets: dict[int, list[tuple[Bucket, bool]]] = {}  # (bucket, whether of tokens)
        self._alarm_s = inf  # when some bucket is full enough

    def arrive(self, request: Request, now: float, follows: bool) -> None:
        """``request`` comes; ``follows``: because another one finished."""
        tenant, rules = request.traits.tenant, self.rules
        in_time = self._ready_s(request, now) <= now
        if self._strict and not in_time:
            self._reject(request)
        elif in_time and self._outstanding < rules.max_outstanding and tenant not in self._queues:
            self._take(request, now)
            self._enter(request, now, follows)
        elif self.queued >= rules.max_queued:
            self._reject(request)
        else:
            if self._strict:
                self._take(request, now)
            if tenant not in self._queues:
                self._queues[tenant] = Queue(self.order)
                self.order.began(tenant, self._queues)
            self._queues[tenant].add(request)
            self.queued += 1
            if rules.queue_timeout_s < inf:
                self._agenda.release(now + rules.queue_timeout_s, lambda at: self._expire(request))
            self._serve(now, follows)

    def ended(self, request: Request, time: float) -> None:
        """``request`` ends at ``time``, now or soon; if it was let in, its place is free then."""
        if request.index in self._inside:
            self._inside.remove(request.index)
            self._agenda.release(time, self._leave)

    def _leave(self, now: float) -> None:
        self._outstanding -= 1
        self._serve(now, True)

    def _wake(self, now: float) -> None:
        if self._alarm_s <= now:
            self._alarm_s = inf
            self._serve(now, True)

    def _serve(self, now: float, follows: bool) -> None:
        """Let in whom the order says, while there are places and tenants whose limits allow it."""
        while self._queues and self._outstanding < self.rules.max_outstanding:
            heads: list[Request] = []
            next_s = inf
            for queue in self._queues.values():
                head = queue.head()
                ready_s = now if self._strict else self._ready_s(head, now)
                if ready_s <= now:
                    heads.append(head)
                elif ready_s < next_s:
                    next_s = ready_s
            if not heads:
                if next_s < self._alarm_s:
                    self._alarm_s = next_s
                    self._agenda.release(next_s, self._wake)
                return
            request = self.order.pick(heads)
            self._drop(request)
            if not self._strict:
                self._take(request, now)
            self._enter(request, now, follows)

    def _enter(self, request: Request, now: float, follows: bool) -> None:
        self._outstanding += 1
        self._inside.add(request.index)
        self.order.entered(request, self.rules.of(request.traits.tenant).weight)
        self._admit(request, now, follows)

    def _expire(self, request: Request) -> None:
        """``request`` has waited for as long as it may."""
        queue = self._queues.get(request.traits.tenant)
        if queue is not None and request in queue.members:
            self._drop(request)
            self._reject(request)

    def withdraw(self, request: Request) -> bool:
        """``request`` gives up waiting here; whether it did wait."""
        queue = self._queues.get(request.traits.tenant)
        if queue is None or request not in queue.members:
            return False
        self._drop(request)
        return True

    def _reject(self, request: Request) -> None:
        self.rejected += 1
        self._tell(request)

    def _drop(self, request: Request) -> None:
        queue = self._queues[request.traits.tenant]
        queue.members.remove(request)
        self.queued -= 1
        if not queue.members:
            del self._queues[request.traits.tenant]

    def _take(self, request: Request, now: float) -> None:
        for bucket, of_tokens in self._buckets_of(request.traits.tenant):
            bucket.take(request.length if of_tokens else 1.0, now)

    def _ready_s(self, request: Request, now: float) -> float:
        ready_s = now
        for bucket, of_tokens in self._buckets_of(request.traits.tenant):
            ready_s = max(ready_s, bucket.ready_s(request.length if of_tokens else 1.0, now))
        return ready_s

    def _buckets_of(self, tenant: int) -> list[tuple[Bucket, bool]]:
        buckets = self._buckets.get(tenant)
        if buckets is None:
            rules = self.rules.of(tenant)
            limits = ((rules.requests, False), (rules.tokens, True))
            buckets = [(Bucket(limit), of_tokens) for limit, of_tokens in limits if limit is not None]
            self._buckets[tenant] = buckets
        return buckets
