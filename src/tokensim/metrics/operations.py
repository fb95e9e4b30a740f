"""What went on in the cluster while it served: replicas that came and went, failures, retries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

import numpy as np

from tokensim.metrics.log import RunLog


@dataclass(frozen=True, slots=True)
class ReplicaLife:
    """One replica: there from ``born_s`` on, it served from ``up_s`` until ``gone_s`` (None: to the end);
    ``failed``: it died, rather than being removed."""

    name: str
    pool: str
    born_s: float
    up_s: float
    gone_s: float | None
    failed: bool = False


@dataclass(frozen=True, slots=True)
class PoolSize:
    """Replicas of one pool that were there, start-up included, over the whole of the run."""

    pool: str
    least: int
    most: int
    mean: float


@dataclass(frozen=True, slots=True)
class Operations:
    """``started`` and ``removed`` replicas during the run, ``failures`` of others; ``retries`` of
    ``retried_requests`` that were lost with one."""

    started: int
    removed: int
    failures: int
    retries: int
    retried_requests: int
    pools: tuple[PoolSize, ...]
    replicas: tuple[ReplicaLife, ...]


def operations_of(log: RunLog, replicas: Sequence[ReplicaLife]) -> Operations | None:
    """The account of ``replicas``; None if all were there from the start to the end."""
    gone = [life for life in replicas if life.gone_s is not None]
    started = sum(life.born_s > 0 for life in replicas)
    if not (gone or started):
        return None
    retries = log.retries
    return Operations(
        started=started,
        removed=sum(not life.failed for life in gone),
        failures=sum(life.failed for life in gone),
        retries=0 if retries is None else int(retries.sum()),
        retried_requests=0 if retries is None else int(np.count_nonzero(retries)),
        pools=tuple(
            _size(pool, [life for life in replicas if life.pool == pool], log.end_s)
            for pool in dict.fromkeys(life.pool for life in replicas)
        ),
        replicas=tuple(replicas),
    )


def _size(pool: str, lives: Sequence[ReplicaLife], end_s: float) -> PoolSize:
    """The number of ``lives`` over time; of what happens at one instant only the outcome counts."""
    changes: dict[float, int] = {0.0: 0}
    for life in lives:
        changes[life.born_s] = changes.get(life.born_s, 0) + 1
        gone_s = inf if life.gone_s is None else life.gone_s
        changes[gone_s] = changes.get(gone_s, 0) - 1
    times = sorted(time for time in changes if time == 0 or time < end_s)
    sizes = np.cumsum([changes[time] for time in times])
    spans_s = np.diff([*times, end_s])
    mean = float((sizes * spans_s).sum() / end_s) if end_s > 0 else float(sizes[-1])
    return PoolSize(pool, int(sizes.min()), int(sizes.max()), mean)
