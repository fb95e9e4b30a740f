"""The cluster at one instant: what is in it, and the way of a request into an instance and out again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from math import inf, nan

from tokensim.engine.agenda import Agenda
from tokensim.engine.client import Client
from tokensim.engine.control import Control
from tokensim.engine.gateway import Gateway
from tokensim.engine.handover import Handover
from tokensim.engine.hooks import Hook, Hooks
from tokensim.engine.instance import Instance
from tokensim.engine.load import ClusterLoads
from tokensim.engine.network import Network
from tokensim.engine.passage import Passage
from tokensim.engine.ranks import RankGroup
from tokensim.engine.replica import Replica, ReplicaPool, Runner, State
from tokensim.engine.requests import Requests
from tokensim.engine.routing import asked
from tokensim.engine.tier_setup import TierBook
from tokensim.engine.watch import Watch
from tokensim.metrics.recorder import CANCELLED, PACK_DELIVERY, PACK_REQUEST, REJECTED, Recorder
from tokensim.scheduling.cluster import GlobalScheduler
from tokensim.scheduling.local import Request
from tokensim.workload.base import Workload


class Cluster:
    """What happens at the time ``now``; ``Simulation`` lets it pass.

    ``router`` chooses the replica that takes a request from its prompt on, one of ``entries``. A request
    whose prompt does not leave room for one token in its instance's context is rejected, as the server does;
    one that would outgrow the context ends there. While nobody can take requests they wait in ``parked``.
    Routers see the instances as they were up to ``staleness_s`` ago. A ``gateway`` may stand before the
    router.
    """

    def __init__(
        self,
        workload: Workload,
        router: GlobalScheduler,
        hooks: Sequence[Hook] = (),
        staleness_s: float = 0.0,
    ) -> None:
        self.workload = workload
        self.router = router
        self.agenda = Agenda()
        self.recorder = Recorder()
        self.tiers = TierBook()
        self.network = Network(self.agenda, note=self.recorder.transfer)
        self.now = 0.0
        self._soon: Instance | RankGroup | None = None
        self.instances: list[Instance | RankGroup] = []
        self.ranks = 0
        self.pools: list[ReplicaPool] = []
        self.replicas: list[Replica] = []
        self.draining = False  # some replica is
        self.follows = False  # what happens follows from a decision of this instant
        self.entries: list[Replica] = []
        self.parked: list[Request] = []
        self.client = Client(workload, self.agenda)
        self.requests = Requests(workload)
        self.control = Control(self)
        self.handover: Handover | None = None
        self.hooks = Hooks(hooks)
        self.gateway: Gateway | None = None
        self.loads = ClusterLoads(staleness_s)
        self.loads.serve(router)
        self._identified: Request | None = None  # for the router; its instance can use that too
        self.done = 0
        for hook in hooks:
            hook.control = self.control

    # Replicas.

    @property
    def next_index(self) -> int:
        """The index of the next instance: the number of ranks (and stages) before it."""
        return self.ranks

    def add_instance(self, runner: Runner, pool: ReplicaPool | None = None, up_s: float = 0.0) -> Replica:
        """Add a replica of ``pool`` (of one of its own: None) that serves from ``up_s`` on; the index of
        ``runner`` must be ``next_index``."""
        if pool is None:
            pool = ReplicaPool(f"instance-{self.ranks}", lambda: runner)
        if pool not in self.pools:
            self.pools.append(pool)
        replica = Replica(pool, runner, self.now, max(up_s, self.now))
        self.replicas.append(replica)
        self.loads.join(replica)
        self.instances += replica.axes
        self.ranks += sum(rank.entries for rank in replica.ranks)
        for rank in replica.ranks:
            rank.on_held = self.on_held
            rank.on_preempt = self.hooks.on_preempt
            if self.hooks.stepwise:
                keeps_first = self.handover is not None and not self.handover.terms.streams_first
                rank.watch = Watch(self.hooks, rank.cost, keeps_first=keeps_first)
            if self.handover is not None:
                self.handover.connect(rank)
        if up_s <= self.now:
            self.set_state(replica, State.UP)
        else:
            self.agenda.action(up_s, lambda now: self._is_up(replica))
        return replica

    def _is_up(self, replica: Replica) -> None:
        if replica.state is State.STARTING:
            self.set_state(replica, State.UP)

    def set_state(self, replica: Replica, state: State) -> None:
        """``replica`` is in ``state`` from now on; requests that nobody could take may find one now."""
        replica.state = state
        self.draining = any(replica.state is State.DRAINING for replica in self.replicas)
        if state is State.DOWN:
            replica.gone_s = self.now
            replica.pool.leave(replica.place)
        self.refresh()

    def refresh(self) -> None:
        """States or roles have changed: who takes requests, and at which stage."""
        up = [replica for replica in self.replicas if replica.state is State.UP]
        self.loads.members(up)
        self.entries = [replica for replica in up if replica.role != "decode"]
        if self.handover is not None:
            self.handover.refresh([r for r in up if r.role != "prefill" and r.can_load])
        if self.entries and self.parked:
            parked, self.parked = self.parked, []
            for request in parked:
                self.dispatch(request, self.now, False)

    def look_at_drained(self, now: float) -> None:
        """Replicas that are draining and have nothing left go."""
        busy = {p.prefill for p in self.passages.values()}
        for replica in [r for r in self.replicas if r.state is State.DRAINING]:
            if replica.idle and replica not in busy:
                self.set_state(replica, State.DOWN)
                replica.gone_s = now

    @property
    def passages(self) -> Mapping[int, Passage]:
        """KV on its way from one instance to another, by request."""
        return {} if self.handover is None else self.handover.passages

    @property
    def left(self) -> int:
        """Requests that are not done."""
        return len(self.workload) - self.done

    @property
    def open(self) -> bool:
        """Whether requests may come."""
        return self.client.due_s < inf

    @property
    def quiet(self) -> bool:
        """Nothing is going to happen by itself but arrivals, actions, and decisions of idle instances."""
        return self._soon is None and self.agenda.quiet

    def all_ranks(self) -> Iterator[Instance]:
        """Every rank of every replica."""
        return (rank for replica in self.replicas for rank in replica.ranks)

    # What comes back from instances.

    def on_finish(self, instance: Instance | RankGroup, done: Sequence[Request], end_s: float) -> None:
        """``done`` of ``instance`` ended at ``end_s``; behind a front end the client sees it later."""
        if self.handover is not None:
            done = [request for request in done if not request.held]
        self.done += len(done)
        if self.hooks.on_finish is not None:
            for request in done:
                self.hooks.on_finish(request, instance.replica, end_s)
        if self.draining:
            self.at(end_s, self.look_at_drained)
        if self.client.reacts or self.loads.counts or self.gateway is not None:
            if instance.front_end is not None:
                self.agenda.delivery(end_s, instance.front_end)
                return
            for request in done:
                self._ended(request, end_s)

    def _ended(self, request: Request, time: float) -> None:
        """``request`` ends at ``time``, now or later, as client and router see it."""
        if self.loads.counts:
            self.loads.ended(request, time)
        if self.gateway is not None:
            self.gateway.ended(request, time)
        if self.client.reacts:
            self.client.finished(request.index, time)

    def on_held(self, rank: Instance, request: Request, end_s: float) -> None:
        """``request`` finished its prefill in ``rank``, which keeps its KV."""
        assert self.handover is not None
        self.handover.prefilled(rank, request, end_s)
        if request.first_token_s == end_s and not self.handover.terms.streams_first:
            request.first_token_s = nan
        if rank.axis.front_end is not None:
            self.agenda.delivery(end_s, rank.axis.front_end)
        elif self.loads.counts:
            self.loads.ended(request, end_s)

    def on_delivery(self, request: Request, time: float, last: bool) -> None:
        """A front end has sent the first token of ``request``, or its ``last`` one, to the client."""
        if request.held:
            assert self.handover is not None
            if last:
                if self.loads.counts:
                    self.loads.ended(request, time)
                self.handover.announce(request, time)
                return
            if not self.handover.terms.streams_first:
                return
        self.recorder.deliveries.extend(PACK_DELIVERY(request.index, last, time))
        if last:
            self._ended(request, time)

    def give_up(self, request: Request, status: int) -> None:
        """``request`` ends now without having been served whole: ``REJECTED`` or ``FAILED``. What depends on
        it is cancelled."""
        self._note_end(
            request.index,
            request.arrival_s,
            request.scheduled_s,
            status,
            (request.cached_tokens, request.preemptions, request.recomputed_tokens),
        )
        if self.loads.counts:
            self.loads.ended(request, self.now)
        if self.gateway is not None:
            self.gateway.ended(request, self.now)
        if self.client.reacts:
            for index in self.client.failed(request.index, self.now):
                self._note_end(index, nan, nan, CANCELLED)

    def _note_end(
        self,
        index: int,
        arrival_s: float,
        scheduled_s: float,
        status: int,
        counts: tuple[int, int, int] = (0, 0, 0),
    ) -> None:
        """Request ``index`` ended without an answer; ``counts``: tokens cached, preemptions, tokens
        recomputed."""
        self.recorder.requests.extend(
            PACK_REQUEST(index, -1, arrival_s, scheduled_s, nan, nan, 0, *counts, status)
        )
        self.done += 1

    # The way of a request into an instance.

    def _arrive(self, index: int, now: float, follows: bool) -> None:
        """Request ``index`` reaches the cluster; ``follows``: because another one finished. HOT PATH."""
        request = self.requests.make(index, now)
        if self.hooks.on_arrival is not None:
            self.hooks.on_arrival(request)
        if self.gateway is None:
            self.dispatch(request, now, follows)
        else:
            self.gateway.arrive(request, now, follows)

    def _astray(self, request: Request, now: float) -> None:
        """``request`` was on its way into an instance that is down now."""
        if self.handover is None:
            self.dispatch(request, now, False)
        else:
            self.handover.astray(request, now)

    def resume(self, request: Request, replica: Replica, now: float) -> None:
        """``request`` begins, or goes on from its prompt, in ``replica``, or elsewhere if that is gone."""
        if replica.state is State.UP and replica.role != "prefill":
            self.deliver(request, replica.take(), now, False)
        else:
            self.dispatch(request, now, False)

    def at(self, time: float, act: Callable[[float], None]) -> None:
        """``act`` happens at ``time``; what it brings misses the decisions of this instant if that is now."""
        if time > self.now:
            self.agenda.action(time, act)
        else:
            self.agenda.reaction(time, partial(self.follow, act))

    def follow(self, act: Callable[[float], None], now: float) -> None:
        """``act`` happens because of a decision that was taken at this very instant."""
        self.follows = True
        act(now)
        self.follows = False

    def dispatch(self, request: Request, now: float, follows: bool) -> None:
        """Route ``request``, which starts from its prompt. HOT PATH."""
        entries = self.entries
        if not entries:
            self.parked.append(request)
            return
        replica = self.choose(self.router, request, entries, now, follows)
        if replica.role == "prefill":
            assert self.handover is not None
            self.handover.begin(request, replica, now, follows)
        else:
            self.deliver(request, replica.take(), now, follows)

    def choose(
        self,
        router: GlobalScheduler,
        request: Request,
        replicas: Sequence[Replica],
        now: float,
        follows: bool = False,
    ) -> Replica:
        """The one of ``replicas`` that ``router`` wants. Raises ``SimulationError``, which names the router,
        if it fails or chooses something else. HOT PATH."""
        loads = self.loads
        if loads.counts:
            loads.at(now, follows)
            if self.requests.shares(request.index):
                self.requests.identify(request)
                self._identified = request
        replica = asked(router, request, replicas, now)
        if loads.counts:
            loads.sent(request, replica)
        if self.hooks.on_route is not None:
            self.hooks.on_route(request, replica)
        return replica

    def advise(self, request: Request, replicas: Sequence[Replica], now: float) -> Replica:
        """The one of ``replicas`` that the router wants for ``request``, which stays as it is for now."""
        content, shared_output, tokens = request.content, request.shared_output, request.tokens
        request.tokens = request.input_tokens  # its answer is not counted while a run lasts
        replica = self.choose(self.router, request, replicas, now)
        request.content, request.shared_output, request.tokens = content, shared_output, tokens
        self._identified = None
        return replica

    def deliver(self, request: Request, instance: Instance | RankGroup, now: float, follows: bool) -> bool:
        """``request`` reaches ``instance``, or its front end; False if it is rejected there. HOT PATH."""
        follows = follows or self.follows
        if request.length > instance.max_model_len:
            if request.tokens >= instance.max_model_len:
                self.give_up(request, REJECTED)
                return False
            request.length = instance.max_model_len
        if self.requests.shares(request.index):
            if not instance.caching:
                request.content, request.shared_output = None, False
            elif request is not self._identified:
                self.requests.identify(request)
            self._identified = None
        if self.loads.counts:
            self.loads.sent(request, instance.replica)
        if instance.front_end is None:
            self._enter(request, instance, now, follows)
        else:
            if self.loads.active:
                self.loads.leaves(request)
            instance.replica.coming += 1
            self.agenda.intake(instance.intake(now), request, instance)
        return True

    def _enter(self, request: Request, instance: Instance | RankGroup, now: float, follows: bool) -> None:
        """``request`` reaches the engine of ``instance``. HOT PATH."""
        if instance.due_s == inf:
            instance.wake(request, now)
            self.agenda.wake(instance)
        elif instance.arrive(request, now, follows) and instance is not self._soon:
            self.agenda.decision(instance)

    def rouse(self, instance: Instance | RankGroup, now: float) -> None:
        """Something but an arrival has changed what ``instance`` could decide."""
        idle = instance.due_s == inf
        if instance.rouse(now, self.follows):
            if idle:
                self.agenda.wake(instance)
            elif instance is not self._soon:
                self.agenda.decision(instance)

    def notify(self, instance: Instance | RankGroup, act: Callable[[float], None], now: float) -> None:
        """Let ``act``, which does not concern requests that run, happen at the next decision of
        ``instance``, as engines look at such things between steps; at once if it is idle."""
        if instance.due_s == inf:
            if instance.in_view:
                instance.before_change(instance, now)
            act(now)
        else:
            instance.notices.append(act)
        self.rouse(instance, now)

    def order(self, instance: Instance | RankGroup, act: Callable[[float], None], now: float) -> None:
        """Let ``act`` happen when no step of ``instance`` is in flight: at once if it is idle, else when the
        step that runs at ``now`` ends; it is called with that time."""
        if instance.due_s == inf:
            if instance.in_view:
                instance.before_change(instance, now)
            act(max(now, instance.end_s))
        else:
            instance.orders.append(act)
            self.rouse(instance, now)
