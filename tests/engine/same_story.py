"""Whether two logs tell the same story: the same steps, the same ends, times within 1e-9 relative."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from tokensim.engine import Simulation
from tokensim.metrics.log import RunLog

ENGINE_TIMES = ("arrival_s", "scheduled_s", "first_token_s", "finish_s")

DELIVERY_TIMES = ("first_delivery_s", "last_delivery_s")
COUNTS = ("status", "output_tokens", "cached_tokens", "preemptions", "recomputed_tokens", "instance")


def single_steps(log: RunLog) -> Iterator[tuple[tuple[float, ...], float]]:
    """(what it ran, when it ended) of every step, run by run, of each instance in turn."""
    rows, what = log.steps, log.steps.what
    for instance in np.unique(rows.instance):
        for row in np.flatnonzero(rows.instance == instance):
            chunks = what.chunk_row == row
            shape = (*what.chunk_tokens[chunks], *what.chunk_context[chunks], what.samples[row])
            decode, growth = what.decode[row], what.window_growth[row]
            first, steps = rows.first_step_s[row], what.steps[row]
            slope = (rows.last_step_s[row] - first) / max(1, steps - 1)
            for i in range(int(steps)):
                end = rows.start_s[row] + (i + 1) * first + slope * i * (i + 1) / 2
                contexts = what.context[row] + i * decode, what.window_context[row] + i * growth
                yield (instance, decode, *contexts, *shape), end


def inter_token_time(log: RunLog) -> float:
    """Sum of all gaps between two tokens of a request."""
    rows, what = log.steps, log.steps.what
    of_rows = what.decode * what.steps * (rows.first_step_s + rows.last_step_s) / 2
    return float(of_rows.sum() + (log.gap_s * log.gap_weight).sum())


def assert_equal_logs(runs: RunLog, steps: RunLog) -> None:
    """``runs``, in step runs, and ``steps``, one by one: every step, every request."""
    for one, other in zip(single_steps(runs), single_steps(steps), strict=True):
        assert one[0] == other[0]
        assert one[1] == pytest.approx(other[1], rel=1e-9)
    for name in COUNTS:
        assert (getattr(runs.requests, name) == getattr(steps.requests, name)).all(), name
    for name in (*ENGINE_TIMES, *DELIVERY_TIMES):
        left, right = getattr(runs.requests, name), getattr(steps.requests, name)
        np.testing.assert_allclose(left, right, rtol=1e-9, err_msg=name)


def assert_nothing_left(simulation: Simulation) -> None:
    """No request and no block is left in any instance."""
    for instance in simulation.instances:
        instance.scheduler.check_integrity()
        assert instance.scheduler.pool.free == instance.scheduler.pool.num_blocks, "blocks leaked"
        assert not instance.scheduler.running and not instance.scheduler.waiting
