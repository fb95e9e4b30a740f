"""How full the instances were: KV blocks, batch size, busy time; as means, maxima and a short series.

Means weigh each row of the step log by its duration, so they are over the time in which steps ran; how much
of the makespan that is, says the busy share. In the series, time without a step counts as zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tokensim.metrics.log import RunLog
from tokensim.workload.base import Floats

SERIES_POINTS = 50
"""Points of the series in a summary: as many as fit a line of 80 columns with its label and peak."""


@dataclass(frozen=True, slots=True)
class InstanceUsage:
    """One instance; ``kv_*`` are shares of its ``num_blocks``, ``batch_*`` running requests."""

    instance: int
    requests: int
    steps: int
    num_blocks: int
    busy_s: float
    busy_share: float | None
    kv_mean: float | None
    kv_max: float | None
    batch_mean: float | None
    batch_max: int
    waiting_max: int


@dataclass(frozen=True, slots=True)
class Series:
    """Means over equal intervals; entry i covers ``[i·interval_s, (i+1)·interval_s)``.

    ``kv_share`` is of all instances' blocks together, ``running`` and ``waiting`` are requests of all
    instances, ``busy_share`` is the mean over instances.
    """

    interval_s: float
    kv_share: tuple[float, ...]
    running: tuple[float, ...]
    waiting: tuple[float, ...]
    busy_share: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Usage:
    """All instances together, then each; ``busy_share`` is their mean share of the makespan.

    A step of a pipeline counts once, on its first stage; the busy share is the mean of all stages.
    """

    steps: int
    busy_share: float | None
    kv_mean: float | None
    kv_max: float | None
    batch_mean: float | None
    batch_max: int
    waiting_max: int
    instances: tuple[InstanceUsage, ...]
    series: Series


def usage_of(log: RunLog, duration_s: float, points: int = SERIES_POINTS) -> Usage:
    """The usage of all instances of ``log`` over a makespan of ``duration_s`` seconds."""
    rows = log.steps
    seconds = rows.end_s - rows.start_s
    blocks = np.maximum(np.asarray(log.num_blocks, dtype=np.float64), 1.0)
    kv = rows.used_blocks / blocks[rows.instance]
    instances = []
    for i, num_blocks in enumerate(log.num_blocks):
        own = rows.instance == i
        busy_s = float(seconds[own].sum())
        instances.append(
            InstanceUsage(
                instance=i,
                requests=int((log.requests.instance == i).sum()),
                steps=int(rows.what.steps[own].sum()),
                num_blocks=num_blocks,
                busy_s=busy_s,
                busy_share=busy_s / duration_s if duration_s > 0 else None,
                kv_mean=_mean(kv[own], seconds[own]),
                kv_max=float(kv[own].max()) if own.any() else None,
                batch_mean=_mean(rows.running[own], seconds[own]),
                batch_max=int(rows.running[own].max(initial=0)),
                waiting_max=int(rows.waiting[own].max(initial=0)),
            )
        )
    shares = [i.busy_share for i in instances if i.busy_share is not None]
    first = [i for i in instances if i.instance not in log.later_stages]
    return Usage(
        steps=sum(i.steps for i in first),
        busy_share=sum(shares) / len(shares) if shares else None,
        kv_mean=_mean(kv, seconds),
        kv_max=float(kv.max()) if len(kv) else None,
        batch_mean=_mean(rows.running, seconds),
        batch_max=int(rows.running.max(initial=0)),
        waiting_max=int(rows.waiting.max(initial=0)),
        instances=tuple(instances),
        series=series_of(log, points),
    )


def series_of(log: RunLog, points: int = SERIES_POINTS) -> Series:
    """Usage over the whole simulated time in ``points`` equal intervals (none if no time passed)."""
    if log.end_s <= 0:
        return Series(0.0, (), (), (), ())
    edges = np.linspace(0.0, log.end_s, points + 1)
    rows = log.steps
    used, running, waiting, busy = (np.zeros(points) for _ in range(4))
    for i in range(len(log.num_blocks)):
        own = np.flatnonzero(rows.instance == i)
        own = own[np.argsort(rows.start_s[own], kind="stable")]
        start, end = rows.start_s[own], rows.end_s[own]
        used += _interval_means(edges, start, end, rows.used_blocks[own])
        if i not in log.later_stages:
            running += _interval_means(edges, start, end, rows.running[own])
            waiting += _interval_means(edges, start, end, rows.waiting[own])
        busy += _interval_means(edges, start, end, np.ones(len(own)))
    return Series(
        interval_s=log.end_s / points,
        kv_share=_tuple(used / max(sum(log.num_blocks), 1)),
        running=_tuple(running),
        waiting=_tuple(waiting),
        busy_share=_tuple(busy / max(len(log.num_blocks), 1)),
    )


def _interval_means(edges: Floats, start: Floats, end: Floats, value: np.typing.ArrayLike) -> Floats:
    """The mean of a function over each interval; it is ``value`` on [start, end) and zero elsewhere.

    Its integral is linear between the borders of the rows, so it is read off at the edges and differenced.
    """
    if not len(start):
        return np.zeros(len(edges) - 1)
    borders = np.column_stack([start, end]).ravel()
    area = np.cumsum((end - start) * np.asarray(value, dtype=np.float64))
    integral = np.column_stack([np.concatenate([[0.0], area[:-1]]), area]).ravel()
    means: Floats = np.diff(np.interp(edges, borders, integral)) / np.diff(edges)
    return means


def _mean(values: np.typing.ArrayLike, weights: Floats) -> float | None:
    total = float(weights.sum())
    return float((np.asarray(values) * weights).sum()) / total if total > 0 else None


def _tuple(values: Floats) -> tuple[float, ...]:
    return tuple(float(v) for v in values)
