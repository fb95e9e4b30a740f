"""The cost of a step, compiled: tables by rows, lines by context, the host around them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from curved import Curved, CurvedTime
from hypothesis import given
from hypothesis import strategies as st
from paper_device import NO_HOST, ROUND, compiled

from tokensim.cost import CompiledStepCost, DecodeCurve, Host, Origin, Roofline, Setting
from tokensim.cost.base import Floats, Times
from tokensim.cost.step import FIRST_SIZE
from tokensim.errors import InputError
from tokensim.model.operators import Attention, Elementwise, Gemm, Operator

ATTENTION = Attention("a", 1, 1, 50, 50, 200.0, 1)
SLIDING = Attention("s", 1, 1, 50, 50, 200.0, 1, window=150)
GEMM = Gemm("g", 1000, 1000, 1, "bfloat16")
HEAD = Gemm("head", 1000, 1000, 1, "bfloat16", rows="samples")


def curved(
    contexts: Sequence[float],
    seconds: Sequence[float],
    skew: float = 0.0,
    host: Host = NO_HOST,
    operators: Sequence[Operator] = (ATTENTION,),
) -> CompiledStepCost:
    time = CurvedTime(tuple(contexts), tuple(seconds), skew)
    return compiled(operators, host=host, sources=[Curved(time), Roofline(Setting(ROUND, "a model"))])


class TestLinesByHand:
    """One request: its attention takes 1.1 times the curve's seconds; the knots are at mean contexts."""

    def test_within_a_piece_seconds_grow_with_the_context(self) -> None:
        cost = curved([0.0, 100.0, 200.0], [0.0, 1.0, 3.0])
        assert cost.decode_run(1, 50.0, 0.0, 0.0, 0.0) == pytest.approx((1.1 * 0.5, 1.1 * 0.01, 51))
        assert cost.decode_run(1, 150.0, 0.0, 0.0, 0.0)[:2] == pytest.approx((1.1 * 2.0, 1.1 * 0.02))

    def test_the_last_piece_goes_on(self) -> None:
        cost = curved([0.0, 100.0, 200.0], [0.0, 1.0, 3.0])
        first, growth, steps = cost.decode_run(1, 300.0, 0.0, 0.0, 0.0)
        assert (first, growth) == pytest.approx((1.1 * 5.0, 1.1 * 0.02))
        assert steps > 10**9

    def test_a_run_ends_at_the_knot_of_the_mean(self) -> None:
        # 4 requests: the sum grows by 4, the knot is at a sum of 400
        cost = curved([0.0, 100.0, 200.0], [0.0, 1.0, 3.0])
        assert cost.decode_run(4, 380.0, 0.0, 0.0, 0.0)[2] == 6  # at 380, 384, … 400
        assert cost.decode_run(4, 381.0, 0.0, 0.0, 0.0)[2] == 5  # at 381, … 397
        assert cost.decode_run(4, 400.0, 0.0, 0.0, 0.0)[2] == 1

    def test_unequal_contexts_add_a_share_of_what_the_longest_takes_more(self) -> None:
        cost = curved([0.0, 100.0, 200.0], [0.0, 1.0, 3.0], skew=0.5)
        # two requests of 40 and 160: the mean takes 1.0, the longest 2.2
        first, growth, steps = cost.decode_run(2, 200.0, 0.0, 0.0, 160.0)
        assert first == pytest.approx(1.2 * (1.0 + 0.5 * (2.2 - 1.0)))
        assert steps == 1  # the mean is at its knot
        first, growth, steps = cost.decode_run(2, 100.0, 0.0, 0.0, 90.0)
        assert growth == pytest.approx(1.2 * 0.01)
        assert steps == 11  # the longest comes to its knot

    def test_the_steps_own_rows_and_samples_are_added(self) -> None:
        cost = curved([0.0, 100.0], [0.0, 1.0], operators=[ATTENTION, GEMM, HEAD])
        gemm = (2e6 + 2 * 4e3) / 1e12
        assert cost.decode_run(2, 0.0, 0.0, 0.0, 0.0)[0] == pytest.approx(2 * gemm)
        head = (2e6 + 3 * 4e3) / 1e12
        assert cost.step_time(0, 0.0, 0.0, 0.0, [(1, 0), (1, 0)], 3) == pytest.approx(gemm + head + 2e-6)


class TestHost:
    CONTEXTS, SECONDS = (0.0, 100.0), (0.0, 1.0)

    def test_synchronous_scheduling_exposes_all_of_it(self) -> None:
        cost = curved(self.CONTEXTS, self.SECONDS, host=Host(0.25, 0.5, 0.125, asynchronous=False))
        first, growth, _ = cost.decode_run(2, 100.0, 0.0, 0.0, 0.0)
        assert (first, growth) == pytest.approx((0.6 + 0.25 + 0.5 + 0.25, 1.2 * 0.01))

    def test_asynchronous_scheduling_hides_it_behind_the_device(self) -> None:
        cost = curved(self.CONTEXTS, self.SECONDS, host=Host(0.25, 0.5, 0.125, asynchronous=True))
        assert cost.decode_run(2, 200.0, 0.0, 0.0, 0.0)[0] == pytest.approx(1.2 + 0.25)
        assert cost.step_time(2, 200.0, 0.0, 0.0, (), 2) == pytest.approx(1.2 + 0.25)

    def test_a_fast_device_waits_for_the_host_until_contexts_have_grown(self) -> None:
        cost = curved(self.CONTEXTS, self.SECONDS, host=Host(0.25, 0.5, 0.125, asynchronous=True))
        # the host needs 0.75: as long as 2 requests with a mean context of 62.5
        assert cost.decode_run(2, 119.0, 0.0, 0.0, 0.0) == pytest.approx((1.0, 0.0, 4))
        assert cost.decode_run(2, 127.0, 0.0, 0.0, 0.0)[:2] == pytest.approx((1.2 * 0.635 + 0.25, 0.012))

    def test_a_step_that_gets_shorter_ends_at_the_hosts_time(self) -> None:
        cost = curved([0.0, 100.0, 1000.0], [0.0, 2.0, 0.2], host=Host(0.0, 1.0, 0.0, asynchronous=True))
        first, growth, steps = cost.decode_run(1, 500.0, 0.0, 0.0, 0.0)
        assert (first, growth) == pytest.approx((1.1 * 1.2, -1.1 * 0.002))
        last = first + growth * (steps - 1)
        assert last >= 1.0 > last + growth


# From any state, a run is what its steps are one by one.

CURVES = st.integers(2, 6).flatmap(
    lambda n: st.tuples(
        st.lists(st.integers(1, 60), min_size=n, max_size=n).map(np.cumsum),
        st.lists(st.floats(0.0, 2.0), min_size=n, max_size=n),
    )
)


@given(
    CURVES,
    st.sampled_from([0.0, 0.3, 1.0]),
    st.integers(1, 5),
    st.integers(1, 300),
    st.integers(0, 150),
    st.integers(0, 5),
    st.booleans(),
    st.floats(0.0, 3.0),
)
def test_a_run_equals_its_steps_one_by_one(
    curve: tuple[np.ndarray, list[float]],
    skew: float,
    decode: int,
    mean: int,
    longer: int,
    growing: int,
    asynchronous: bool,
    busy_s: float,
) -> None:
    host = Host(0.1, busy_s, 0.01, asynchronous=asynchronous)
    cost = curved(curve[0].tolist(), curve[1], skew, host, [ATTENTION, SLIDING, GEMM])
    growing = min(growing, decode)
    context, window = float(mean * decode), float(min(mean, 150 - 40) * decode)
    longest = float(mean + longer)
    first, growth, steps = cost.decode_run(decode, context, window, growing, longest)
    assert steps >= 1
    for step in range(min(steps, 40)):
        alone, _, _ = cost.decode_run(
            decode, context + step * decode, window + step * growing, growing, longest + step
        )
        assert first + growth * step == pytest.approx(alone, rel=1e-12, abs=1e-12)


@given(CURVES, st.sampled_from([0.0, 0.4]), st.integers(1, 5), st.integers(1, 300), st.integers(0, 150))
def test_a_decode_step_takes_what_the_source_says(
    curve: tuple[np.ndarray, list[float]], skew: float, decode: int, mean: int, longer: int
) -> None:
    time = CurvedTime(tuple(curve[0].tolist()), tuple(curve[1]), skew)
    cost = curved(curve[0].tolist(), curve[1], skew)
    expected = time.decodes(decode, mean * decode, mean + longer)
    if expected < 0.0:  # a curve that falls goes below zero beyond its last point
        return
    first, _, _ = cost.decode_run(decode, mean * decode, 0.0, 0.0, mean + longer)
    assert first == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_only_sources_that_ask_for_the_longest_context_get_it() -> None:
    assert curved([0.0, 1.0], [0.0, 1.0], skew=0.5).needs_longest
    assert not curved([0.0, 1.0], [0.0, 1.0]).needs_longest


class TestGraphs:
    """An operator of 1 s a row."""

    ROWS = Elementwise("e", 1e12, 1)

    def test_a_step_runs_at_the_next_captured_size(self) -> None:
        cost = compiled([self.ROWS], graph_sizes=(1, 2, 4, 8))
        seconds = [cost.decode_run(n, 0.0, 0.0, 0.0, 0.0)[0] for n in (1, 2, 3, 4, 5, 8, 9, 100)]
        assert seconds == pytest.approx([1, 2, 4, 4, 8, 8, 9, 100])

    def test_prefill_chunks_are_padded_too(self) -> None:
        cost = compiled([self.ROWS], graph_sizes=(1, 2, 4, 8))
        assert cost.step_time(2, 0.0, 0.0, 0.0, [(1, 0), (2, 0)], 4) == pytest.approx(8)

    def test_logits_are_not(self) -> None:
        head = Elementwise("h", 1e12, 1, rows="samples")
        cost = compiled([head], graph_sizes=(1, 2, 4, 8))
        assert cost.step_time(0, 0.0, 0.0, 0.0, [(7, 0)], 3) == pytest.approx(3)

    def test_without_graphs_steps_run_as_they_are(self) -> None:
        assert compiled([self.ROWS]).decode_run(3, 0.0, 0.0, 0.0, 0.0)[0] == pytest.approx(3)


@pytest.mark.parametrize("rows", [FIRST_SIZE - 1, FIRST_SIZE, FIRST_SIZE + 1, 5 * FIRST_SIZE])
def test_tables_grow_when_a_step_is_larger(rows: int) -> None:
    cost = compiled([Elementwise("e", 1e12, 1), Elementwise("h", 1e12, 1, rows="samples"), ATTENTION])
    assert cost.step_time(0, 0.0, 0.0, 0.0, [(rows, 0)], 1) == pytest.approx(rows + 1, rel=1e-3)
    assert cost.step_time(0, 0.0, 0.0, 0.0, [(1, 0)], rows) == pytest.approx(rows + 1, rel=1e-3)
    assert cost.decode_run(rows, 1.0, 0.0, 0.0, 0.0)[0] == pytest.approx(2 * rows, rel=1e-3)


def test_the_time_that_a_clock_prolongs_is_that_of_compute_bound_gemms() -> None:
    cost = compiled([GEMM, HEAD, Elementwise("e", 1e12, 1), ATTENTION])
    # arithmetic beyond 2e6·r / 1e14 > (2e6 + 4e3·r) / 1e12, about 125 rows
    assert cost.compute_time(0) == cost.compute_time(100) == 0.0
    assert cost.compute_time(1000) == pytest.approx(1000 * 2e6 / 1e14)
    assert cost.compute_time(5 * FIRST_SIZE) == pytest.approx(5 * FIRST_SIZE * 2e6 / 1e14)


# Bad times.


@dataclass(frozen=True)
class Rows:
    """A ``RowTime`` of ``value`` for every number of rows, at ``bad`` rows ``wrong``."""

    wrong: float
    bad: int = 1

    def seconds(self, rows: Floats) -> Floats:
        return np.where(rows == self.bad, self.wrong, 1.0)

    def origin(self, rows: float) -> Origin:
        return Origin("exact", "bad")


@dataclass(frozen=True)
class Bad:
    """A source that answers ``time`` to everything."""

    time: object
    name: str = "bad"

    def price(self, operators: Sequence[Operator]) -> Times:
        return {op.name: self.time for op in operators}  # type: ignore[misc]


@pytest.mark.parametrize("wrong", [-1e-9, math.nan, math.inf])
def test_impossible_times_of_rows_are_refused(wrong: float) -> None:
    with pytest.raises(InputError, match="time is negative or not finite") as error:
        compiled([GEMM], sources=[Bad(Rows(wrong))])
    assert error.value.where == "performance.operators"
    late = compiled([GEMM], sources=[Bad(Rows(wrong, bad=3 * FIRST_SIZE))])
    with pytest.raises(InputError, match="time is negative or not finite"):
        late.step_time(0, 0.0, 0.0, 0.0, [(4 * FIRST_SIZE, 0)], 1)


@pytest.mark.parametrize(
    ("contexts", "seconds"),
    [
        ((0.0, 1.0), (1.0, math.nan)),
        ((0.0, 1.0), (-1.0, 1.0)),
        ((0.0, 1.0), (1.0, math.inf)),
        ((1.0, 1.0), (1.0, 1.0)),
        ((2.0, 1.0), (1.0, 1.0)),
        ((1.0,), (1.0,)),
        ((), ()),
        ((1.0, 2.0), (1.0,)),
    ],
)
def test_a_curve_that_is_none_is_refused(contexts: tuple[float, ...], seconds: tuple[float, ...]) -> None:
    class Time(CurvedTime):
        def decode(self, requests: int) -> DecodeCurve:
            return DecodeCurve(contexts, seconds)

    cost = compiled([ATTENTION], sources=[Bad(Time((), ()))])
    with pytest.raises(InputError, match="the times of 'a' for 3 decodes are no curve"):
        cost.decode_run(3, 10.0, 0.0, 0.0, 0.0)


@pytest.mark.parametrize("wrong", [-1.0, math.nan])
def test_an_impossible_time_of_chunks_is_refused(wrong: float) -> None:
    class Time(CurvedTime):
        def mixed(
            self, chunks: Sequence[tuple[int, int]], requests: int, context: float, longest: float
        ) -> float:
            return wrong

    cost = compiled([ATTENTION], sources=[Bad(Time((), ()))])
    with pytest.raises(InputError, match=r"prefill chunks \[\(7, 5\)\] beside 2 decodes takes"):
        cost.step_time(2, 10.0, 0.0, 0.0, [(7, 5)], 3)


def test_an_operator_that_no_source_knows_is_named() -> None:
    with pytest.raises(InputError, match="no source knows the time of 'g'"):
        compiled([GEMM], sources=[Curved(CurvedTime((0.0, 1.0), (0.0, 1.0)))])


def test_the_first_source_that_knows_an_operator_prices_it() -> None:
    cost = curved([0.0, 1.0], [7.0, 7.0], operators=[ATTENTION, GEMM])
    assert cost.attention_parts[0].time.origin((), 1, 1.0, 0.0).source == "curved"
    assert cost.token_parts[0].time.origin(1.0).source == "roofline"
