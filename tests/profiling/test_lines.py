"""Where interpolation would be off is found from the points around."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokensim.profiling.lines import Point, gaps, interpolated, odd_middle


def points(function: Callable[[float], float], *xs: int) -> list[Point]:
    return [Point(x, function(x)) for x in xs]


def test_a_line_needs_nothing_between_its_points() -> None:
    assert all(gap.error < 1e-12 for gap in gaps(points(lambda x: 3.0 + x, 1, 10, 100, 1000), "time")[1:])


def test_flat_times_need_nothing() -> None:
    assert [gap.error for gap in gaps(points(lambda x: 3.0, 1, 10, 100), "time")] == [0.0, 0.0]


def test_a_corner_is_looked_for_where_both_sides_prolonged_meet() -> None:
    def bent(x: float) -> float:
        return max(100.0, x)

    (_, corner, _) = gaps(points(bent, 1, 10, 1000, 2000), "time")
    assert corner.x == pytest.approx(100, abs=1)
    chord = 100.0 + (1000 - 100) / 990 * 90
    assert corner.error == pytest.approx(chord / 100 - 1, rel=0.02)


def test_the_work_of_a_quadratic_is_a_line() -> None:
    assert all(gap.error < 1e-12 for gap in gaps(points(lambda x: x * x + 2 * x, 16, 64, 256), "work"))
    assert any(gap.error > 0.1 for gap in gaps(points(lambda x: x * x + 2 * x, 16, 64, 256), "time"))


def test_neighbours_are_not_parted() -> None:
    assert gaps(points(lambda x: x**3, 100, 101, 109), "time") == []


def test_noise_is_no_error() -> None:
    noisy = [Point(1, 1.0, 0.2), Point(10, 1.3, 0.2), Point(100, 1.2, 0.2)]
    assert [gap.error for gap in gaps(noisy, "time")] == [0.0, 0.0]


def test_interpolated_as_the_tables_do() -> None:
    pair = [Point(10, 1.0), Point(20, 4.0)]
    assert interpolated(pair, 15, "time") == pytest.approx(2.5)
    assert interpolated(pair, 15, "work") == pytest.approx(15 * (0.1 + 0.2) / 2)
    assert interpolated(pair, 20, "work") == 4.0


@given(st.integers(1, 10**6), st.integers(2, 10**6))
def test_a_new_point_lies_between(low: int, more: int) -> None:
    assert low < odd_middle(low, low + more) < low + more


@given(st.lists(st.integers(1, 10**5), min_size=2, max_size=8, unique=True), st.floats(0.0, 3.0))
def test_gaps_lie_in_their_intervals_and_no_error_exceeds_what_monotony_allows(
    xs: list[int], power: float
) -> None:
    ordered = sorted(xs)
    known = points(lambda x: 5.0 + x**power, *ordered)
    for gap in gaps(known, "time"):
        assert any(low < gap.x < high for low, high in pairwise(ordered))
        assert 0.0 <= gap.error <= gap.most + 1e-12
