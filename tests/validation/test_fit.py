"""The fit on straight lines, where the answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from tokensim import InputError
from tokensim.validation.fit import fit, jacobian, least_needed, unidentified, values_of
from tokensim.validation.parameters import PARAMETERS, Parameter, chosen

A, B, C = (Parameter(name, name, 0.0, 2.0, 1.0, 1e3, False) for name in "abc")


def test_a_line_is_fitted_exactly_and_as_surely_as_its_noise_allows() -> None:
    slopes = np.array([[100.0, 0.0], [0.0, 50.0], [100.0, 50.0]])
    truth = np.array([0.3, 0.8])
    found = fit(lambda point: slopes @ (point - truth), (A, B), 3)
    assert [f.value for f in found] == pytest.approx([0.6, 1.6], abs=1e-4)
    expected = 2.0 * np.sqrt(np.diag(np.linalg.inv(slopes.T @ slopes)))
    assert [f.stderr for f in found] == pytest.approx(expected, rel=1e-3)
    assert all(f.bound is None for f in found)


def test_what_remains_widens_the_uncertainty() -> None:
    slopes = np.array([[100.0], [100.0]])
    sure, unsure = (
        fit(lambda point, gap=gap: slopes @ (point - 0.5) + np.array([gap, -gap]), (A,), 2)[0].stderr
        for gap in (0.0, 2.5)
    )
    assert unsure > 2 * sure


def test_a_fit_that_wants_beyond_its_bound_says_so() -> None:
    found = fit(lambda point: np.array([100.0]) * (point - 1.7), (A,), 1)
    assert found[0].bound == 2.0
    assert found[0].value == pytest.approx(2.0, abs=0.02)


def test_an_outlier_does_not_bend_the_rest() -> None:
    slopes = np.full((9, 1), 50.0)
    pull = np.zeros(9)
    pull[0] = 100.0
    found = fit(lambda point: slopes @ (point - 0.5) + pull, (A,), 9)
    assert found[0].value == pytest.approx(1.0, abs=0.05)  # plain least squares: 0.56


def test_the_jacobian_is_that_of_the_function_also_at_a_bound() -> None:
    slopes = np.array([[3.0, 1.0], [2.0, -5.0]])
    for point in ([0.0, 1.0], [0.4, 0.6]):
        assert jacobian(lambda at: slopes @ at, np.array(point)) == pytest.approx(slopes)


@pytest.mark.parametrize(
    ("slopes", "weak"),
    [
        ([[100, 0, 0], [0, 100, 0], [0, 0, 100]], ""),
        ([[100, 0, 0], [0, 100, 0], [0, 0, 1]], "c"),
        ([[100, 0, 100], [0, 100, 0], [100, 0, 100]], "ac"),
        ([[100, 0, 0], [0, 100, 100]], "bc"),
    ],
)
def test_what_cannot_be_told_is_named(slopes: list[list[float]], weak: str) -> None:
    assert "".join(p.name for p in unidentified(np.array(slopes, dtype=float), (A, B, C))) == weak


def test_the_unit_cube_spans_the_bounds() -> None:
    low, high = ([p.low for p in PARAMETERS], [p.high for p in PARAMETERS])
    assert values_of(PARAMETERS, np.zeros(len(PARAMETERS))) == pytest.approx(low)
    assert values_of(PARAMETERS, np.ones(len(PARAMETERS))) == pytest.approx(high)
    assert all(p.low <= p.start <= p.high for p in PARAMETERS)


def test_parameters_are_chosen_by_name_in_a_fixed_order() -> None:
    assert [p.name for p in chosen("memory, host_gap_s,memory")] == ["host_gap", "memory"]
    assert len(chosen(None)) == 4
    with pytest.raises(InputError, match="did you mean 'host_gap'"):
        chosen("host_gab")
    with pytest.raises(InputError, match="nothing to fit"):
        chosen(" ,")


def test_what_explains_least_is_left_out() -> None:
    slopes = np.array([[50.0, 50.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 50.0]])
    off = np.array([10.0, 0.0, 10.0])
    assert least_needed(off, slopes, (A, B, C), (A, B)) is B
    assert least_needed(slopes @ np.array([0.0, 0.3, 0.0]), slopes, (A, B, C), (A, B, C)) is C


def test_where_figures_leave_a_choice_the_plausible_explanation_wins() -> None:
    sure = Parameter("sure", "sure", 0.0, 2.0, 1.0, 0.02, False)
    slopes = np.array([[100.0, 100.0]])
    found = fit(lambda point: slopes @ (point - 0.5) - 20.0, (sure, A), 1)
    assert found[0].value == pytest.approx(1.0, abs=0.01)
    assert found[1].value == pytest.approx(1.4, abs=0.01)
