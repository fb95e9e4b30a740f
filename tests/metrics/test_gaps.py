from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handmade import empty_log, floats, ints, run_log, step_columns, step_rows
from tokensim.metrics.gaps import gaps_of
from tokensim.metrics.log import RunLog


def test_gaps_of_the_handmade_run() -> None:
    # 12 gaps of 0.1, two of 0.2, two of 0.3 less one, one of 0.5: 16 gaps, 2.4 s.
    itl = gaps_of(run_log()).distribution()
    assert itl.count == 16
    assert itl.mean == pytest.approx(0.15)
    assert (itl.p50, itl.p90, itl.p95, itl.p99, itl.max) == (0.1, 0.3, 0.5, 0.5, 0.5)


def test_prefill_only_steps_make_no_gaps() -> None:
    decode = ints(0, 0, 0, 0, 0)
    log = run_log(steps=step_rows(what=step_columns(decode=decode)), gap_s=floats(), gap_weight=ints())
    gaps = gaps_of(log)
    assert gaps.distribution().count == 0
    assert gaps.distribution().max is None
    assert gaps.quantile(0.5) is None


def test_a_run_without_steps_has_no_gaps() -> None:
    assert gaps_of(empty_log()).distribution().mean is None


def test_a_gap_that_is_taken_away_is_not_the_largest() -> None:
    log = run_log(gap_s=floats(0.3), gap_weight=ints(-2))
    assert gaps_of(log).distribution().max == 0.2


def test_zero_gaps_are_found() -> None:
    log = run_log(
        steps=step_rows(first_step_s=floats(0, 0, 0, 0, 0), last_step_s=floats(0, 0, 0, 0, 0)),
        gap_s=floats(),
        gap_weight=ints(),
    )
    itl = gaps_of(log).distribution()
    assert (itl.count, itl.mean, itl.p50, itl.max) == (16, 0.0, 0.0, 0.0)


def test_a_quantile_at_a_whole_rank_does_not_slip_to_the_next_gap() -> None:
    # 100 gaps of 1 to 100 ms: 0.07·100 is 7.000000000000001 in floating point, and the 7th gap is meant.
    log = run_log(
        steps=step_rows(
            first_step_s=floats(0.1, 0.001, 0.1, 0.1, 0.1),
            last_step_s=floats(0.1, 0.1, 0.1, 0.1, 0.1),
            what=step_columns(steps=ints(1, 100, 1, 1, 1), decode=ints(0, 1, 0, 0, 0)),
        ),
        gap_s=floats(),
        gap_weight=ints(),
    )
    assert gaps_of(log).quantile(0.07) == pytest.approx(0.007)


durations = st.floats(1e-6, 10.0).map(lambda x: round(x, 6))
rows = st.lists(
    st.tuples(durations, st.just(0.0) | st.floats(1e-5, 0.5), st.integers(1, 40), st.integers(0, 5)),
    min_size=1,
    max_size=12,
)


def _log(rows: list[tuple[float, float, int, int]], added: list[tuple[float, int]], drops: int) -> RunLog:
    """A log of ``rows`` (first step, growth over the row, steps, decode); ``drops`` rows lose a gap."""
    first = floats(*(r[0] for r in rows))
    steps, decode = ints(*(r[2] for r in rows)), ints(*(r[3] for r in rows))
    last = np.where(steps > 1, first + floats(*(r[1] for r in rows)), first)
    gone = [float(d) for d, n in zip(last[:drops], decode[:drops], strict=True) if n]
    zeros = np.zeros(len(rows), dtype=np.int64)
    what = step_columns(
        steps=steps,
        decode=decode,
        **dict.fromkeys(("context", "window_context", "window_growth", "samples"), zeros),
    )
    return run_log(
        steps=step_rows(
            first_step_s=first,
            last_step_s=last,
            what=what,
            **dict.fromkeys(("instance", "start_s", "end_s", "running", "waiting"), zeros),
            **dict.fromkeys(("used_blocks", "first_blocks", "waited_s"), zeros),
        ),
        gap_s=floats(*(s for s, _ in added), *gone),
        gap_weight=ints(*(w for _, w in added), *(-1 for _ in gone)),
    )


def _expanded(log: RunLog) -> list[float]:
    """Every gap, one by one, in ascending order."""
    gaps: list[float] = []
    steps = log.steps
    for first, last, n, decode in zip(
        steps.first_step_s, steps.last_step_s, steps.what.steps, steps.what.decode, strict=True
    ):
        for d in np.linspace(first, last, n) if n > 1 else [first]:
            gaps += [float(d)] * int(decode)
    for gap, weight in zip(log.gap_s, log.gap_weight, strict=True):
        if weight > 0:
            gaps += [float(gap)] * int(weight)
        else:
            gaps.remove(float(gap))
    return sorted(gaps)


@given(rows, st.lists(st.tuples(durations, st.integers(1, 3)), max_size=4), st.integers(0, 3))
def test_figures_equal_those_of_the_expanded_gaps(
    rows: list[tuple[float, float, int, int]], added: list[tuple[float, int]], drops: int
) -> None:
    log = _log(rows, added, drops)
    every = _expanded(log)
    gaps = gaps_of(log)
    assert gaps.count == len(every)
    if not every:
        return
    itl = gaps.distribution()
    assert itl.mean == pytest.approx(math.fsum(every) / len(every), rel=1e-12)
    for q, found in ((0.5, itl.p50), (0.9, itl.p90), (0.95, itl.p95), (0.99, itl.p99), (1.0, itl.max)):
        rank = math.ceil(round(q * len(every), 9))
        assert found == every[rank - 1]


@given(rows, st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_quantiles_are_gaps_and_do_not_fall(
    rows: list[tuple[float, float, int, int]], p: float, q: float
) -> None:
    log = _log(rows, [(0.5, 1)], 0)
    gaps = gaps_of(log)
    low, high = gaps.quantile(min(p, q)), gaps.quantile(max(p, q))
    assert low is not None and high is not None
    assert low <= high
    assert {low, high} <= set(_expanded(log))


def test_steps_that_shrink_are_counted_like_those_that_grow() -> None:
    grows = run_log()
    shrinks = run_log(
        steps=step_rows(first_step_s=grows.steps.last_step_s, last_step_s=grows.steps.first_step_s)
    )
    assert gaps_of(grows).distribution() == gaps_of(shrinks).distribution()
