"""Clocks that drop under sustained load: heat by hand, and what it does to steps and runs."""

from __future__ import annotations

import math

import numpy as np
import pytest
from axis import ConstantCost, run, workload

from tokensim.engine.clock import UPDATES, Clock


def test_heat_approaches_the_load_within_the_time_constant() -> None:
    clock = Clock(0.2, 10.0)
    clock.look(0.0)
    assert (clock.heat, clock.share, clock.next_s) == (0.0, 0.0, 10.0 / UPDATES)
    clock.count(1.0)  # all of the next second
    clock.look(1.0)
    heat = 1.0 - math.exp(-0.1)
    assert clock.heat == pytest.approx(heat)
    assert clock.share == pytest.approx(1 / (1 - 0.2 * heat) - 1)
    load = (1 + clock.share) / 2
    clock.count(1.0)  # at the full clock: half of two seconds and a little
    clock.look(3.0)
    assert clock.heat == pytest.approx(load + (heat - load) * math.exp(-0.2))


def test_heat_goes_away_when_nothing_runs() -> None:
    clock = Clock(0.5, 2.0)
    clock.look(0.0)
    clock.count(2.0)
    clock.look(2.0)
    hot = clock.heat
    clock.look(8.0)
    assert clock.heat == pytest.approx(hot * math.exp(-3))
    clock.look(1e6)
    assert clock.share == pytest.approx(0.0, abs=1e-12)


def test_nothing_moves_before_an_update_is_due() -> None:
    clock = Clock(0.5, 10.0)
    clock.look(0.0)
    clock.count(0.9)
    clock.look(0.9)
    assert clock.share == 0.0
    clock.look(1.0)  # the 0.9 s are not forgotten
    assert clock.heat == pytest.approx(0.9 * (1 - math.exp(-0.1)))


def test_a_device_is_busy_for_all_of_the_time_at_most() -> None:
    clock = Clock(0.5, 1.0)
    clock.look(0.0)
    clock.count(100.0)  # of a step that has only begun
    clock.look(1.0)
    assert clock.heat == pytest.approx(1 - math.exp(-1))


def test_without_compute_bound_work_steps_last_as_long() -> None:
    log = run(workload([0.0], [50]), clock=(0.3, 5.0), cost=ConstantCost(compute_s=0.0))
    assert log.requests.finish_s.tolist() == [50.0]
    assert (log.steps.what.clock_share == 0.0).all()


def test_under_full_load_compute_bound_work_takes_its_share_longer() -> None:
    """Half of each step is bound by arithmetic at first, more of it when the clock has fallen."""
    log = run(workload([0.0], [2000]), clock=(0.5, 20.0), cost=ConstantCost(compute_s=0.5))
    rows = log.steps
    share = rows.what.clock_share
    assert share[0] == 0.0
    assert (np.diff(share) >= -1e-12).all(), "it only gets warmer"
    assert rows.first_step_s == pytest.approx(1.0 + 0.5 * share)
    heat = 0.5 * (1 + share[-1]) / (1 + 0.5 * share[-1])
    assert share[-1] == pytest.approx(1 / (1 - 0.5 * heat) - 1, rel=1e-3)


def test_a_device_that_does_nothing_else_loses_the_whole_slowdown() -> None:
    log = run(workload([0.0], [2000]), clock=(0.25, 20.0), cost=ConstantCost(compute_s=1.0))
    assert log.steps.last_step_s[-1] == pytest.approx(1 / (1 - 0.25), rel=1e-6)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_run_is_cut_where_the_next_update_is_due(asynchronous: bool) -> None:
    """Updates are due each 3 s; the decision is taken at the first step boundary then or later."""
    log = run(
        workload([0.0], [40]), asynchronous=asynchronous, clock=(0.0, 30.0), cost=ConstantCost(compute_s=0.5)
    )
    assert log.requests.finish_s.tolist() == [40.0]
    runs = log.steps.what.steps.tolist()
    assert max(runs) == 3
    assert runs.count(3) >= 12
    without = run(workload([0.0], [40]), asynchronous=asynchronous)
    assert max(without.steps.what.steps) > 30


@pytest.mark.parametrize("asynchronous", [False, True])
def test_step_runs_equal_single_steps(asynchronous: bool) -> None:
    requests = workload([0.0, 3.3, 40.0, 41.7], [30, 7, 12, 80])
    options = {"asynchronous": asynchronous, "clock": (0.4, 7.0), "cost": ConstantCost(compute_s=0.6)}
    runs = run(requests, **options).requests
    steps = run(requests, exact_steps=True, **options).requests
    assert runs.finish_s == pytest.approx(steps.finish_s, rel=1e-12)
    assert (runs.finish_s > run(requests, asynchronous=asynchronous).requests.finish_s).all()


class FallingCost(ConstantCost):
    """Each step of a run lasts a tenth of a second less than the one before."""

    def decode_run(self, decode: int, *_: float) -> tuple[float, float, int]:
        return 1.0, -0.1, 8


@pytest.mark.parametrize("asynchronous", [False, True])
def test_an_update_that_is_due_long_after_a_run_of_falling_steps_does_not_touch_it(
    asynchronous: bool,
) -> None:
    cost = FallingCost(compute_s=0.5)
    log = run(workload([0.0], [25]), asynchronous=asynchronous, clock=(0.0, 1e6), cost=cost)
    without = run(workload([0.0], [25]), asynchronous=asynchronous, cost=cost)
    assert log.requests.finish_s.tolist() == without.requests.finish_s.tolist()
    assert log.steps.what.steps.tolist() == without.steps.what.steps.tolist()
    assert max(without.steps.what.steps) == 8
