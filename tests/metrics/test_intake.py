"""When the engine's core takes requests in: at the end of the step that runs when they arrive."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handmade import empty_log, floats, ints, request_columns, run_log, step_columns, step_rows
from tokensim.metrics.intake import queued_s
from tokensim.metrics.log import RunLog


def log_of(rows: list[tuple[int, float, float, float, int]], arrivals: list[tuple[int, float]]) -> RunLog:
    """A log of runs (instance, start, first step, growth, steps) and arrivals (instance, when)."""
    count = ints(*(row[4] for row in rows))
    first, growth = floats(*(row[2] for row in rows)), floats(*(row[3] for row in rows))
    start = floats(*(row[1] for row in rows))
    none = np.zeros(len(rows), np.int64)
    what = step_columns(
        steps=count,
        **dict.fromkeys(("decode", "samples", "context", "window_context", "window_growth"), none),
    )
    steps = step_rows(
        instance=ints(*(row[0] for row in rows)),
        start_s=start,
        end_s=start + count * first + growth * (count * (count - 1) / 2),
        first_step_s=first,
        last_step_s=first + growth * (count - 1),
        what=what,
    )
    requests = request_columns(
        arrival_s=floats(*(time for _, time in arrivals)), instance=ints(*(where for where, _ in arrivals))
    )
    return run_log(requests=requests, steps=steps)


def test_a_request_waits_for_the_end_of_the_step_in_which_it_arrives() -> None:
    # steps end at 1, 2, 3 and, after a pause, 6 and 8.5 (the second one lasts half a second longer)
    log = log_of(
        [(0, 0.0, 1.0, 0.0, 3), (0, 4.0, 2.0, 0.5, 2)],
        [(0, 0.25), (0, 1.75), (0, 2.5), (0, 5.0), (0, 6.25)],
    )
    assert queued_s(log).tolist() == [1.0, 2.0, 3.0, 6.0, 8.5]


def test_a_request_that_finds_the_engine_idle_is_taken_at_once() -> None:
    log = log_of([(0, 1.0, 1.0, 0.0, 2)], [(0, 0.5), (0, 3.0), (0, 7.0)])
    assert queued_s(log).tolist() == [0.5, 3.0, 7.0]


def test_between_two_steps_there_is_nothing_to_wait_for() -> None:
    as_runs = [(0, 0.0, 1.0, 0.0, 4)]
    as_steps = [(0, float(i), 1.0, 0.0, 1) for i in range(4)]
    for rows in (as_runs, as_steps):
        assert queued_s(log_of(rows, [(0, t) for t in (0.0, 1.0, 2.0, 4.0)])).tolist() == [0.0, 1.0, 2.0, 4.0]


def test_each_instance_has_steps_of_its_own_and_who_has_none_waits_for_nobody() -> None:
    rows = [(1, 0.0, 4.0, 0.0, 1), (0, 0.0, 1.0, 0.0, 2)]
    log = log_of(rows, [(0, 0.5), (1, 0.5), (2, 0.5), (-1, 0.5)])
    assert queued_s(log)[:3].tolist() == [1.0, 4.0, 0.5]
    assert math.isnan(queued_s(log)[3]), "nobody took it"


def test_a_request_that_was_never_sent_has_no_time() -> None:
    assert np.isnan(queued_s(empty_log())).all()


@given(
    st.lists(
        st.tuples(
            st.integers(0, 2),
            st.floats(0.0, 3.0),
            st.floats(0.05, 2.0),
            st.floats(0.0, 0.3),
            st.integers(1, 12),
        ),
        min_size=1,
        max_size=8,
    ),
    st.lists(st.tuples(st.integers(0, 2), st.floats(0.0, 60.0)), min_size=1, max_size=20),
)
def test_equals_a_walk_over_all_single_steps(
    runs: list[tuple[int, float, float, float, int]], arrivals: list[tuple[int, float]]
) -> None:
    free = [0.0, 0.0, 0.0]
    rows, single = [], []
    for instance, pause, first, growth, steps in runs:
        start = free[instance] + pause
        rows.append((instance, start, first, growth, steps))
        for k in range(steps):
            begin = start + k * first + growth * (k * (k - 1) / 2)
            free[instance] = start + (k + 1) * first + growth * ((k + 1) * k / 2)
            single.append((instance, begin, free[instance]))
    expected = []
    for where, time in arrivals:
        ends = [end for instance, begin, end in single if instance == where and begin < time < end]
        expected.append(ends[0] if ends else time)
    assert queued_s(log_of(rows, arrivals)) == pytest.approx(expected, rel=1e-12)
