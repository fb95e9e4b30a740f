"""An autoscaler: as many replicas of a pool as bring a metric to its target, or as a schedule says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from math import ceil

from tokensim.engine.control import Control
from tokensim.engine.hooks import Hook
from tokensim.engine.replica import ReplicaPool

TOLERANCE = 0.1
"""No change while metric / target is within this of 1 (Kubernetes, horizontal pod autoscaler)."""

Metric = Callable[[Control, ReplicaPool], float]
"""Of the replicas of a pool that are up: the mean of what is measured."""


def queue(control: Control, pool: ReplicaPool) -> float:
    """Requests that wait, those for which there is no replica among them, for each replica."""
    replicas = pool.serving()
    waiting = sum(len(rank.scheduler.waiting) for replica in replicas for rank in replica.ranks)
    return (control.parked_for(pool) + waiting) / max(1, len(replicas))


def kv_use(control: Control, pool: ReplicaPool) -> float:
    """Share of the KV pools in use; 1 if requests wait and there is no replica at all."""
    replicas = pool.serving()
    if not replicas:
        return float(control.parked_for(pool) > 0)
    return sum(control.kv_use(replica) for replica in replicas) / len(replicas)


METRICS: dict[str, Metric] = {"queue": queue, "kv": kv_use}


def resize(hook: Hook, pool: ReplicaPool, replicas: int, migrate: bool) -> None:
    """Start or remove replicas of ``pool`` so that ``replicas`` are standing; the youngest go first."""
    standing = pool.standing()
    for _ in range(len(standing), replicas):
        hook.control.add_replica(pool)
    hook.control.remove_replicas(standing[replicas:], migrate=migrate)


class Autoscaler(Hook):
    """Looks every ``interval_s``: ``ceil(replicas × metric / target)`` replicas, from ``least`` to ``most``.

    Downwards it takes the largest number that it wanted in the last ``patience_s`` (the stabilisation window
    of Kubernetes). A pool of no replicas starts one when requests wait.
    """

    def __init__(
        self,
        pool: str,
        metric: Metric,
        target: float,
        *,
        least: int,
        most: int,
        interval_s: float,
        patience_s: float,
        migrate: bool = False,
    ) -> None:
        self.pool = pool
        self.metric = metric
        self.target = target
        self.least, self.most = least, most
        self.interval_s = interval_s
        self.patience_s = patience_s
        self.migrate = migrate
        self._wanted: list[tuple[float, int]] = []  # (when, how many)

    def on_start(self) -> None:
        """See ``Hook``."""
        if self.metric is kv_use:
            self.control.read_loads()
        self.control.every(self.interval_s, self.look)

    def look(self) -> None:
        """Compare metric and target, and act."""
        control = self.control
        pool = control.pool(self.pool)
        now, standing = control.now, len(pool.standing())
        ratio = self.metric(control, pool) / self.target
        wanted = standing
        if abs(ratio - 1) > TOLERANCE or not standing:
            wanted = ceil(max(1, len(pool.serving())) * ratio)
        wanted = min(max(wanted, self.least), self.most)
        self._wanted = [entry for entry in self._wanted if entry[0] >= now - self.patience_s]
        self._wanted.append((now, wanted))
        if wanted < standing:
            wanted = min(standing, max(replicas for _, replicas in self._wanted))
        resize(self, pool, wanted, self.migrate)


class Schedule(Hook):
    """So many replicas of ``pool`` from each time on."""

    def __init__(self, pool: str, sizes: Sequence[tuple[float, int]], migrate: bool = False) -> None:
        self.pool = pool
        self.sizes = sizes
        self.migrate = migrate

    def on_start(self) -> None:
        """See ``Hook``."""
        for at_s, replicas in self.sizes:
            self.control.at(at_s, partial(self._resize, replicas))

    def _resize(self, replicas: int) -> None:
        resize(self, self.control.pool(self.pool), replicas, self.migrate)
