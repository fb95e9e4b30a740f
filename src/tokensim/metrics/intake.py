"""When the engine's core takes an arrival in: between two steps, as real engines do.

The core looks at its input queue when a step has ended (with asynchronous scheduling: when the output of the
step before has been processed, which is about when the next one starts on the device). A request that arrives
while a step runs therefore waits for its end. Measurements made inside the engine count from here.
"""

from __future__ import annotations

import numpy as np

from tokensim.metrics.log import RunLog
from tokensim.workload.base import Floats


def queued_s(log: RunLog) -> Floats:
    """When each request was taken in: the end of the step that ran when it arrived, or its arrival if none
    did; NaN for a request that no instance took."""
    requests, steps = log.requests, log.steps
    taken = requests.arrival_s.copy()
    taken[requests.instance < 0] = np.nan
    for instance in np.unique(requests.instance[requests.instance >= 0]):
        own = np.flatnonzero(requests.instance == instance)
        rows = np.flatnonzero(steps.instance == instance)
        if not len(rows):
            continue
        rows = rows[np.argsort(steps.start_s[rows], kind="stable")]
        arrival = requests.arrival_s[own]
        if instance + 1 in log.later_stages:
            taken[own] = _taken_by_pipeline(log, int(instance), rows, arrival)
            continue
        last = np.searchsorted(steps.start_s[rows], arrival, side="left") - 1
        row = rows[np.maximum(last, 0)]
        running = (last >= 0) & (arrival < steps.end_s[row])
        taken[own[running]] = _step_end(log, row[running], arrival[running])
    return taken


def _taken_by_pipeline(log: RunLog, first: int, rows: np.typing.NDArray[np.int64], arrival: Floats) -> Floats:
    """The core of a pipeline looks when a batch leaves the last stage: the next one to do so, if it was on
    its way when the request arrived. ``rows`` are the batches on the first stage."""
    last = first
    while last + 1 in log.later_stages:
        last += 1
    ends = log.steps.end_s[log.steps.instance == last]
    if not len(ends):  # an interruption fell between the stages of the first batch
        return arrival
    batch = np.searchsorted(ends, arrival, side="left")
    there = np.minimum(batch, len(ends) - 1)
    on_its_way = (batch < len(ends)) & (log.steps.start_s[rows][there] < arrival)
    return np.where(on_its_way, ends[there], arrival)


def _step_end(log: RunLog, row: np.typing.NDArray[np.int64], time: Floats) -> Floats:
    """The end of the step of the run ``row`` in which ``time`` falls."""
    steps = log.steps
    start, first, n = steps.start_s[row], steps.first_step_s[row], steps.what.steps[row].astype(float)
    growth = np.where(n > 1, (steps.last_step_s[row] - first) / np.maximum(n - 1, 1), 0.0)

    def end(k: Floats) -> Floats:
        return start + k * first + growth * (k * (k - 1) / 2)

    low, high = np.zeros(len(row)), n.copy()  # the end of step low is before time, that of high is not
    while (high - low > 1).any():
        middle = np.floor((low + high) / 2)
        before = end(middle) < time
        low, high = np.where(before, middle, low), np.where(before, high, middle)
    return end(high)
