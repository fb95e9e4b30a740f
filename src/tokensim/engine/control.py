"""The control plane: what may be done to a running cluster, by hooks and by whatever is built on them.

What concerns requests that run happens when the step in flight ends, as no engine gives up a step; what it
then finds finished or gone is left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from math import inf, nextafter
from typing import TYPE_CHECKING, Literal

from tokensim.engine.replica import Replica, ReplicaPool, Role, State
from tokensim.errors import InputError, SimulationError
from tokensim.memory import Content
from tokensim.metrics.recorder import FAILED
from tokensim.scheduling.local import Request

if TYPE_CHECKING:
    from tokensim.engine.cluster import Cluster
    from tokensim.engine.handover import Handover
    from tokensim.engine.instance import Instance
    from tokensim.engine.ranks import RankGroup

Fate = Literal["resume", "restart", "lose"]
"""Of the requests of a replica that dies. ``resume``: they go on elsewhere after the tokens that the client
has, which are computed again as prompt; ``restart``: they begin anew; ``lose``: they fail."""

MOST_FUTILE_TICKS = 10_000
"""Ticks of ``at`` and ``every`` without a step or any other event in between, after which those who wait for
one another's memory give it up. After as many more nothing will ever change, and nobody ticks any more."""


class Tick:
    """An action that a clock brings: after the last request time does not go on for it."""

    __slots__ = ("_act",)

    def __init__(self, act: Callable[[float], None]) -> None:
        self._act = act

    def __call__(self, now: float) -> None:
        """It is ``now``."""
        self._act(now)


class Control:
    """A handle on the cluster of one simulation."""

    def __init__(self, simulation: Cluster) -> None:
        self._simulation = simulation
        self._retries: dict[int, int] = {}
        self._futile = 0
        self._steps = 0  # size of their notes at the last tick

    # What there is.

    @property
    def now(self) -> float:
        """Simulated seconds."""
        return self._simulation.now

    @property
    def pools(self) -> Sequence[ReplicaPool]:
        """All pools."""
        return self._simulation.pools

    @property
    def replicas(self) -> Sequence[Replica]:
        """All replicas that ever were; ``state`` tells which are up."""
        return self._simulation.replicas

    @property
    def parked(self) -> int:
        """Requests that wait because no replica can take them, or because none can decode them."""
        return sum(self._parked())

    def parked_for(self, pool: ReplicaPool) -> int:
        """Those of them that a replica of ``pool`` could take."""
        enter, decode = self._parked()
        return enter * (pool.role != "decode") + decode * (pool.role != "prefill")

    def _parked(self) -> tuple[int, int]:
        """Those that wait for a replica to begin in, and for one to decode in."""
        handover = self._simulation.handover
        return len(self._simulation.parked), 0 if handover is None else handover.parked

    def pool(self, name: str) -> ReplicaPool:
        """The pool of this name; raises ``ValueError``."""
        for pool in self.pools:
            if pool.name == name:
                return pool
        raise ValueError(f"no pool {name!r}; there are {', '.join(pool.name for pool in self.pools)}")

    def read_loads(self) -> None:
        """Announce, before the run, that ``kv_use`` will be asked for."""
        self._simulation.loads.activate()

    def kv_use(self, replica: Replica) -> float:
        """The share of the KV pools of ``replica`` that requests hold now, exact also within a run of
        steps."""
        self._simulation.loads.at(self.now, False)
        return replica.load.kv_use

    # When.

    def at(self, time_s: float, act: Callable[[], None]) -> None:
        """Call ``act`` at ``time_s``, or now if that is over; not after the last request."""

        def tick(now: float) -> None:
            if self._simulation.left and not self._in_vain():
                _do(act)

        self._simulation.agenda.action(max(time_s, self.now), Tick(tick))

    def every(self, period_s: float, act: Callable[[], None], start_s: float | None = None) -> None:
        """Call ``act`` every ``period_s`` seconds, from ``start_s`` (a period from now) on, until the last
        request is done."""
        if not period_s > 0:
            raise ValueError(f"a period of {period_s} s; it must be above 0")

        def tick(now: float) -> None:
            if not self._simulation.left or self._in_vain():
                return
            _do(act)
            self._simulation.agenda.action(now + period_s, again)

        again = Tick(tick)
        self._simulation.agenda.action(self.now + period_s if start_s is None else start_s, again)

    def _in_vain(self) -> bool:
        """Whether nothing but ticks, and what they bring about without any step, happens any more."""
        simulation = self._simulation
        steps = len(simulation.recorder.steps)
        self._futile = self._futile + 1 if simulation.quiet and steps == self._steps else 0
        self._steps = steps
        if self._futile <= MOST_FUTILE_TICKS:
            return False
        if simulation.handover is not None and simulation.handover.untangle(simulation.now):
            self._futile = 0
            return False
        return self._futile > 2 * MOST_FUTILE_TICKS and not simulation.open

    # Requests.

    def reroute(self, request: Request, replica: Replica) -> None:
        """Take ``request`` from ``replica`` and route it anew; what it has is computed again elsewhere."""
        self._take(request, replica, lambda now: self._simulation.dispatch(request, now, False))

    def preempt(self, request: Request, replica: Replica) -> None:
        """``request`` loses its place in the batch of ``replica`` and its KV, and joins the queue again."""

        def back(now: float) -> None:
            request.preemptions += 1
            self._simulation.deliver(request, replica.take(), now, False)

        self._take(request, replica, back)

    def migrate(self, request: Request, replica: Replica, target: Replica) -> None:
        """``request`` goes on in ``target``, with its KV if it decodes (it stops until that has come), else
        from its prompt. The KV waits in ``replica`` until ``target`` has memory for it. One whose KV is on
        its way to ``replica`` stays."""
        if target.state is not State.UP or target is replica:
            raise ValueError(
                f"{target} takes no requests" if target is not replica else "it is there already"
            )
        simulation = self._simulation

        def move(axis: Instance | RankGroup, now: float) -> None:
            rank = _holder(axis, request)
            if rank is None or request.held or request.index in simulation.passages:
                return
            handover = simulation.handover
            keep = (
                request in rank.scheduler.running
                and request.decoding
                and handover is not None
                and rank.scheduler.can_load
                and target.can_load
                and all(other.scheduler.kv_format == rank.scheduler.kv_format for other in target.ranks)
            )
            _send_out(axis, now)  # what it has made is the client's, before somebody else makes more
            if not keep:
                give_out(rank, request, now)
                simulation.at(now, lambda now: simulation.resume(request, target, now))
                return
            assert handover is not None
            rank.scheduler.remove(request, keep=True)
            request.held = True
            request.last_token_s = rank.last_token_s(request, now)
            if simulation.loads.counts:
                simulation.loads.ended(request, now)
            simulation.at(now, lambda now: handover.migrate(rank, request, target, now))

        for axis in replica.axes:
            simulation.order(axis, partial(move, axis), self.now)

    def _take(self, request: Request, replica: Replica, then: Callable[[float], None]) -> None:
        simulation = self._simulation

        def take(axis: Instance | RankGroup, now: float) -> None:
            rank = _holder(axis, request)
            if rank is None or request.held or request.index in simulation.passages:
                return
            _send_out(axis, now)
            give_out(rank, request, now)
            simulation.at(now, then)

        for axis in replica.axes:
            simulation.order(axis, partial(take, axis), self.now)

    # Replicas.

    def set_role(self, replica: Replica, role: Role) -> None:
        """``replica`` serves the stages of ``role`` from now on; what it has, it finishes."""
        if role not in ("mixed", "prefill", "decode"):
            raise ValueError(f"no role {role!r}; there are mixed, prefill, decode")
        if role != "mixed" and not replica.can_load:
            raise ValueError(f"the policy of {replica} cannot serve one stage alone")
        if self._simulation.handover is None and role != "mixed":
            raise ValueError("nothing connects the instances of this cluster")
        replica.role = role
        self._simulation.refresh()

    def add_replica(self, pool: ReplicaPool, startup_s: float | None = None) -> Replica:
        """One more replica of ``pool``; it serves after ``startup_s`` (the pool's own: None)."""
        startup_s = pool.startup_s if startup_s is None else startup_s
        replica = self._simulation.add_instance(pool.make(), pool, self.now + startup_s)
        for tell in pool.on_birth:
            tell(replica)
        return replica

    def remove_replica(self, replica: Replica, *, migrate: bool = False) -> None:
        """``replica`` takes no more requests, and goes once it has served those it has; ``migrate``: they
        move to other replicas of its role, by the router; without any, it serves them."""
        self.remove_replicas((replica,), migrate=migrate)

    def remove_replicas(self, replicas: Sequence[Replica], *, migrate: bool = False) -> None:
        """The same for several at once: nothing moves from one of them to another."""
        simulation = self._simulation
        going = [replica for replica in replicas if replica.state in (State.STARTING, State.UP)]
        for replica in going:
            simulation.set_state(replica, State.DRAINING)
        if migrate:
            for replica in going:
                self._empty(replica)
        if going:
            simulation.look_at_drained(self.now)

    def _empty(self, replica: Replica) -> None:
        """What ``replica`` has moves to others of its role, if there are any."""
        simulation = self._simulation
        others = [r for r in simulation.replicas if r.state is State.UP and r.role == replica.role]
        for rank in replica.ranks if others else ():
            scheduler = rank.scheduler
            for request in (*scheduler.running, *scheduler.waiting):
                if not request.held and request.index not in simulation.passages:
                    target = simulation.advise(request, others, self.now)
                    self.migrate(request, replica, target)

    def throttle(self, replica: Replica, max_running: int | None) -> None:
        """``replica`` admits no request beyond ``max_running`` that run (its own limit: None)."""
        if max_running is not None and max_running < 0:
            raise ValueError(f"max_running is {max_running}; at least 0")
        for rank in replica.ranks:
            rank.scheduler.throttle(max_running)
        for axis in replica.axes:
            self._simulation.rouse(axis, self.now)

    def fail(
        self,
        replica: Replica,
        fate: Fate = "resume",
        *,
        recovery_s: float = inf,
        max_retries: int = 3,
    ) -> None:
        """``replica`` takes nothing any more and dies with its step in flight, and all KV in it; a new one of
        its pool is there ``recovery_s`` and a start-up after now. A request that has been through this
        ``max_retries`` times fails."""
        simulation = self._simulation
        if replica.state is State.DOWN:
            return
        simulation.recorder.failures.append((self.now, replica.index))
        simulation.set_state(replica, State.DOWN)

        def retry(requests: Iterable[Request], now: float) -> None:
            for request in requests:
                tries = self._retries[request.index] = self._retries.get(request.index, 0) + 1
                if fate == "lose" or tries > max_retries:
                    simulation.give_up(request, FAILED)
                    continue
                simulation.recorder.retries.append(request.index)
                if fate == "restart":
                    simulation.loads.gone(request)
                    request = simulation.requests.make(request.index, request.arrival_s)
                    request.content = Content.unique(request.index)
                simulation.dispatch(request, now, False)

        def die(axis: Instance | RankGroup, now: float) -> None:
            axis.down = True
            replica.gone_s = max(replica.gone_s, now)
            _send_out(axis, now)  # before somebody else sends anything of its requests
            simulation.at(now, lambda now: retry(_evict(axis, simulation.handover, now), now))

        for axis in replica.axes:
            simulation.order(axis, partial(die, axis), self.now)
        if recovery_s < inf:
            pool = replica.pool
            self.at(self.now + recovery_s, lambda: self._replace(pool))

    def _replace(self, pool: ReplicaPool) -> None:
        self.add_replica(pool)


def _do(act: Callable[[], None]) -> None:
    """Call ``act``, which some hook has asked for; an error there names it."""
    try:
        act()
    except (SimulationError, InputError):
        raise
    except Exception as error:
        name = getattr(act, "__qualname__", None) or getattr(getattr(act, "func", act), "__qualname__", "act")
        raise SimulationError(
            f"what a hook had planned failed ({name}): {type(error).__name__}: {error}"
        ) from error


def _evict(axis: Instance | RankGroup, handover: Handover | None, now: float) -> list[Request]:
    """All requests of ``axis``, which is dead, as they can begin or go on elsewhere; but those that it was to
    take over from others stay with these, which give them to somebody else."""
    evicted: list[Request] = []
    for rank in axis.ranks:
        scheduler = rank.scheduler
        for request in (*scheduler.running, *scheduler.loading, *scheduler.waiting, *scheduler.holding):
            if axis.in_view:  # again: who finds another taker may have asked a router for it
                axis.before_change(axis, now)
            if request in scheduler.holding:
                scheduler.release(request)
            elif request in scheduler.running or request in scheduler.loading or request in scheduler.waiting:
                if request.finished:
                    continue
                give_out(rank, request, now)
            else:  # withdrawn, since it depended on one that was evicted before it
                continue
            passage = None if handover is None else handover.passages.get(request.index)
            if passage is None or handover is None:
                evicted.append(request)
            elif passage.second is request:
                handover.lost_taker(passage, now)
            else:
                evicted.append(handover.lost_giver(passage, now))
    return evicted


def _send_out(axis: Instance | RankGroup, now: float) -> None:
    """The front end of ``axis`` sends what has been made up to ``now``."""
    if axis.front_end is not None:
        axis.front_end.catch_up(nextafter(now, inf))


def _holder(axis: Instance | RankGroup, request: Request) -> Instance | None:
    """The rank of ``axis`` in which ``request`` waits or runs."""
    for rank in axis.ranks:
        scheduler = rank.scheduler
        if not request.finished and (request in scheduler.running or request in scheduler.waiting):
            return rank
    return None


def give_out(rank: Instance, request: Request, now: float) -> None:
    """Take ``request`` out of ``rank``, whose last step ended at ``now``."""
    if request in rank.scheduler.running and request.decoding and not rank.notes_gaps:
        request.last_token_s = rank.last_token_s(request, now)
    rank.scheduler.remove(request)
    request.held = False
    request.length = request.input_tokens + request.output_tokens
