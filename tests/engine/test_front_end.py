"""The API process: one thread, first come first served, between the client and the engine."""

from __future__ import annotations

import math

import numpy as np
import pytest
from axis import ConstantCost, run, workload
from hypothesis import example, given
from hypothesis import strategies as st

from tokensim.engine.front_end import FrontEnd, Outputs
from tokensim.metrics.log import RunLog
from tokensim.scheduling.local import Request

SYNC_ASYNC = pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])


def deliveries(log: RunLog) -> tuple[list[float], list[float]]:
    """First and last token of each request, as the client sees them."""
    return log.requests.first_delivery_s.tolist(), log.requests.last_delivery_s.tolist()


class TestOneStep:
    """Steps last 1 s; the thread needs a quarter of a second for an output."""

    def test_a_lone_request_waits_for_thread_and_client(self) -> None:
        log = run(workload([2.0], [3]), front_end=(1.0, 0.25, 0.5))
        requests = log.requests
        assert requests.arrival_s.tolist() == [2.0]
        assert requests.scheduled_s.tolist() == [3.0]  # tokenised
        assert (requests.first_token_s[0], requests.finish_s[0]) == (4.0, 6.0)
        assert deliveries(log) == ([4.75], [6.75])

    def test_a_request_of_one_token_gets_its_first_and_last_at_once(self) -> None:
        assert deliveries(run(workload([0.0], [1]), front_end=(0.0, 0.25, 0.5))) == ([1.75], [1.75])

    def test_a_thread_that_costs_nothing_changes_nothing(self) -> None:
        requests = workload([0.25, 0.5, 3.75], [4, 2, 5])
        without, costless = run(requests).requests, run(requests, front_end=(0.0, 0.0, 0.0)).requests
        assert costless.first_token_s.tolist() == without.first_token_s.tolist()
        for name in ("first_token_s", "finish_s"):
            delivered = {"first_token_s": "first_delivery_s", "finish_s": "last_delivery_s"}[name]
            assert getattr(costless, delivered).tolist() == getattr(without, name).tolist()

    def test_without_one_the_client_sees_the_engines_times(self) -> None:
        log = run(workload([0.0, 0.0], [1, 3])).requests
        assert log.first_delivery_s.tolist() == log.first_token_s.tolist()
        assert log.last_delivery_s.tolist() == log.finish_s.tolist()


class TestQueue:
    def test_two_requests_are_tokenised_one_after_the_other(self) -> None:
        log = run(workload([0.0, 0.0], [2, 1]), front_end=(0.75, 0.0, 0.0)).requests
        # the engine gets them at 0.75 and 1.5: the second one in the step that starts at 1.75
        assert log.scheduled_s.tolist() == [0.75, 1.75]

    def test_outputs_of_a_step_leave_together(self) -> None:
        log = run(workload([0.0, 0.0, 0.0], [1, 1, 2]), front_end=(0.0, 0.25, 0.0))
        assert log.requests.first_token_s.tolist() == [1.0, 1.0, 1.0]
        assert deliveries(log) == ([1.75] * 3, [1.75, 1.75, 2.25])

    def test_steps_faster_than_the_thread_pile_up(self) -> None:
        """An output costs 2 s, a step takes 1 s: the thread works from 1 s on and never rests."""
        log = run(workload([0.0], [4]), front_end=(0.0, 2.0, 0.0))
        assert log.requests.finish_s.tolist() == [4.0]
        assert deliveries(log) == ([3.0], [9.0])

    def test_an_arrival_waits_until_the_thread_has_done_the_outputs_before_it(self) -> None:
        """From 1.5 to 3.5 s the thread works on the first output; at 2.5 s the second one comes."""
        log = run(workload([0.0, 2.25], [9, 1]), front_end=(0.5, 2.0, 0.0)).requests
        assert log.scheduled_s.tolist() == [0.5, 4.5]  # tokenised from 3.5 to 4.0; a step starts at 4.5
        log = run(workload([0.0, 2.75], [9, 1]), front_end=(0.5, 2.0, 0.0)).requests
        assert log.scheduled_s.tolist() == [0.5, 6.5]  # after the second output, from 5.5 to 6.0

    def test_outputs_wait_for_a_request_that_is_tokenised(self) -> None:
        log = run(workload([0.0, 0.75], [1, 1]), front_end=(0.5, 0.125, 0.0))
        # the second request occupies the thread from 0.75 to 1.25, the output of 1.5 finds it idle
        assert log.requests.first_token_s.tolist() == [1.5, 2.5]
        assert deliveries(log)[0] == [1.625, 2.625]
        later = run(workload([0.0, 1.25], [1, 1]), front_end=(0.5, 0.125, 0.0))
        assert deliveries(later)[0][0] == 1.875  # here it is busy from 1.25 to 1.75

    def test_each_instance_has_a_thread_of_its_own(self) -> None:
        log = run(workload([0.0, 0.0], [1, 1]), instances=2, front_end=(0.75, 0.0, 0.0)).requests
        assert log.scheduled_s.tolist() == [0.75, 0.75]


class TestClients:
    @SYNC_ASYNC
    def test_a_user_sends_the_next_request_when_the_answer_is_delivered(self, asynchronous: bool) -> None:
        requests = workload([0.0] * 3, [2, 3, 1], concurrency=1)
        log = run(requests, asynchronous=asynchronous, front_end=(0.25, 1.5, 0.5))
        assert (log.requests.last_delivery_s > log.requests.finish_s + 0.5).all()
        assert log.requests.arrival_s[1:].tolist() == deliveries(log)[1][:2]

    @SYNC_ASYNC
    def test_a_cap_counts_requests_until_they_are_delivered(self, asynchronous: bool) -> None:
        """The second one is due when the engine is done with the first but the client is not."""
        requests = workload([0.0, 2.5, 2.5], [2, 1, 1], max_in_flight=1)
        log = run(requests, asynchronous=asynchronous, front_end=(0.0, 0.5, 3.0))
        assert log.requests.finish_s[0] == 2.0
        assert deliveries(log)[1][0] == 5.5
        assert log.requests.arrival_s.tolist() == [0.0, *deliveries(log)[1][:2]]

    def test_a_slot_that_is_free_again_is_used_at_once(self) -> None:
        requests = workload([0.0, 6.0], [2, 1], max_in_flight=1)
        log = run(requests, front_end=(0.0, 0.5, 3.0)).requests
        assert log.arrival_s.tolist() == [0.0, 6.0]


class Interrupt:
    """Raises ``KeyboardInterrupt`` at the nth step that is priced."""

    def __init__(self, at: int) -> None:
        self.left = at

    def __call__(self) -> None:
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt


@SYNC_ASYNC
@pytest.mark.parametrize("at", [2, 5, 9])
def test_after_an_interruption_only_what_the_client_got_is_told(asynchronous: bool, at: int) -> None:
    requests = workload([0.5 * i for i in range(12)], [1 + i % 3 for i in range(12)])
    cost = ConstantCost(on_step=Interrupt(at))
    log = run(requests, asynchronous=asynchronous, front_end=(0.0, 1.5, 0.25), cost=cost)
    assert not log.complete
    for times in (log.requests.first_delivery_s, log.requests.last_delivery_s):
        assert not (times > log.end_s).any()
    late = ~np.isnan(log.requests.first_delivery_s)
    assert (log.requests.first_delivery_s[late] >= log.requests.first_token_s[late] + 1.75).all()


# The closed form against one step after the other.

STEPS = st.tuples(st.integers(1, 40), st.floats(0.01, 2.0), st.floats(-0.04, 0.2), st.integers(0, 5)).filter(
    lambda run: run[1] + run[2] * run[0] > 0
)  # steps, first, growth, outputs a step


def ends(first_end: float, first: float, growth: float, steps: int) -> list[float]:
    times, at, lasts = [], first_end, first
    for _ in range(steps):
        times.append(at)
        lasts += growth
        at += lasts
    return times


@given(STEPS, st.floats(0.0, 20.0), st.floats(0.0, 1.0), st.integers(0, 39))
@example((2, 1.0, -1e-309, 0), 0.0, 0.0, 0)
@example((20, 2.0, -0.09, 1), 0.0, 1.0, 0)  # steps that get shorter than the thread's work on the way
def test_a_run_of_steps_is_taken_in_as_its_steps_one_by_one(
    run: tuple[int, float, float, int], free: float, chunk: float, split: int
) -> None:
    steps, first, growth, requests = run
    told: list[tuple[float, bool]] = []
    front_end = FrontEnd(lambda _, time, last: told.append((time, last)), 0.0, chunk, 0.0)
    front_end.free_s = free
    outputs = Outputs(5.0, first, growth, steps, requests, done=[Request(0, 0.0, 1, 1, 2)])
    expected = free
    for end in ends(5.0, first, growth, steps):
        expected = max(expected, end) + chunk * requests
    if 0 < split < steps:
        front_end.absorb(outputs, split)
        assert not told
        assert outputs.steps == steps - split
    front_end.absorb(outputs, outputs.steps)
    assert front_end.free_s == pytest.approx(expected, rel=1e-12)
    assert told == [(front_end.free_s, True)]


@given(STEPS, st.floats(0.0, 60.0))
def test_steps_that_have_ended_are_counted_to_the_instant(
    run: tuple[int, float, float, int], now: float
) -> None:
    steps, first, growth, requests = run
    outputs = Outputs(5.0, first, growth, steps, requests)
    each = [outputs.end_of(step) for step in range(1, steps + 1)]
    assert each == pytest.approx(ends(5.0, first, growth, steps), rel=1e-12)
    assert outputs.ended(now) == sum(end < now for end in each)
    for step, end in enumerate(each):
        assert outputs.ended(end) == step, "an output that comes at this very instant is not there yet"


def test_the_last_step_ends_when_the_engine_says_so() -> None:
    """Sums in another order differ in the last bit; who waits for the last output must not miss it."""
    outputs = Outputs(0.1, 0.1, 0.1, 3, 1)
    outputs.last_s = math.nextafter(outputs.end_of(3), 0.0)
    assert outputs.ended(math.nextafter(outputs.last_s, math.inf)) == 3


def test_outputs_are_taken_in_on_the_way_however_long_the_run() -> None:
    """A run of 1,000 steps is not cut by an arrival that only joins the queue of the thread."""
    log = run(workload([0.0, 500.5], [1000, 1]), front_end=(0.25, 0.5, 0.0), max_num_seqs=1)
    assert (log.steps.what.steps > 900).any()
    assert deliveries(log)[1][0] == log.requests.finish_s[0] + 0.5
