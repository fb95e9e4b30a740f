"""Requests that wait for another one: rounds of a session, calls of an agent; caps, users, front ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from axis import run, workload
from hypothesis import given, settings
from hypothesis import strategies as st

from tokensim.metrics.log import RunLog
from tokensim.metrics.recorder import CANCELLED, FINISHED, REJECTED
from tokensim.workload import Workload


def rounds(
    arrivals: Sequence[float],
    outputs: Sequence[int],
    after: Sequence[int],
    delay: Sequence[float] | None = None,
    prompts: Sequence[int] | None = None,
    **more: Any,
) -> Workload:
    """Requests of which some depend on others; steps last a second, so outputs are seconds."""
    delay = [0.0] * len(after) if delay is None else delay
    return workload(arrivals, outputs, prompts, after=np.array(after), delay_s=np.array(delay), **more)


class TestOpenLoop:
    def test_a_round_is_sent_when_the_one_before_has_finished_and_its_pause_is_over(self) -> None:
        log = run(rounds([0.0, 0.0, 0.0], [2, 3, 1], [-1, 0, 1], [9.0, 0.5, 2.0])).requests
        assert log.arrival_s.tolist() == [0.0, 2.5, 7.5]
        assert log.finish_s.tolist() == [2.0, 5.5, 8.5]

    def test_never_before_its_own_time(self) -> None:
        log = run(rounds([0.0, 5.0], [2, 1], [-1, 0], [0.0, 1.0])).requests
        assert log.arrival_s.tolist() == [0.0, 5.0]

    def test_other_requests_are_not_held_up(self) -> None:
        log = run(rounds([0.0, 0.0, 1.0], [4, 1, 1], [-1, 0, -1])).requests
        assert log.arrival_s.tolist() == [0.0, 4.0, 1.0]

    def test_branches_leave_together_and_each_goes_its_way(self) -> None:
        log = run(rounds([0.0] * 5, [2, 2, 4, 1, 1], [-1, 0, 0, 1, 2])).requests
        # Both branches are sent at 2 s and run side by side.
        assert log.arrival_s.tolist() == [0.0, 2.0, 2.0, 4.0, 6.0]

    def test_behind_a_front_end_the_pause_starts_when_the_client_has_the_answer(self) -> None:
        log = run(rounds([0.0, 0.0], [2, 1], [-1, 0], [0.0, 0.5]), front_end=(0.0, 0.0, 0.25)).requests
        assert log.last_delivery_s[0] == 2.25
        assert log.arrival_s[1] == 2.75


class TestFailures:
    def test_what_depends_on_a_rejected_request_is_cancelled(self) -> None:
        requests = rounds([0.0] * 4, [1] * 4, [-1, 0, 1, -1], prompts=[50, 4, 4, 4])
        log = run(requests, max_model_len=20).requests
        assert log.status.tolist() == [REJECTED, CANCELLED, CANCELLED, FINISHED]
        assert np.isnan(log.arrival_s[1:3]).all()
        assert log.instance.tolist() == [-1, -1, -1, 0]

    def test_those_before_it_have_finished(self) -> None:
        requests = rounds([0.0] * 3, [1] * 3, [-1, 0, 1], prompts=[4, 50, 4])
        assert run(requests, max_model_len=20).requests.status.tolist() == [FINISHED, REJECTED, CANCELLED]

    def test_a_user_whose_session_broke_off_takes_the_next(self) -> None:
        requests = rounds(
            [0.0] * 4, [1] * 4, [-1, 0, -1, 2], prompts=[50, 4, 4, 4], concurrency=1, think_s=np.ones(4)
        )
        log = run(requests, max_model_len=20).requests
        assert log.status.tolist() == [REJECTED, CANCELLED, FINISHED, FINISHED]
        assert log.arrival_s[2:].tolist() == [1.0, 2.0]

    def test_a_rejected_request_gives_its_slot_back(self) -> None:
        requests = rounds([0.0] * 3, [1] * 3, [-1, 0, -1], prompts=[50, 4, 4], max_in_flight=1)
        log = run(requests, max_model_len=20).requests
        assert log.status.tolist() == [REJECTED, CANCELLED, FINISHED]


class TestUsers:
    def test_a_user_goes_through_a_whole_session_then_takes_the_next(self) -> None:
        after = [-1, 0, -1, 2, -1]
        log = run(rounds([0.0] * 5, [2, 2, 1, 1, 1], after, concurrency=1)).requests
        assert log.arrival_s.tolist() == [0.0, 2.0, 4.0, 5.0, 6.0]

    def test_a_session_with_branches_is_over_when_the_last_of_them_is(self) -> None:
        think = np.array([0.0, 0.0, 0.0, 0.5])
        log = run(rounds([0.0] * 4, [1, 5, 2, 1], [-1, 0, 0, -1], concurrency=1, think_s=think)).requests
        assert log.finish_s[:3].tolist() == [1.0, 6.0, 3.0]
        assert log.arrival_s[3] == 6.5

    def test_users_under_a_cap_take_turns(self) -> None:
        log = run(workload([0.0] * 4, [2, 2, 2, 2], concurrency=2, max_in_flight=1)).requests
        assert log.arrival_s.tolist() == [0.0, 2.0, 4.0, 6.0]
        assert (log.status == FINISHED).all()


class TestCap:
    def test_a_round_waits_for_a_slot_behind_those_that_wait_already(self) -> None:
        log = run(rounds([0.0, 0.0, 0.5], [2, 1, 3], [-1, 0, -1], [0.0, 1.0, 0.0], max_in_flight=1)).requests
        # Request 2 is held from 0.5 s and takes the slot at 2 s; the round is due at 3 s and gets it at 5 s.
        assert log.arrival_s.tolist() == [0.0, 5.0, 2.0]

    def test_a_round_without_pause_takes_the_slot_that_its_own_finish_frees(self) -> None:
        log = run(rounds([0.0, 0.0], [2, 1], [-1, 0], max_in_flight=1)).requests
        assert log.arrival_s.tolist() == [0.0, 2.0]


@st.composite
def forests(draw: st.DrawFn) -> tuple[Workload, dict[str, Any]]:
    n = draw(st.integers(1, 14))
    after = [draw(st.integers(-1, i - 1)) for i in range(n)]
    closed = draw(st.booleans())
    gaps = [draw(st.sampled_from([0.0, 0.5, 1.0, 3.0])) for _ in range(n)]
    requests = rounds(
        [0.0] * n if closed else np.cumsum(gaps).tolist(),
        [draw(st.integers(1, 6)) for _ in range(n)],
        after,
        [draw(st.sampled_from([0.0, 0.25, 1.0, 2.0])) for _ in range(n)],
        [draw(st.sampled_from([1, 4, 9, 40])) for _ in range(n)],
        concurrency=draw(st.integers(1, 3)) if closed else None,
        max_in_flight=draw(st.sampled_from([None, None, 1, 2])),
    )
    options: dict[str, Any] = {
        "asynchronous": draw(st.booleans()),
        "instances": draw(st.integers(1, 2)),
        "max_model_len": 30,
        "max_num_seqs": draw(st.sampled_from([1, 2, 8])),
        "front_end": draw(st.sampled_from([None, (0.01, 0.002, 0.1)])),
    }
    return requests, options


def check_story(requests: Workload, log: RunLog) -> None:
    """Dependents never before their parent and their pause; each request ends once, as it must."""
    r = log.requests
    assert requests.after is not None and requests.delay_s is not None
    for i, parent in enumerate(requests.after.tolist()):
        dead = parent >= 0 and r.status[parent] in (REJECTED, CANCELLED)
        assert (r.status[i] == CANCELLED) == dead
        if dead:
            continue
        assert r.status[i] == (REJECTED if requests.input_tokens[i] >= 30 else FINISHED)
        assert r.arrival_s[i] >= requests.arrival_s[i]
        if parent >= 0:
            assert r.arrival_s[i] >= r.last_delivery_s[parent] + requests.delay_s[i]
    if requests.max_in_flight is not None:
        sent = r.arrival_s[~np.isnan(r.last_delivery_s)]
        ended = r.last_delivery_s[~np.isnan(r.last_delivery_s)]
        for time in sent:
            assert ((sent <= time) & (ended > time)).sum() <= requests.max_in_flight


@given(forests())
@settings(max_examples=80, deadline=None)
def test_dependents_wait_and_every_request_ends_once(case: tuple[Workload, dict[str, Any]]) -> None:
    requests, options = case
    log = run(requests, **options)
    check_story(requests, log)
    exact = run(requests, exact_steps=True, **options).requests
    assert exact.status.tolist() == log.requests.status.tolist()
    np.testing.assert_allclose(exact.finish_s, log.requests.finish_s, rtol=1e-9)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_long_chain_goes_to_its_end(asynchronous: bool) -> None:
    n = 500
    log = run(rounds([0.0] * n, [2] * n, list(range(-1, n - 1))), asynchronous=asynchronous).requests
    assert (log.status == FINISHED).all()
    assert (log.arrival_s[1:] >= log.finish_s[:-1]).all()
