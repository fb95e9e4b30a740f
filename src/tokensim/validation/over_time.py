"""Measured and simulated side by side over time: latencies by when a request was sent, the load, the KV
cache.

For cases that were recorded with more than the times of requests: ``tokens`` (when each token came) and
``server_series`` (what the server said of itself meanwhile). Time zero is the first arrival of the case, as
in its replay.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from tokensim.errors import InputError
from tokensim.metrics.bins import interval_means
from tokensim.validation.case import Case
from tokensim.workload.base import Floats

if TYPE_CHECKING:
    from tokensim.assemble import Result
    from tokensim.metrics.log import RunLog
    from tokensim.validation.replay import Times

BINS = 80
"""Intervals of the time that the longer side took: as many as a plot of 300 pixels can show."""

Shown = Literal["duration", "count", "share"]


@dataclass(frozen=True, slots=True)
class OverTime:
    """One quantity: ``title``, how its values are ``shown``, and both sides at ``time_s`` (the middle of an
    interval); NaN where a side has nothing to say."""

    title: str
    shown: Shown
    time_s: Floats
    measured: Floats
    simulated: Floats


def is_recorded(case: Case) -> bool:
    """Whether ``case`` has anything over time."""
    return case.facts.tokens is not None or case.facts.server_series is not None


def over_time_of(
    case: Case, measured: Times, simulated: Times, sent_s: Floats, result: Result
) -> list[OverTime]:
    """The quantities that both sides have, in the order in which they are shown.

    ``sent_s``: when the simulated client sent each request. Raises ``InputError`` for a file of the case that
    is not there or not what it should be.
    """
    zero = float(case.measured.arrival_s[0])
    ours = (case.measured.anchor_s - zero, measured)
    theirs = (sent_s, simulated)
    ends = [float(np.nanmax(at + times.e2e_s)) for at, times in (ours, theirs)]
    edges = np.linspace(0.0, max(*ends, 1e-9), BINS + 1)
    middle = (edges[:-1] + edges[1:]) / 2
    told = [
        OverTime(
            "TTFT, by when it was sent",
            "duration",
            middle,
            *(_means(edges, at, t.ttft_s) for at, t in (ours, theirs)),
        ),
        OverTime(
            "TPOT, by when it was sent",
            "duration",
            middle,
            *(_means(edges, at, t.tpot_s) for at, t in (ours, theirs)),
        ),
        OverTime(
            "Requests in flight",
            "count",
            middle,
            *(_in_flight(edges, at, t.e2e_s) for at, t in (ours, theirs)),
        ),
    ]
    if case.facts.tokens is not None:
        table = _table(case, case.facts.tokens, ("request", "time_s", "tokens"))
        rows = table["request"].astype(np.int64)
        if len(rows) and not 0 <= rows.min() <= rows.max() < len(sent_s):
            raise InputError("a request that is not in the case", where=str(_file(case, case.facts.tokens)))
        # Lines of a case are put in order of arrival when it is read; recorded ones are so already.
        at = ours[0][rows] + table["time_s"]
        width = float(edges[1])
        came = np.histogram(at, bins=edges, weights=table["tokens"])[0] / width
        told.append(OverTime("Output tokens/s", "count", middle, came, _tokens(edges, result.log)))
    if case.facts.server_series is not None:
        table = _table(case, case.facts.server_series, ("time_s",))
        for name, title, shown in SERVER:
            if name in table:
                values = _polled(edges, table["time_s"] - zero, table[name])
                told.append(OverTime(title, shown, middle, values, _load(edges, result.log, name)))
    return told


SERVER: tuple[tuple[str, str, Shown], ...] = (
    ("running", "Running requests", "count"),
    ("waiting", "Waiting requests", "count"),
    ("kv_usage", "KV cache in use", "share"),
)
"""Columns of a server's series that the simulation has too."""


def _means(edges: Floats, at: Floats, values: Floats) -> Floats:
    """The mean of ``values`` in each interval; NaN where there is none."""
    known = ~np.isnan(values) & ~np.isnan(at)
    count = np.histogram(at[known], bins=edges)[0]
    total = np.histogram(at[known], bins=edges, weights=values[known])[0]
    means: Floats = np.divide(total, count, out=np.full(len(count), np.nan), where=count > 0)
    return means


def _polled(edges: Floats, at: Floats, values: Floats) -> Floats:
    """What polls found, with straight lines between them where an interval has none; NaN before the first and
    after the last."""
    found = _means(edges, at, values)
    there = np.flatnonzero(~np.isnan(found))
    if len(there):
        between = np.arange(there[0], there[-1] + 1)
        found[between] = np.interp(between, there, found[there])
    return found


def _in_flight(edges: Floats, at: Floats, e2e_s: Floats) -> Floats:
    """Requests that were sent and not answered yet: the mean of each interval."""
    known = ~np.isnan(e2e_s)
    start, end = at[known], at[known] + e2e_s[known]

    def area(times: Floats) -> Floats:
        """Request-seconds since ``times`` up to each edge, if requests never ended."""
        ordered = np.sort(times)
        sums = np.concatenate([[0.0], np.cumsum(ordered)])
        passed = np.searchsorted(ordered, edges, side="right")
        so_far: Floats = passed * edges - sums[passed]
        return so_far

    means: Floats = np.maximum(np.diff(area(start) - area(end)) / np.diff(edges), 0.0)
    return means


def _tokens(edges: Floats, log: RunLog) -> Floats:
    """Output tokens a second, each request's spread evenly between its first and its last."""
    r = log.requests
    known = ~np.isnan(r.last_delivery_s)
    first, last = r.first_delivery_s[known], r.last_delivery_s[known]
    later = np.maximum(r.output_tokens[known] - 1, 0).astype(np.float64)
    came = np.histogram(first, bins=edges)[0].astype(np.float64)
    span = np.maximum(last - first, 1e-9)
    for at, slope in ((first, later / span), (first + span, -later / span)):
        order = np.argsort(at, kind="stable")
        passed = np.searchsorted(at[order], edges, side="right")
        slopes = np.concatenate([[0.0], np.cumsum(slope[order])])[passed]
        offsets = np.concatenate([[0.0], np.cumsum((slope * at)[order])])[passed]
        came += np.diff(slopes * edges - offsets)
    rate: Floats = np.maximum(came, 0.0) / np.diff(edges)
    return rate


def _load(edges: Floats, log: RunLog, name: str) -> Floats:
    """Running or waiting requests of all instances, or the share of KV blocks that they use."""
    rows = log.steps
    total = np.zeros(len(edges) - 1)
    blocks = float(sum(log.num_blocks)) or 1.0
    requests = rows.mean_waiting if name == "waiting" else rows.running
    for instance in range(len(log.num_blocks)):
        if name != "kv_usage" and instance in log.later_stages:
            continue
        own = np.flatnonzero(rows.instance == instance)
        own = own[np.argsort(rows.start_s[own], kind="stable")]
        between = edges, rows.start_s[own], rows.end_s[own]
        if name == "kv_usage":
            total += interval_means(*between, rows.used_blocks[own] / blocks, rows.first_blocks[own] / blocks)
        else:
            total += interval_means(*between, requests[own])
    return total


def _file(case: Case, name: str) -> Path:
    return case.file.absolute().parent / name


def _table(case: Case, name: str, needed: tuple[str, ...]) -> Mapping[str, Any]:
    """The numeric columns of a Parquet file of the case, NaN for null."""
    import polars as pl

    file = _file(case, name)
    try:
        frame = pl.read_parquet(file)
    except FileNotFoundError:
        raise InputError("no such file", where=str(file), hint=f"{case.file} names it") from None
    except (pl.exceptions.PolarsError, OSError) as error:
        raise InputError(f"not a Parquet file: {error}", where=str(file)) from None
    missing = [column for column in needed if column not in frame.columns]
    if missing:
        raise InputError(
            f"no column '{missing[0]}'", where=str(file), hint=f"it has {', '.join(frame.columns)}"
        )
    numeric = [column for column, kind in frame.schema.items() if kind.is_numeric()]
    return {column: frame[column].cast(pl.Float64).fill_null(float("nan")).to_numpy() for column in numeric}
