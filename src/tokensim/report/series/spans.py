"""What each request of a sample was doing, and when: the bars of a Gantt chart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tokensim.metrics.log import STATUSES, RunLog
from tokensim.report.series.base import Columns, columns
from tokensim.workload.base import Ints

ROWS = 100
"""Requests shown at a time: a row each, of which a screen has room for about so many."""

SAMPLE = 1_000
"""Requests to choose from where a part of the run is looked at."""

THIN = 0.1
"""Where the middle request lasts for less than this share of the run, a sample spread over all of it would be
a thin diagonal: requests in a row tell more."""

PREFILL, QUEUE, DECODE, TRANSFER, LOAD = "prefill", "queue", "decode", "transfer", "tier load"
PHASES = (PREFILL, QUEUE, DECODE, TRANSFER, LOAD)
"""In the order of the colours of a palette."""


def request_spans(log: RunLog, instances: Sequence[str], limit: int = ROWS, sample: int = SAMPLE) -> Columns:
    """``first`` (1: shown at first, 0: only where a part is looked at), ``request``, ``instance``, ``phase``
    (one of ``PHASES``), ``time_s`` to ``until_s``, ``index`` (place among the arrivals), ``status``, tokens,
    and the ``tenant`` where requests have one: the spans of some requests.

    They are every n-th of those that arrived, ``sample`` at most, and ``limit`` to be shown at first: every
    n-th of them, or where that would show little (``THIN``), those that arrived before and after the one
    with the longest TTFT.
    Transfers are KV on its way from one instance to another; what follows is decode. What a run that was
    cut short left open ends with it.
    """
    r = log.requests
    sent = np.flatnonzero(~np.isnan(r.arrival_s))
    sent = sent[np.argsort(r.arrival_s[sent], kind="stable")]
    shown = _places(log, sent, limit)
    places = np.union1d(shown, np.arange(len(sent))[:: -(-len(sent) // sample) or 1])
    at_first = np.isin(places, shown).astype(int)
    sent = sent[places]
    moved = _by_request(log.handovers.request if log.handovers is not None else None, sent)
    loaded = _by_request(log.loads.request if log.loads is not None else None, sent)
    table: dict[str, list[Any]] = {
        name: []
        for name in (
            *("first", "request", "instance", "phase", "time_s", "until_s"),
            *("index", "status", "input_tokens", "output_tokens"),
            *(("tenant",) if r.tenant is not None else ()),
        )
    }
    for row, i in enumerate(sent.tolist()):
        arrival, scheduled, first, finish = (
            float(column[i]) for column in (r.arrival_s, r.scheduled_s, r.first_token_s, r.finish_s)
        )
        scheduled, first, finish = (log.end_s if math.isnan(t) else t for t in (scheduled, first, finish))
        handovers = moved.get(i, [])
        if log.handovers is not None and handovers:  # the first token comes from where the KV went
            first = min(first, float(log.handovers.stopped_s[handovers[0]]))
        spans = [(QUEUE, arrival, scheduled), (PREFILL, scheduled, first)]
        if r.status[i] == STATUSES.index("rejected") or r.instance[i] < 0:
            spans = [(QUEUE, arrival, arrival)]
            first = finish = arrival
        at = first
        if log.handovers is not None:
            for k in handovers:
                stop, come = float(log.handovers.stopped_s[k]), float(log.handovers.arrived_s[k])
                spans += [(DECODE, at, stop), (TRANSFER, max(stop, at), come)]
                at = max(at, come)
        spans.append((DECODE, at, finish))
        if log.loads is not None:
            loads = log.loads
            spans += [(LOAD, float(loads.start_s[k]), float(loads.end_s[k])) for k in loaded.get(i, ())]
        where = int(r.instance[i])
        for phase, start, end in spans:
            if end > start or (r.instance[i] < 0 and phase == QUEUE):
                for name, value in (
                    ("first", int(at_first[row])),
                    ("request", r.names[i] if r.names is not None else str(i)),
                    ("instance", instances[where] if where >= 0 else None),
                    *(("phase", phase), ("time_s", start), ("until_s", end)),
                    ("index", int(places[row])),
                    ("status", STATUSES[int(r.status[i])]),
                    ("input_tokens", int(r.input_tokens[i])),
                    ("output_tokens", int(r.output_tokens[i])),
                    *((("tenant", int(r.tenant[i])),) if r.tenant is not None else ()),
                ):
                    table[name].append(value)
    return columns(**table)


def _places(log: RunLog, sent: Ints, limit: int) -> Ints:
    """Which of the requests ``sent``, in order of arrival, are shown."""
    places = np.arange(len(sent))
    if len(sent) <= limit:
        return places
    r = log.requests
    lasted, waited = r.finish_s[sent] - r.arrival_s[sent], r.first_token_s[sent] - r.arrival_s[sent]
    known = lasted[~np.isnan(lasted)]
    if len(known) and float(np.median(known)) < THIN * log.end_s:
        worst = int(np.nanargmax(waited))
        first = min(max(worst - limit // 2, 0), len(sent) - limit)
        return places[first : first + limit]
    return places[:: -(-len(sent) // limit)]


def _by_request(requests: Ints | None, wanted: Ints) -> dict[int, list[int]]:
    """The rows of each wanted request, in order."""
    found: dict[int, list[int]] = {}
    if requests is not None:
        for k in np.flatnonzero(np.isin(requests, wanted)).tolist():
            found.setdefault(int(requests[k]), []).append(k)
    return found
