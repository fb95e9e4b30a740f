"""A replica: one instance of a pool, as routers, hooks and the control plane see it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from math import inf
from typing import Any, Literal

from tokensim.engine.instance import Instance
from tokensim.engine.ranks import RankGroup, RankSet
from tokensim.scheduling.cluster import Load

Role = Literal["mixed", "prefill", "decode"]
Runner = Instance | RankGroup | RankSet


class State(Enum):
    """``STARTING``: takes nothing yet. ``UP``: takes requests. ``DRAINING``: serves those it has, and takes
    no more. ``DOWN``: gone for good."""

    STARTING = "starting"
    UP = "up"
    DRAINING = "draining"
    DOWN = "down"


@dataclass(eq=False, slots=True)
class ReplicaPool:
    """Equal replicas: ``make`` makes the runner of one more, which needs ``startup_s`` before it serves.

    ``role`` is that of new replicas; all devices of one cost ``price_per_hour_usd``. ``facts`` is for whoever
    assembled the pool.
    """

    name: str
    make: Callable[[], Runner]
    role: Role = "mixed"
    startup_s: float = 0.0
    price_per_hour_usd: float = 0.0
    facts: Any = None
    settle: Callable[[str], Any] = lambda name: None
    """Finds a place for the replica of this name."""
    leave: Callable[[Any], None] = lambda place: None
    """Gives a place back."""
    on_birth: list[Callable[[Replica], None]] = field(default_factory=list)
    """Called with each replica that is added once the run has begun."""
    replicas: list[Replica] = field(default_factory=list)
    """All that ever were, in the order of their numbers."""

    def standing(self) -> list[Replica]:
        """Those that are starting or up."""
        return [replica for replica in self.replicas if replica.state in (State.STARTING, State.UP)]

    def serving(self) -> list[Replica]:
        """Those that are up."""
        return [replica for replica in self.replicas if replica.state is State.UP]


class Replica:
    """Replica ``number`` of ``pool``; ``index`` is that of its first rank among all ranks.

    ``runner`` does the work, ``load`` says how much of it there is. From ``born_s`` on it costs money, from
    ``up_s`` on it serves, until ``gone_s``.
    """

    __slots__ = (
        "born_s",
        "coming",
        "gone_s",
        "index",
        "load",
        "number",
        "place",
        "pool",
        "role",
        "runner",
        "state",
        "up_s",
    )

    load: Load

    def __init__(self, pool: ReplicaPool, runner: Runner, now: float, up_s: float) -> None:
        self.pool = pool
        self.number = len(pool.replicas)
        self.index = runner.index
        self.runner = runner
        self.role: Role = pool.role
        self.state = State.STARTING
        self.born_s = now
        self.up_s = up_s
        self.gone_s = inf
        self.coming = 0  # requests on their way in through its front end
        self.place: Any = pool.settle(self.name)
        pool.replicas.append(self)
        for axis in (*self.axes, *self.ranks):
            axis.replica = self

    @property
    def name(self) -> str:
        """Of the pool, with the number."""
        return f"{self.pool.name}-{self.number}"

    @property
    def scheduler(self) -> Any:
        """Who runs and who waits in it."""
        return self.runner.scheduler

    @property
    def axes(self) -> Sequence[Instance | RankGroup]:
        """What takes decisions of its own in it: the runner, or each of its independent ranks."""
        return self.runner.ranks if isinstance(self.runner, RankSet) else (self.runner,)

    @property
    def ranks(self) -> Sequence[Instance]:
        """Each with a scheduler and a KV pool of its own."""
        return self.runner.ranks

    @property
    def up(self) -> bool:
        """It takes requests."""
        return self.state is State.UP

    @property
    def can_load(self) -> bool:
        """Whether it can serve one stage alone: take KV that others have computed, and keep KV for others."""
        return all(rank.scheduler.can_load for rank in self.ranks)

    @property
    def idle(self) -> bool:
        """Nothing is, or will be, going on in it: no request comes, waits, loads, runs, or is held for
        others."""
        return not self.coming and not any(
            scheduler.running or scheduler.waiting or scheduler.loading or scheduler.holding
            for scheduler in (rank.scheduler for rank in self.ranks)
        )

    def take(self) -> Instance | RankGroup:
        """What takes the next request that is routed here."""
        runner = self.runner
        return runner.take() if isinstance(runner, RankSet) else runner

    def __repr__(self) -> str:
        return f"Replica({self.name}, {self.role}, {self.state.value})"
