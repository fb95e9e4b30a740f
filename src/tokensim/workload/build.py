"""From the ``workload:`` section to the columns of requests."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from tokensim.errors import InputError
from tokensim.scenario.workload import TraceSpec, WorkloadSpec
from tokensim.workload import streams as names
from tokensim.workload.arrivals import NS, Arrivals
from tokensim.workload.base import Ints, Workload
from tokensim.workload.parts import arrivals_of
from tokensim.workload.sessions import sessions
from tokensim.workload.source import resolve
from tokensim.workload.streams import Streams
from tokensim.workload.synthetic import synthetic
from tokensim.workload.traces import TraceRows, read_trace
from tokensim.workload.traces.base import TRAITS
from tokensim.workload.traces.rounds import gaps_as_pauses, numbered, with_answers
from tokensim.workload.traits import with_traits

LONGEST_LEAD_NS = 10**8 * 10**9
"""Three years. A trace whose own times begin later has no zero of its own: they are dates."""


def build_workload(spec: WorkloadSpec, seed: int, base_dir: Path | None = None) -> Workload:
    """The requests that ``spec`` asks for; the same ``spec``, files and ``seed`` give the same bytes.

    Paths in ``spec`` are relative to ``base_dir`` (the scenario's folder; default the current one). Raises
    ``InputError`` for a bad file or an impossible combination.
    """
    folder, streams = base_dir if base_dir is not None else Path(), Streams(seed)
    if spec.trace is not None:
        workload = _from_trace(spec, spec.trace, streams, folder)
    else:
        make = synthetic if spec.sessions is None else sessions
        workload = make(spec, streams, folder)
    _check(workload, 1 if spec.task == "generate" else 0)
    return replace(with_traits(workload, spec, streams), max_in_flight=spec.max_in_flight)


def _from_trace(spec: WorkloadSpec, trace: TraceSpec, streams: Streams, folder: Path) -> Workload:
    path = resolve(trace.path, folder)
    rows = _served(read_trace(path, trace, folder), trace, path)
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
    if not trace.sessions:
        rows = replace(rows, after=None, delay_s=None)
    if trace.sessions:
        rows = _in_sessions(rows, trace, path)
    if spec.arrivals is not None:
        rows, arrivals = _sent_otherwise(rows, spec, streams)
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
        segments=rows.segments,
        names=None if rows.names is None else list(rows.names),
        concurrency=arrivals.concurrency,
        think_s=arrivals.think_s,
        after=rows.after,
        delay_s=rows.delay_s,
        notes=rows.notes,
        **{name: getattr(rows, name) for name in TRAITS},
    )


def _in_sessions(rows: TraceRows, trace: TraceSpec, path: Path) -> TraceRows:
    """``rows`` with the pauses between rounds, and answers in the prompts where the ids of blocks tell."""
    after, delay_s, segments = rows.after, rows.delay_s, rows.segments
    if after is None:
        raise InputError(
            "the trace does not say which requests belong together",
            where="workload.trace.sessions",
            hint=f"{path.name} has no sessions; a generic trace may have 'session' or 'after'",
        )
    if trace.answer_tpot is not None and (delay_s is not None or rows.arrival_ns is None):
        raise InputError(
            "the trace has pauses of its own ('delay_s')"
            if delay_s is not None
            else "the trace has no times",
            where="workload.trace.answer_tpot",
            hint="leave it out",
        )
    if delay_s is None and rows.arrival_ns is not None:
        answer_s = trace.answer_tpot or 0.0
        delay_s = gaps_as_pauses(rows.arrival_ns, after, rows.output_tokens, trace.rate_scale, answer_s)
    if segments is not None and segments.output_ids is None:
        segments = with_answers(segments, after, rows.input_tokens, rows.output_tokens)
    return replace(rows, segments=segments, delay_s=delay_s, session=numbered(after))


def _sent_otherwise(rows: TraceRows, spec: WorkloadSpec, streams: Streams) -> tuple[TraceRows, Arrivals]:
    """``rows`` sent by ``spec.arrivals``: one arrival each; of sessions one for all of it, as rounds follow
    by themselves, and in the order of these."""
    assert spec.arrivals is not None
    if rows.arrival_ns is not None:
        note = f"arrivals by '{spec.arrivals.process}' in place of the trace's own"
        rows = replace(rows, notes=(*rows.notes, note))
    if rows.after is None:
        return rows, arrivals_of(spec, streams, len(rows), None)
    session = numbered(rows.after)
    arrivals = arrivals_of(spec, streams, int(session.max()) + 1, None)
    order = np.argsort(arrivals.arrival_s[session], kind="stable")
    session = session[order]
    think_s = None if arrivals.think_s is None else arrivals.think_s[session]
    return rows.take(order), Arrivals(arrivals.arrival_s[session], arrivals.concurrency, think_s)


def _served(rows: TraceRows, trace: TraceSpec, path: Path) -> TraceRows:
    """The rows that ran, with time zero at the first row of the trace, unless the file's own is wanted; what
    is dropped is noted."""
    if rows.arrival_ns is not None:
        first_ns = int(rows.arrival_ns[0])
        if trace.time_zero == "first":
            rows = replace(rows, arrival_ns=rows.arrival_ns - first_ns)
        elif not 0 <= first_ns <= LONGEST_LEAD_NS:
            told = "before its zero" if first_ns < 0 else "years after its zero, as dates and Unix times do"
            raise InputError(
                f"the times of {path.name} begin {told}",
                where="workload.trace.time_zero",
                hint="leave it out: the first request then comes at 0",
            )
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
    if (trace.start, trace.end, trace.rate_scale, trace.time_zero) == (None, None, 1.0, "first"):
        return rows
    if rows.arrival_ns is None:
        key = next(k for k in ("start", "end", "rate_scale", "time_zero") if k in trace.model_fields_set)
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
        answers = taken.segments.output_ids
        if answers is not None:
            stride = max(stride, int(answers.max(initial=0)) + 1)
            answers = np.where(answers >= 0, answers + repeat * stride, -1)
        ids = taken.segments.ids + copies * stride
        taken = replace(taken, segments=replace(taken.segments, ids=ids, output_ids=answers))
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


def _check(workload: Workload, least_output: int) -> None:
    """What every workload keeps, a plug-in's too; raises ``InputError`` naming the request."""
    n = len(workload)
    for name, least in (("input_tokens", 1), ("output_tokens", least_output)):
        values: Ints = getattr(workload, name)
        if len(values) != n or values.dtype != np.int64:
            raise InputError(
                f"{name} has {len(values)} values of {values.dtype} for {n} requests", where="workload"
            )
        if n and values.min() < least:
            row = int(np.argmin(values))
            raise InputError(f"{name} of request {row} is {values[row]}; at least {least}", where="workload")
    times = workload.arrival_s
    if not np.isfinite(times).all() or (n and (times[0] < 0 or (np.diff(times) < 0).any())):
        raise InputError("arrivals must be finite, not negative, and in order", where="workload.arrivals")
