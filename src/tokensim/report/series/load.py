"""Load over time: KV use, batch and queue of each instance, and the tokens and requests a second of all."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tokensim.metrics.bins import interval_maxima, interval_means
from tokensim.metrics.log import RunLog
from tokensim.metrics.usage import Standing, always
from tokensim.report.series.base import Columns, columns, joined
from tokensim.workload.base import Floats

BINS = 240
"""Intervals of the simulated time."""

ROUNDING = 1e-9
"""What adding up parts of an interval loses."""

MOST_SERIES = 8
"""Instances that are drawn one by one (a palette has no more colours that people can tell apart); of more,
each pool is drawn as one."""


def load_over_time(
    log: RunLog,
    names: Sequence[str],
    pools: Sequence[str],
    standing: Standing | None = None,
    bins: int = BINS,
) -> Columns:
    """``time_s`` (middle of an interval), ``instance``, and mean and greatest ``kv`` (share of its blocks),
    ``running`` and ``waiting`` requests; a later stage of a pipeline has KV alone.

    Of more than ``MOST_SERIES`` instances, a row is a pool: means are over its instances that stood then, the
    greatest is that of any. Time without a step counts as zero, time in which none stood (``standing``;
    default: all stood always) is None.
    """
    if log.end_s <= 0 or not len(log.steps.start_s):
        names_of_columns = ("kv", "kv_max", "running", "running_max", "waiting", "waiting_max")
        return columns(**dict.fromkeys(("time_s", "instance", *names_of_columns), ()))
    edges = np.linspace(0.0, log.end_s, bins + 1)
    groups: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        groups.setdefault(name if len(names) <= MOST_SERIES else pools[index], []).append(index)
    there = standing or always(len(names))
    return joined(_one(log, edges, name, members, there) for name, members in groups.items())


def _one(log: RunLog, edges: Floats, name: str, members: Sequence[int], there: Standing) -> Columns:
    rows, mean_waiting = log.steps, log.steps.mean_waiting
    kv, running, waiting = [], [], []
    stood, stood_first = (np.zeros(len(edges) - 1) for _ in range(2))  # of later stages KV alone is told
    for i in members:
        part = np.minimum(edges[1:], there.to_s[i]) - np.maximum(edges[:-1], there.from_s[i])
        present = part.clip(min=0.0) / np.diff(edges)
        stood += present
        own = np.flatnonzero(rows.instance == i)
        own = own[np.argsort(rows.start_s[own], kind="stable")]
        start, end = rows.start_s[own], rows.end_s[own]
        blocks = max(log.num_blocks[i], 1)
        used, first = rows.used_blocks[own] / blocks, rows.first_blocks[own] / blocks
        kv.append(_told(edges, start, end, used, first=first))
        if i not in log.later_stages:
            stood_first += present
            running.append(_told(edges, start, end, rows.running[own]))
            waiting.append(_told(edges, start, end, rows.waiting[own], mean=mean_waiting[own]))
    told = {"kv": (kv, stood), "running": (running, stood_first), "waiting": (waiting, stood_first)}
    bins = len(edges) - 1
    table = columns(time_s=(edges[:-1] + edges[1:]) / 2, instance=[name] * bins)
    for metric, (parts, size) in told.items():
        total = np.sum([mean for mean, _ in parts] or [np.zeros(bins)], axis=0)
        most = np.max([greatest for _, greatest in parts] or [np.zeros(bins)], axis=0)
        mean = np.divide(total, size, out=np.full(bins, np.nan), where=size > ROUNDING)
        most = np.where(size > ROUNDING, np.maximum(most, mean), np.nan)
        table |= columns(**{metric: mean, f"{metric}_max": most})
    return table


def _told(
    edges: Floats,
    start: Floats,
    end: Floats,
    value: np.typing.ArrayLike,
    *,
    mean: np.typing.ArrayLike | None = None,
    first: np.typing.ArrayLike | None = None,
) -> tuple[Floats, Floats]:
    """Means and maxima of rows that end at ``value``: on average they are ``mean``, or begin at ``first``."""
    means = interval_means(edges, start, end, value if mean is None else mean, first)
    return means, interval_maxima(edges, start, end, value)


def throughput_over_time(log: RunLog, bins: int = BINS // 2) -> Columns:
    """``time_s`` (middle of an interval), ``input`` and ``output`` tokens a second, and requests that
    ``arrived`` and ``finished`` a second.

    A prompt counts when its first token comes, as in the summary; output tokens are spread evenly between a
    request's first and last.
    """
    r = log.requests
    if log.end_s <= 0:
        return columns(time_s=[], input=[], output=[], arrived=[], finished=[])
    edges = np.linspace(0.0, log.end_s, bins + 1)
    width = log.end_s / bins
    first = r.first_token_s
    started = ~np.isnan(first)
    last = np.where(np.isnan(r.finish_s), log.end_s, r.finish_s)
    later = np.maximum(r.output_tokens - 1, 0)[started]
    spread = _spread(edges, first[started], last[started], later)
    ones = np.ones(int(started.sum()))
    return columns(
        time_s=(edges[:-1] + edges[1:]) / 2,
        input=_counted(edges, first[started], r.input_tokens[started]) / width,
        output=(_counted(edges, first[started], ones) + spread) / width,
        arrived=_counted(edges, r.arrival_s, np.ones(len(first))) / width,
        finished=_counted(edges, r.finish_s, np.ones(len(first))) / width,
    )


def _counted(edges: Floats, at: Floats, amount: np.typing.ArrayLike) -> Floats:
    known = ~np.isnan(at)
    counted: Floats = np.histogram(at[known], bins=edges, weights=np.asarray(amount, np.float64)[known])[0]
    return counted


def _spread(edges: Floats, start: Floats, end: Floats, amount: np.typing.ArrayLike) -> Floats:
    """``amount`` of each entry, spread evenly from ``start`` to ``end``, in each interval.

    What has come by time t is a sum of ramps, of which only the sums of slopes and offsets of those under
    way are needed.
    """
    whole = np.asarray(amount, dtype=np.float64)
    span = np.maximum(end - start, 1e-12)
    slope = whole / span
    come = np.zeros(len(edges))
    for at, sign in ((start, 1.0), (start + span, -1.0)):
        order = np.argsort(at, kind="stable")
        passed = np.searchsorted(at[order], edges, side="right")
        slopes = np.concatenate([[0.0], np.cumsum(slope[order])])[passed]
        offsets = np.concatenate([[0.0], np.cumsum((slope * at)[order])])[passed]
        come += sign * (slopes * edges - offsets)
    return np.maximum(np.diff(come), 0.0)
