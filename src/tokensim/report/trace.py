"""The run as a timeline for Perfetto (ui.perfetto.dev) or chrome://tracing, in the Trace Event Format.

Each instance is a process. Its track "steps" has a slice for each run of equal steps; its counters are KV
blocks in use, and running and waiting requests; each request is an async slice from arrival to finish, with
its queue, prefill and decode inside. Requests that no instance took are marks in the process "client";
transfers are in the process "network" (``trace_transfers``).

A viewer does not survive a million slices, so the timeline ends at the time at which ``max_steps`` runs of
steps have started or ``max_requests`` requests have arrived; the file says so, in ``otherData`` and as a
mark at its end.

Format: "Trace Event Format", docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from typing import IO

import numpy as np
import numpy.typing as npt

from tokensim.metrics.log import STATUSES, RunLog
from tokensim.report.trace_transfers import transfer_events
from tokensim.workload.base import Floats, Ints

MAX_STEPS = 20_000
MAX_REQUESTS = 5_000
"""About 100,000 events and 15 MB in all, which Perfetto opens in a few seconds."""

STAIRS = 4
"""Values of a counter between the start and the end of a run of steps, at most."""

CLIENT = 0
"""Process id of the client; instance i is process i + 1."""


def write_trace(
    file: IO[bytes],
    log: RunLog,
    instance_names: Sequence[str] | None = None,
    *,
    max_steps: int = MAX_STEPS,
    max_requests: int = MAX_REQUESTS,
) -> None:
    """Write the timeline of ``log`` to ``file`` as UTF-8 JSON, one event a line."""
    until_s = _window_end(log, max_steps, max_requests)
    whole = until_s >= log.end_s
    note = (
        "the whole run"
        if whole
        else f"the first {until_s:.6g} s of {log.end_s:.6g} s: later steps and requests are left out"
    )
    header = json.dumps({"shown": note, "complete": log.complete}, ensure_ascii=True)
    file.write(f'{{"displayTimeUnit": "ms", "otherData": {header}, "traceEvents": [\n'.encode())
    names = instance_names or [f"instance {i}" for i in range(len(log.num_blocks))]
    separator = ""
    for event in _events(log, names, until_s, whole, note):
        file.write((separator + event).encode())
        separator = ",\n"
    file.write(b"\n]}\n")


def _window_end(log: RunLog, max_steps: int, max_requests: int) -> float:
    """The time at which the timeline must end to stay within both limits."""
    end_s = log.end_s
    for starts, limit in ((log.steps.start_s, max_steps), (log.requests.arrival_s, max_requests)):
        if len(starts) > limit:
            nth = float(np.sort(starts)[limit])  # NaN, which sorts last, for a request never sent
            end_s = end_s if math.isnan(nth) else min(end_s, nth)
    return end_s


def _events(log: RunLog, names: Sequence[str], until_s: float, whole: bool, note: str) -> Iterator[str]:
    for pid, name in enumerate(["client", *names]):
        yield _metadata(pid, "process_name", name)
        if pid != CLIENT:
            yield _metadata(pid, "thread_name", "steps")
    yield from _step_events(log, until_s, whole)
    yield from _request_events(log, until_s, whole)
    yield from transfer_events(log, names, math.inf if whole else until_s, lambda at: _us(_ns(at)))
    if not whole:
        yield (
            f'{{"ph": "i", "s": "g", "pid": {CLIENT}, "tid": 0, "ts": {_us(_ns(until_s))}, '
            f'"name": {json.dumps("end of this timeline: " + note)}}}'
        )


def _metadata(pid: int, kind: str, name: str) -> str:
    return f'{{"ph": "M", "pid": {pid}, "tid": 0, "name": "{kind}", "args": {{"name": {json.dumps(name)}}}}}'


def _step_events(log: RunLog, until_s: float, whole: bool) -> Iterator[str]:
    s, what = log.steps, log.steps.what
    shown = np.arange(len(s.start_s)) if whole else np.flatnonzero(s.start_s < until_s)
    shown = shown[np.lexsort((s.instance[shown], s.start_s[shown]))]
    starts, ends, idle = _edges(s.instance[shown], s.start_s[shown], s.end_s[shown])
    columns = (
        *(s.instance, s.first_step_s, s.last_step_s, what.steps, what.decode),
        *(s.prefill_tokens, s.running, np.rint(s.mean_waiting).astype(np.int64), s.first_blocks),
        s.used_blocks,
    )
    for start, end, rests, index, first, last, steps, decode, prefill, running, waiting, least, most in zip(
        *(edge.tolist() for edge in (starts, ends, idle)),
        *(column[shown].tolist() for column in columns),
        strict=True,
    ):
        track = f'"pid": {index + 1}, "tid": 0, "ts": '
        at = f"{track}{_us(start)}"
        if not decode and not prefill:  # of a rank that has nothing to run in a step of its group
            name = "dummy"
        else:
            name = "decode" if not prefill else "prefill" if not decode else "mixed"
        yield (
            f'{{"ph": "X", {at}, "dur": {_us(end - start)}, "name": "{name}", "args": {{"steps": {steps}, '
            f'"decode requests": {decode}, "prefill tokens": {prefill}, '
            f'"first step (ms)": {first * 1e3:.6g}, "last step (ms)": {last * 1e3:.6g}}}}}'
        )
        yield from _counters(at, running, waiting, least)
        stairs = min(most - least, STAIRS)
        for stair in range(1, stairs + 1):
            grown = f"{track}{_us(start + stair * (end - start) // (stairs + 1))}"
            yield _blocks(grown, least + stair * (most - least) // stairs)
        if rests:
            yield from _counters(f"{track}{_us(end)}", 0, 0, 0)


def _edges(instance: Ints, start_s: Floats, end_s: Floats) -> tuple[Ints, Ints, npt.NDArray[np.bool_]]:
    """Start and end in whole nanoseconds, so that runs in a row touch, and whether idle time follows.

    A viewer takes a slice that starts a rounding error before the end of another as nested in it.
    """
    starts, ends = (np.rint(times * 1e9).astype(np.int64) for times in (start_s, end_s))
    order = np.lexsort((starts, instance))
    followed = instance[order][1:] == instance[order][:-1]
    before, after = order[:-1][followed], order[1:][followed]
    idle = np.zeros(len(starts), dtype=np.bool_)
    idle[before] = starts[after] - ends[before] > 1
    ends[before] = np.where(idle[before], ends[before], starts[after])
    return starts, ends, idle


def _counters(at: str, running: int, waiting: int, blocks: int) -> Iterator[str]:
    yield _blocks(at, blocks)
    yield f'{{"ph": "C", {at}, "name": "requests", "args": {{"running": {running}, "waiting": {waiting}}}}}'


def _blocks(at: str, blocks: int) -> str:
    return f'{{"ph": "C", {at}, "name": "KV blocks", "args": {{"used": {blocks}}}}}'


def _request_events(log: RunLog, until_s: float, whole: bool) -> Iterator[str]:
    r = log.requests
    shown = np.flatnonzero(~np.isnan(r.arrival_s) & ((r.arrival_s < until_s) | whole))
    columns = (
        *(r.arrival_s, r.scheduled_s, r.first_token_s, r.finish_s, r.input_tokens, r.output_tokens),
        *(r.cached_tokens, r.preemptions, r.instance, r.status),
    )
    for i, arrival, scheduled, first, finish, given, made, cached, preemptions, instance, status in zip(
        shown.tolist(), *(column[shown].tolist() for column in columns), strict=True
    ):
        name = json.dumps(r.names[i] if r.names is not None else str(i))
        if instance < 0:
            yield (
                f'{{"ph": "i", "s": "p", "pid": {CLIENT}, "tid": 0, "ts": {_us(_ns(arrival))}, '
                f'"name": {json.dumps(STATUSES[status])}, "args": {{"request": {name}}}}}'
            )
            continue
        at = f'"cat": "request", "id": "{i}", "pid": {instance + 1}, "tid": 0'
        args = (
            f'{{"request": {name}, "status": "{STATUSES[status]}", "input tokens": {given}, '
            f'"output tokens": {made}, "cached tokens": {cached}, "preemptions": {preemptions}}}'
        )
        borders = [min(log.end_s if math.isnan(t) else t, log.end_s) for t in (scheduled, first, finish)]
        yield f'{{"ph": "b", {at}, "ts": {_us(_ns(arrival))}, "name": "request", "args": {args}}}'
        start = arrival
        for phase, end in zip(("queue", "prefill", "decode"), borders, strict=True):
            if end > start:
                yield f'{{"ph": "b", {at}, "ts": {_us(_ns(start))}, "name": "{phase}"}}'
                yield f'{{"ph": "e", {at}, "ts": {_us(_ns(end))}, "name": "{phase}"}}'
                start = end
        yield f'{{"ph": "e", {at}, "ts": {_us(_ns(start))}, "name": "request"}}'


def _us(ns: int) -> str:
    """Microseconds, the unit of the format, to the nanosecond."""
    return f"{ns // 1000}.{ns % 1000:03d}"


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)
