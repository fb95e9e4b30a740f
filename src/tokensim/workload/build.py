"""From the ``workload:`` section to the columns of requests."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel

from tokensim.errors import InputError
from tokensim.registry import Registry, register
from tokensim.scenario.lengths import JointLengths
from tokensim.scenario.workload import TraceSpec, WorkloadSpec
from tokensim.workload import streams as names
from tokensim.workload.arrivals import NS, ArrivalProcess, Arrivals
from tokensim.workload.base import Ints, Workload
from tokensim.workload.lengths import Joint, LengthDistribution
from tokensim.workload.source import resolve
from tokensim.workload.streams import Streams
from tokensim.workload.table import read_table
from tokensim.workload.traces import TraceRows, read_trace


def build_workload(spec: WorkloadSpec, seed: int, base_dir: Path | None = None) -> Workload:
    """The requests that ``spec`` asks for; the same ``spec``, files and ``seed`` give the same bytes.

    Paths in ``spec`` are relative to ``base_dir`` (the scenario's folder; default the current one). Raises
    ``InputError`` for a bad file or an impossible combination.
    """
    folder, streams = base_dir if base_dir is not None else Path(), Streams(seed)
    if spec.trace is not None:
        workload = _from_trace(spec, spec.trace, streams, folder)
    else:
        workload = _synthetic(spec, streams, folder)
    _check(workload)
    return replace(workload, max_in_flight=spec.max_in_flight)


def _synthetic(spec: WorkloadSpec, streams: Streams, folder: Path) -> Workload:
    arrivals = _arrivals(spec, streams, spec.num_requests, spec.duration)
    n = len(arrivals.arrival_s)
    if n == 0:
        raise InputError(
            f"no request arrives within {spec.duration:g} s",
            where="workload.duration",
            hint="lengthen duration or raise the rate",
        )
    if spec.lengths is not None:
        inputs, outputs = _joint(spec.lengths, folder).sample(streams(names.JOINT_LENGTHS), n)
    else:
        inputs = _lengths(spec.input_tokens, folder).sample(streams(names.INPUT_LENGTHS), n)
        outputs = _lengths(spec.output_tokens, folder).sample(streams(names.OUTPUT_LENGTHS), n)
    return Workload(
        arrivals.arrival_s, inputs, outputs, concurrency=arrivals.concurrency, think_s=arrivals.think_s
    )


def _part(registry: Registry, key: str, spec: BaseModel, folder: Path) -> Any:
    """The registered class that ``spec`` names under ``key``, made from the other keys."""
    keys = {name: getattr(spec, name) for name in type(spec).model_fields if name != key}
    keys |= spec.model_extra or {}
    if isinstance(keys.get("path"), str):
        keys["path"] = resolve(keys["path"], folder)
    return registry.get(getattr(spec, key), where="workload")(**keys)


def _arrivals(spec: WorkloadSpec, streams: Streams, count: int | None, duration_s: float | None) -> Arrivals:
    assert spec.arrivals is not None
    process: ArrivalProcess = _part(register.arrival_process, "process", spec.arrivals, Path())
    arrivals = process.sample(streams, count, duration_s)
    if count is not None and len(arrivals.arrival_s) != count:
        raise InputError(
            f"gave {len(arrivals.arrival_s)} arrivals where {count} were asked for",
            where=f"the arrival process '{spec.arrivals.process}'",
        )
    return arrivals


def _lengths(spec: BaseModel | None, folder: Path) -> LengthDistribution:
    assert spec is not None
    part: LengthDistribution = _part(register.length_distribution, "distribution", spec, folder)
    return part


def _joint(spec: JointLengths, folder: Path) -> Joint:
    if spec.pairs is not None:
        pairs = np.array(spec.pairs, dtype=np.int64)
        return Joint(pairs[:, 0].copy(), pairs[:, 1].copy())
    assert spec.path is not None
    table = read_table(resolve(spec.path, folder))
    return Joint(table.tokens(spec.input_column, least=1), table.tokens(spec.output_column, least=1))


def _from_trace(spec: WorkloadSpec, trace: TraceSpec, streams: Streams, folder: Path) -> Workload:
    path = resolve(trace.path, folder)
    rows = _served(read_trace(path, trace, folder), path)
    if rows.arrival_ns is None and spec.arrivals is None:
        raise InputError(
            "the trace has no arrivals",
            where=str(path),
            hint="add workload.arrivals, e.g. {process: poisson, rate: 20} (--rate 20 on the command line)",
        )
    rows = _window(rows, trace, path)
    if trace.limit is not None:
        rows = rows.take(np.arange(min(trace.limit, len(rows))))
    if trace.resample is not None:
        rows = _resample(rows, trace.resample, streams)
    notes = rows.notes
    if spec.arrivals is not None:
        arrivals = _arrivals(spec, streams, len(rows), None)
        if rows.arrival_ns is not None:
            notes += (f"arrivals by '{spec.arrivals.process}' in place of the trace's own",)
    else:
        assert rows.arrival_ns is not None
        times = rows.arrival_ns
        if trace.rate_scale != 1.0:
            times = np.rint(times / trace.rate_scale).astype(np.int64)
        arrivals = Arrivals(times / NS)
    return Workload(
        arrivals.arrival_s,
        rows.input_tokens,
        rows.output_tokens,
        priority=rows.priority,
        segments=rows.segments,
        names=None if rows.names is None else list(rows.names),
        concurrency=arrivals.concurrency,
        think_s=arrivals.think_s,
        notes=notes,
    )


def _served(rows: TraceRows, path: Path) -> TraceRows:
    """The rows that ran, with time zero at the first row of the trace; what is dropped is noted."""
    if rows.arrival_ns is not None:
        rows = replace(rows, arrival_ns=rows.arrival_ns - rows.arrival_ns[0])
    kept = (rows.input_tokens > 0) & (rows.output_tokens > 0)
    dropped = len(rows) - int(kept.sum())
    if not dropped:
        return rows
    if dropped == len(rows):
        raise InputError("every row has 0 input or 0 output tokens", where=str(path), hint="nothing to serve")
    note = f"{dropped:,} of {len(rows):,} rows dropped: 0 input or 0 output tokens (failed requests)"
    return replace(rows.take(np.flatnonzero(kept)), notes=(*rows.notes, note))


def _window(rows: TraceRows, trace: TraceSpec, path: Path) -> TraceRows:
    """The rows from ``start`` on and before ``end``, with time zero at ``start``."""
    if trace.start is None and trace.end is None and trace.rate_scale == 1.0:
        return rows
    if rows.arrival_ns is None:
        key = next(k for k in ("start", "end", "rate_scale") if k in trace.model_fields_set)
        raise InputError(
            f"the trace has no arrivals, so {key} means nothing",
            where=f"workload.trace.{key}",
            hint="leave it out",
        )
    start = round((trace.start or 0.0) * NS)
    first = int(np.searchsorted(rows.arrival_ns, start))
    last = (
        int(np.searchsorted(rows.arrival_ns, round(trace.end * NS))) if trace.end is not None else len(rows)
    )
    if first == last:
        raise InputError(
            "no request in the window",
            where="workload.trace.start" if trace.start is not None else "workload.trace.end",
            hint=f"{path.name} lasts {rows.arrival_ns[-1] / NS:,.1f} s",
        )
    kept = rows if (first, last) == (0, len(rows)) else rows.take(np.arange(first, last))
    assert kept.arrival_ns is not None
    return replace(kept, arrival_ns=kept.arrival_ns - start)


def _resample(rows: TraceRows, count: int, streams: Streams) -> TraceRows:
    """``count`` rows drawn with replacement, each with its lengths and the gap before it.

    The first row, which has no gap before it, gets the mean one. The k-th repeat of a row has ids of its own:
    it shares prefixes with other k-th repeats as the trace's rows do, and is not a full hit on its first
    appearance.
    """
    drawn = streams(names.RESAMPLING).randint(0, len(rows), count, dtype=np.int64)
    taken = rows.take(drawn)
    if rows.arrival_ns is not None:
        span = int(rows.arrival_ns[-1] - rows.arrival_ns[0])
        gaps = np.diff(rows.arrival_ns, prepend=rows.arrival_ns[0] - span // max(len(rows) - 1, 1))
        taken = replace(taken, arrival_ns=np.cumsum(gaps[drawn]))
    repeat = _repeats(drawn)
    if taken.segments is not None:
        stride = int(taken.segments.ids.max(initial=0)) + 1
        copies = np.repeat(repeat, np.diff(taken.segments.offsets))
        taken = replace(taken, segments=replace(taken.segments, ids=taken.segments.ids + copies * stride))
    if taken.names is not None:
        renamed = [f"{n}#{k}" if k else n for n, k in zip(taken.names, repeat.tolist(), strict=True)]
        taken = replace(taken, names=renamed)
    note = f"{count:,} requests drawn with replacement from {len(rows):,}"
    return replace(taken, notes=(*taken.notes, note))


def _repeats(drawn: Ints) -> Ints:
    """How many times each value has come before: [5, 7, 5] gives [0, 0, 1]."""
    order = np.argsort(drawn, kind="stable")
    ordered = drawn[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    sizes = np.diff(np.append(starts, len(drawn)))
    result = np.empty(len(drawn), dtype=np.int64)
    result[order] = np.arange(len(drawn)) - np.repeat(starts, sizes)
    return result


def _check(workload: Workload) -> None:
    """What every workload keeps, a plug-in's too; raises ``InputError`` naming the request."""
    n = len(workload)
    for name in ("input_tokens", "output_tokens"):
        values: Ints = getattr(workload, name)
        if len(values) != n or values.dtype != np.int64:
            raise InputError(
                f"{name} has {len(values)} values of {values.dtype} for {n} requests", where="workload"
            )
        if n and values.min() < 1:
            row = int(np.argmin(values))
            raise InputError(f"{name} of request {row} is {values[row]}; at least 1", where="workload")
    times = workload.arrival_s
    if not np.isfinite(times).all() or (n and (times[0] < 0 or (np.diff(times) < 0).any())):
        raise InputError("arrivals must be finite, not negative, and in order", where="workload.arrivals")
