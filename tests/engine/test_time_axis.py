"""When things happen: synchronous and asynchronous scheduling, worked out by hand with steps of one second.

Synchronous: step k+1 is scheduled when step k has ended. Asynchronous: when step k starts.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from axis import ConstantCost, run, workload

BOTH = pytest.mark.parametrize("exact_steps", [True, False], ids=["walked", "runs"])
SYNC_ASYNC = pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
PAUSE = 1e-3


@BOTH
@SYNC_ASYNC
def test_from_idle_the_first_token_takes_one_step(asynchronous: bool, exact_steps: bool) -> None:
    log = run(workload([2.25], [5]), asynchronous=asynchronous, exact_steps=exact_steps)
    assert log.requests.scheduled_s.tolist() == [2.25]
    assert log.requests.first_token_s.tolist() == [3.25]
    assert log.requests.finish_s.tolist() == [7.25]


@BOTH
@pytest.mark.parametrize(("asynchronous", "scheduled", "first"), [(False, 4.0, 5.0), (True, 4.0, 6.0)])
def test_an_arrival_during_step_k_first_runs_in_the_next_or_the_one_after(
    asynchronous: bool, scheduled: float, first: float, exact_steps: bool
) -> None:
    """It comes during step 4 (3 s to 4 s); asynchronously, step 5 has been decided by then."""
    log = run(workload([0.0, 3.5], [20, 2]), asynchronous=asynchronous, exact_steps=exact_steps)
    assert log.requests.scheduled_s.tolist() == [0.0, scheduled]
    assert log.requests.first_token_s.tolist() == [1.0, first]
    assert log.requests.finish_s.tolist() == [20.0, first + 1]


@BOTH
@pytest.mark.parametrize(("asynchronous", "first"), [(False, 4.0), (True, 5.0)])
def test_an_arrival_at_the_very_end_of_a_step_is_seen_by_the_decision_taken_then(
    asynchronous: bool, first: float, exact_steps: bool
) -> None:
    log = run(workload([0.0, 3.0], [20, 2]), asynchronous=asynchronous, exact_steps=exact_steps)
    assert log.requests.first_token_s.tolist() == [1.0, first]


@BOTH
@pytest.mark.parametrize("asynchronous", [False, True])
def test_an_arrival_during_the_first_step(asynchronous: bool, exact_steps: bool) -> None:
    """Asynchronously, steps 1 and 2 are both decided on arrival, the second as the first one starts."""
    log = run(workload([0.0, 0.5], [9, 9]), asynchronous=asynchronous, exact_steps=exact_steps)
    assert log.requests.first_token_s.tolist() == [1.0, 3.0 if asynchronous else 2.0]


@BOTH
@pytest.mark.parametrize(("asynchronous", "first"), [(False, 4.0), (True, 5.0)])
@pytest.mark.parametrize("scarce", [{"max_num_seqs": 2}, {"blocks": 9}], ids=["a slot", "blocks"])
def test_what_a_finish_frees_is_used_in_the_next_step_or_the_one_after(
    scarce: dict[str, Any], asynchronous: bool, first: float, exact_steps: bool
) -> None:
    """Request 0 ends with step 3; request 2 needs what it holds."""
    requests = workload([0.0, 0.0, 0.0], [3, 20, 1], [16, 4, 20])
    log = run(requests, asynchronous=asynchronous, exact_steps=exact_steps, **scarce)
    assert log.requests.finish_s[:2].tolist() == [3.0, 20.0]
    assert log.requests.first_token_s.tolist() == [1.0, 1.0, first]


@BOTH
@pytest.mark.parametrize(("asynchronous", "pause"), [(False, 0.0), (True, PAUSE)])
def test_after_an_empty_step_the_engine_sleeps_a_millisecond(
    asynchronous: bool, pause: float, exact_steps: bool
) -> None:
    """One slot and a backlog: asynchronously, the step decided while the last token is in flight is empty."""
    log = run(
        workload([0.0, 0.0, 0.0], [3, 3, 3]),
        asynchronous=asynchronous,
        max_num_seqs=1,
        exact_steps=exact_steps,
    )
    assert log.requests.scheduled_s.tolist() == pytest.approx([0.0, 3 + pause, 6 + 2 * pause], rel=1e-15)
    assert log.requests.finish_s.tolist() == pytest.approx([3.0, 6 + pause, 9 + 2 * pause], rel=1e-15)


@BOTH
@pytest.mark.parametrize(("version", "scheduled"), [("0.33.0", 3.001), ("0.23.0", 3.001), ("0.19.0", 3.0005)])
def test_an_arrival_within_the_pause_before_idle_waits_for_its_end(
    version: str, scheduled: float, exact_steps: bool
) -> None:
    """0.19 sleeps only while requests are unfinished; later ones also when a finish is to be announced."""
    requests = workload([0.0, 3.0005], [3, 1])
    log = run(requests, asynchronous=True, version=version, exact_steps=exact_steps)
    assert log.requests.scheduled_s[1] == pytest.approx(scheduled, rel=1e-15)


@BOTH
@SYNC_ASYNC
def test_after_the_pause_an_arrival_starts_at_once(asynchronous: bool, exact_steps: bool) -> None:
    log = run(workload([0.0, 3.25], [3, 1]), asynchronous=asynchronous, exact_steps=exact_steps)
    assert log.requests.scheduled_s[1] == 3.25


@BOTH
@pytest.mark.parametrize(("asynchronous", "first"), [(False, 3.0), (True, 3.0)])
def test_arrivals_while_the_last_token_is_in_flight_run_right_after(
    asynchronous: bool, first: float, exact_steps: bool
) -> None:
    """Request 0 has its last token in step 2 (1 s to 2 s). An empty batch takes no device time."""
    log = run(workload([0.0, 1.5], [2, 3]), asynchronous=asynchronous, exact_steps=exact_steps)
    assert log.requests.first_token_s[1] == pytest.approx(first, abs=2 * PAUSE)


@BOTH
@pytest.mark.parametrize(
    ("version", "finish"),
    [("0.33.0", [14.0, 10.0]), ("0.23.0", [14.001, 10.001]), ("0.19.0", [14.001, 10.001])],
)
def test_a_step_that_only_preempts_is_followed_by_another_after_a_pause(
    version: str, finish: list[float], exact_steps: bool
) -> None:
    """At 5 s all nine blocks are full. Request 0, the less urgent, gives way to itself; before 0.33 that ends
    the step, and request 1 is served in the next one only.
    """
    requests = workload([0.0, 0.5], [9, 9], [16, 13], priority=np.array([5, 0]))
    log = run(requests, version=version, blocks=9, scheduling_policy="priority", exact_steps=exact_steps)
    assert log.requests.preemptions.tolist() == [1, 0]
    assert log.requests.finish_s.tolist() == pytest.approx(finish, rel=1e-12)


def test_a_run_of_equal_steps_is_one_row() -> None:
    log = run(workload([0.0], [10]))
    assert log.steps.what.steps.tolist() == [1, 9]
    assert log.steps.start_s.tolist() == [0.0, 1.0]
    assert log.steps.end_s.tolist() == [1.0, 10.0]
    assert log.steps.what.decode.tolist() == [0, 1]
    assert log.steps.what.context.tolist() == [0, 5]
    assert log.steps.prefill_tokens.tolist() == [4, 0]


def test_walked_every_step_is_a_row() -> None:
    log = run(workload([0.0], [10]), exact_steps=True)
    assert log.steps.what.steps.tolist() == [1] * 10
    assert log.steps.end_s.tolist() == [float(k) for k in range(1, 11)]
    assert log.steps.what.context.tolist() == [0, *range(5, 14)]


@SYNC_ASYNC
def test_the_device_is_never_idle_under_a_backlog(asynchronous: bool) -> None:
    log = run(workload([0.0] * 8, [5] * 8), asynchronous=asynchronous, max_num_batched_tokens=8)
    assert (log.steps.start_s[1:] == log.steps.end_s[:-1]).all()


@BOTH
def test_an_arrival_that_cannot_run_does_not_cut_the_run_of_steps(exact_steps: bool) -> None:
    """One slot: the arrivals only join the queue."""
    log = run(workload([0.0, 2.5, 3.5, 4.5], [10, 1, 1, 1]), max_num_seqs=1, exact_steps=exact_steps)
    assert log.requests.first_token_s.tolist() == [1.0, 11.0, 12.0, 13.0]
    if not exact_steps:
        assert log.steps.what.steps.tolist() == [1, 9, 1, 1, 1]


def test_shorter_steps_shorten_everything_alike() -> None:
    slow = run(workload([0.0, 3.5], [20, 2]), asynchronous=True)
    fast = run(workload([0.0, 3.5 / 4], [20, 2]), asynchronous=True, cost=ConstantCost(0.25))
    assert (fast.requests.finish_s * 4).tolist() == slow.requests.finish_s.tolist()
