"""Goals and requirements: what a study may ask for, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from test_study import SCENARIO

from tokensim.errors import InputError
from tokensim.explore.figures import ALIASES, figure, figure_names
from tokensim.explore.goals import Requirement, SloKept, read_goals, read_requirements
from tokensim.explore.task import Task, evaluate


def test_every_figure_of_a_run_has_a_known_name() -> None:
    data = {**SCENARIO, "slo": {"ttft": 1, "itl": 1}}
    outcome = evaluate(Task(0, data))
    texts = {"time.operators.*.source", "time.operators.*.kind"}
    for name, value in outcome.figures.items():
        if isinstance(value, int | float):
            assert figure(name, "") == name
    assert not texts & set(figure_names())


def test_short_names_stand_for_figures_that_runs_have() -> None:
    outcome = evaluate(Task(0, {**SCENARIO, "slo": {"ttft": 1}}))
    for alias, name in ALIASES.items():
        assert figure(alias, "") == name
        assert isinstance(outcome.figures[name], int | float)


@pytest.mark.parametrize(
    ("goals", "told"),
    [
        ([{"minimize": "latency.ttft_s.p98"}], "did you mean 'latency.ttft_s.p9"),
        ([{"maximize": "throughputs"}], "did you mean 'throughput'"),
        ([{"minimize": "cost", "maximize": "goodput"}], "not one goal"),
        ([{"minimize": "cost"}, {"maximize": "spending.usd_per_million_total_tokens"}], "twice"),
    ],
)
def test_goals_that_make_no_sense_are_refused(goals: Any, told: str) -> None:
    with pytest.raises(InputError, match=told.replace("(", r"\(")):
        read_goals(goals, "study: goals")


@pytest.mark.parametrize(
    ("kept", "slo", "told"),
    [
        ({"slo": True}, False, "no SLO"),
        ({"slo": "yes"}, True, "neither true nor false"),
        ({"latency.ttft_s.p97": {"max": 1}}, True, "no figure"),
        ({"ttft": {"maximum": 1}}, True, "no limit"),
        ({"ttft": 1}, True, "no limit"),
        ({"ttft": {"max": "1 parsec"}}, True, "parsec"),
        ({"throughput": {"min": "500ms"}}, True, "no number"),
        ({"ttft": {"max": 1, "min": 2}}, True, "nothing is within"),
    ],
)
def test_requirements_that_make_no_sense_are_refused(kept: Any, slo: bool, told: str) -> None:
    with pytest.raises(InputError, match=told):
        read_requirements(kept, slo, "study: subject_to")


def test_the_slo_is_kept_unless_the_study_says_otherwise() -> None:
    assert read_requirements({}, True, "") == (SloKept(),)
    assert read_requirements({"slo": False}, True, "") == ()
    assert read_requirements({}, False, "") == ()


def test_limits_are_in_the_unit_of_their_figure() -> None:
    kept = read_requirements({"ttft": {"max": "500ms"}, "goodput": {"min": 8}}, False, "")
    assert kept == (
        Requirement("latency.ttft_s.p99", high=0.5),
        Requirement("slo.goodput_per_s", low=8.0),
    )


@pytest.mark.parametrize(
    ("value", "miss"), [(0.5, 0.0), (1.0, 1.0), (0.25, -0.5), (None, 1000.0), (float("nan"), 1000.0)]
)
def test_a_miss_is_the_share_beyond_the_limit(value: float | None, miss: float) -> None:
    assert Requirement("x", high=0.5).miss({"x": value}) == miss


def test_a_floor_is_missed_from_below() -> None:
    assert Requirement("x", low=8).miss({"x": 6.0}) == 0.25
    assert Requirement("x", low=8).miss({"x": 10.0}) == -0.25


def test_requests_that_are_turned_away_are_no_way_to_keep_an_slo() -> None:
    figures: dict[str, Any] = {
        "slo.percentile": 99.0,
        "slo.bounds.ttft.bound_s": 0.5,
        "slo.bounds.ttft.value_s": 0.25,
        "requests.total": 100,
        "requests.rejected": 1,
    }
    assert SloKept().miss(figures) == -0.5
    assert SloKept().miss({**figures, "requests.rejected": 5}) == pytest.approx(0.04)
    assert SloKept().miss({**figures, "slo.bounds.ttft.value_s": None}) > 1
