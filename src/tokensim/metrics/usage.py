"""How full the instances were: KV blocks, batch size, busy time; as means, maxima and a short series.

Means weigh each row of the step log by its duration, so they are over the time in which steps ran; how much
of the time for which an instance stood that is, says the busy share. In the series, time without a step
counts as zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tokensim.metrics.bins import interval_means
from tokensim.metrics.log import RunLog
from tokensim.workload.base import Floats, Ints

SERIES_POINTS = 50
"""Points of the series in a summary: as many as fit a line of 80 columns with its label and peak."""


@dataclass(frozen=True, slots=True)
class Standing:
    """When each instance came and went (infinite: it stayed), in simulated time."""

    from_s: Floats
    to_s: Floats

    def within(self, start_s: float, end_s: float) -> Floats:
        """For how many seconds between ``start_s`` and ``end_s`` each of them stood."""
        seconds: Floats = np.minimum(self.to_s, end_s) - np.maximum(self.from_s, start_s)
        return seconds.clip(min=0.0)


def always(instances: int) -> Standing:
    """All of them stood all the time."""
    return Standing(np.zeros(instances), np.full(instances, np.inf))


@dataclass(frozen=True, slots=True)
class InstanceUsage:
    """One instance; ``kv_*`` are shares of its ``num_blocks``, ``batch_*`` running requests.

    ``requests`` ended there, or had their prompt computed there. It stood for ``stood_s`` of the makespan,
    its start-up included; ``busy_share`` of that it ran steps.
    """

    instance: int
    requests: int
    steps: int
    num_blocks: int
    stood_s: float
    busy_s: float
    busy_share: float | None
    kv_mean: float | None
    kv_max: float | None
    batch_mean: float | None
    batch_max: int
    waiting_max: int


@dataclass(frozen=True, slots=True)
class PoolUsage:
    """The instances of one pool: how many stood on average, and their figures together."""

    pool: str
    instances_mean: float | None
    busy_share: float | None
    kv_mean: float | None
    kv_max: float | None
    batch_mean: float | None
    batch_max: int
    waiting_max: int


@dataclass(frozen=True, slots=True)
class Series:
    """Means over equal intervals; entry i covers ``[i·interval_s, (i+1)·interval_s)``.

    ``kv_share`` is of the blocks of all instances that stood, ``running`` and ``waiting`` are requests of all
    instances, ``busy_share`` is that of the instances that stood.
    """

    interval_s: float
    kv_share: tuple[float, ...]
    running: tuple[float, ...]
    waiting: tuple[float, ...]
    busy_share: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Usage:
    """All instances together, each of ``pools``, each of ``instances``; ``busy_share`` is of the time for
    which instances stood, all added up.

    A step of a pipeline counts once, on its first stage; the busy share is that of all stages.
    """

    steps: int
    busy_share: float | None
    kv_mean: float | None
    kv_max: float | None
    batch_mean: float | None
    batch_max: int
    waiting_max: int
    pools: tuple[PoolUsage, ...]
    instances: tuple[InstanceUsage, ...]
    series: Series


def usage_of(
    log: RunLog,
    duration_s: float,
    points: int = SERIES_POINTS,
    *,
    standing: Standing | None = None,
    stood_s: Floats | None = None,
    pools: Sequence[str] | None = None,
) -> Usage:
    """The usage of all instances of ``log`` over a makespan of ``duration_s`` seconds.

    ``stood_s`` is for how much of it each stood (default: all of it), ``standing`` when that was (default:
    all the time), ``pools`` to which pool it belongs (default: all to one).
    """
    rows, requests = log.steps, log.requests
    size = len(log.num_blocks)
    stood_s = np.full(size, duration_s) if stood_s is None else stood_s
    seconds = rows.end_s - rows.start_s
    blocks = np.maximum(np.asarray(log.num_blocks, dtype=np.float64), 1.0)
    kv, kv_most = rows.mean_blocks / blocks[rows.instance], rows.used_blocks / blocks[rows.instance]
    prefilled_on = requests.instance if log.prefilled_on is None else log.prefilled_on
    instances = []
    for i, num_blocks in enumerate(log.num_blocks):
        own = rows.instance == i
        busy_s = float(seconds[own].sum())
        instances.append(
            InstanceUsage(
                instance=i,
                requests=int(((requests.instance == i) | (prefilled_on == i)).sum()),
                steps=int(rows.what.steps[own].sum()),
                num_blocks=num_blocks,
                stood_s=float(stood_s[i]),
                busy_s=busy_s,
                busy_share=_share(busy_s, float(stood_s[i])),
                kv_mean=_mean(kv[own], seconds[own]),
                kv_max=float(kv_most[own].max()) if own.any() else None,
                batch_mean=_mean(rows.running[own], seconds[own]),
                batch_max=int(rows.running[own].max(initial=0)),
                waiting_max=int(rows.waiting[own].max(initial=0)),
            )
        )

    def of_pool(name: str, members: Ints) -> PoolUsage:
        own = np.isin(rows.instance, members)
        heads = [i for i in members if i not in log.later_stages]
        return PoolUsage(
            pool=name,
            instances_mean=_share(float(stood_s[heads].sum()), duration_s),
            busy_share=_share(float(seconds[own].sum()), float(stood_s[members].sum())),
            kv_mean=_mean(kv[own], seconds[own]),
            kv_max=float(kv_most[own].max()) if own.any() else None,
            batch_mean=_mean(rows.running[own], seconds[own]),
            batch_max=int(rows.running[own].max(initial=0)),
            waiting_max=int(rows.waiting[own].max(initial=0)),
        )

    names = ["serve"] * size if pools is None else list(pools)
    whole = of_pool("", np.arange(size))
    return Usage(
        steps=sum(i.steps for i in instances if i.instance not in log.later_stages),
        busy_share=whole.busy_share,
        kv_mean=whole.kv_mean,
        kv_max=whole.kv_max,
        batch_mean=whole.batch_mean,
        batch_max=whole.batch_max,
        waiting_max=whole.waiting_max,
        pools=tuple(
            of_pool(name, np.flatnonzero(np.array([pool == name for pool in names])))
            for name in dict.fromkeys(names)
        ),
        instances=tuple(instances),
        series=series_of(log, points, standing),
    )


def series_of(log: RunLog, points: int = SERIES_POINTS, standing: Standing | None = None) -> Series:
    """Usage over the whole simulated time in ``points`` equal intervals (none if no time passed)."""
    if log.end_s <= 0:
        return Series(0.0, (), (), (), ())
    edges = np.linspace(0.0, log.end_s, points + 1)
    rows, mean_waiting = log.steps, log.steps.mean_waiting
    there = standing or always(len(log.num_blocks))
    used, running, waiting, busy, stood, blocks = (np.zeros(points) for _ in range(6))
    for i, num_blocks in enumerate(log.num_blocks):
        own = np.flatnonzero(rows.instance == i)
        own = own[np.argsort(rows.start_s[own], kind="stable")]
        start, end = rows.start_s[own], rows.end_s[own]
        used += interval_means(edges, start, end, rows.used_blocks[own], rows.first_blocks[own])
        if i not in log.later_stages:
            running += interval_means(edges, start, end, rows.running[own])
            waiting += interval_means(edges, start, end, mean_waiting[own])
        busy += interval_means(edges, start, end, np.ones(len(own)))
        part = np.minimum(edges[1:], there.to_s[i]) - np.maximum(edges[:-1], there.from_s[i])
        present = np.maximum(part, 0.0) / np.diff(edges)
        stood += present
        blocks += present * num_blocks
    return Series(
        interval_s=log.end_s / points,
        kv_share=_tuple(np.divide(used, blocks, out=np.zeros(points), where=blocks > 0)),
        running=_tuple(running),
        waiting=_tuple(waiting),
        busy_share=_tuple(np.divide(busy, stood, out=np.zeros(points), where=stood > 0)),
    )


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole > 0 else None


def _mean(values: np.typing.ArrayLike, weights: Floats) -> float | None:
    total = float(weights.sum())
    return float((np.asarray(values) * weights).sum()) / total if total > 0 else None


def _tuple(values: Floats) -> tuple[float, ...]:
    return tuple(float(v) for v in values)
