"""One call is timed until its median is known, and what disturbed it is left out."""

from __future__ import annotations

from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokensim.profiling.timing import Policy, half_width, spread, timed, without_outliers


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_outliers_are_left_out_by_their_distance_in_median_deviations() -> None:
    values = [10.0, 10.1, 9.9, 10.05, 9.95, 30.0]
    assert without_outliers(values) == values[:-1]


def test_nothing_is_left_out_of_a_normal_scatter() -> None:
    values = [10.0, 10.2, 9.8, 10.1, 9.9, 10.3, 9.7]
    assert without_outliers(values) == values


def test_equal_values_but_one() -> None:
    assert without_outliers([1.0, 1.0, 1.0, 2.0]) == [1.0, 1.0, 1.0]


@given(st.lists(st.floats(1e-6, 1.0), min_size=1, max_size=60))
def test_the_median_is_never_left_out(values: list[float]) -> None:
    kept = without_outliers(values)
    assert min(values) <= median(kept) <= max(values)
    assert len(kept) >= 1 + (len(values) - 1) // 2 if len(set(values)) > 1 else len(kept) == len(values)


def test_spread_and_half_width_by_hand() -> None:
    values = [8.0, 9.0, 10.0, 11.0, 12.0]  # median 10, deviations 2 1 0 1 2
    assert spread(values) == pytest.approx(1.4826 * 1.0 / 10.0)
    # ranks (5 ∓ 1.96·√5)/2 = 0.31 and 4.69: the first and the last value
    assert half_width(values) == pytest.approx((12.0 - 8.0) / 2 / 10.0)


def test_a_steady_call_needs_the_least_number_of_samples() -> None:
    clock, calls = Clock(), []

    def sample(count: int) -> float:
        calls.append(count)
        clock.now_s += count * 1e-5
        return count * 1e-5

    measured = timed(sample, Policy(sample_s=1e-3, least=5), clock)
    assert measured.seconds == pytest.approx(1e-5)
    assert measured.samples == 5
    assert calls[-1] == 100  # a sample of 1 ms
    assert measured.spread == pytest.approx(0.0, abs=1e-12)


def test_warm_up_goes_on_until_two_samples_agree() -> None:
    clock, left = Clock(), [1.0, 0.5, 0.2, 0.1]

    def sample(count: int) -> float:
        seconds = left.pop(0) if len(left) > 1 else left[0]
        clock.now_s += seconds * count
        return seconds * count

    assert timed(sample, Policy(sample_s=1e-3, warm_up_s=100.0, cap_s=100.0), clock).seconds == 0.1


def test_an_unsteady_call_ends_at_the_cap() -> None:
    clock, drawn = Clock(), []

    def sample(count: int) -> float:
        drawn.append(count)
        seconds = 1.0 + 0.5 * (len(drawn) % 2)
        clock.now_s += seconds * count
        return seconds * count

    measured = timed(sample, Policy(width=0.01, most=12, cap_s=1e6), clock)
    assert measured.samples + measured.rejected == 12
    assert measured.noise > 0.05
    drawn.clear()
    timed(sample, Policy(width=0.01, most=1000, cap_s=10.0), clock)
    assert len(drawn) < 20
