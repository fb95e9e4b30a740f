"""Who sends what when: open loop, a cap on requests in flight, a closed loop of users; and who takes it."""

from __future__ import annotations

import numpy as np
import pytest
from axis import run, workload

from tokensim.metrics.recorder import FINISHED, REJECTED, TRUNCATED
from tokensim.registry import register
from tokensim.scheduling.cluster import Random, RoundRobin

SYNC_ASYNC = pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])


class TestMaxInFlight:
    def test_holds_requests_back_first_come_first_sent(self) -> None:
        log = run(workload([0.0, 0.1, 0.2], [2, 2, 2], max_in_flight=1)).requests
        assert log.intended_s.tolist() == [0.0, 0.1, 0.2]
        assert log.arrival_s.tolist() == [0.0, 2.0, 4.0]
        assert log.finish_s.tolist() == [2.0, 4.0, 6.0]

    def test_latency_counts_from_sending(self) -> None:
        log = run(workload([0.0, 0.1, 0.2], [2, 2, 2], max_in_flight=1)).requests
        assert (log.first_token_s - log.arrival_s).tolist() == [1.0, 1.0, 1.0]

    @pytest.mark.parametrize(("asynchronous", "first"), [(False, 4.0), (True, 5.0)])
    def test_what_is_sent_after_a_finish_misses_the_decision_taken_at_that_instant(
        self, asynchronous: bool, first: float
    ) -> None:
        """Request 0 ends at 2 s, as the next step is decided; an answer takes longer than no time."""
        log = run(workload([0.0, 0.0, 0.0], [2, 9, 1], max_in_flight=2), asynchronous=asynchronous).requests
        assert log.arrival_s.tolist() == [0.0, 0.0, 2.0]
        assert log.first_token_s.tolist() == [1.0, 1.0, first]

    def test_does_nothing_when_it_is_never_reached(self) -> None:
        arrivals, outputs = [0.0, 0.5, 2.25], [3, 4, 2]
        free, capped = run(workload(arrivals, outputs)), run(workload(arrivals, outputs, max_in_flight=3))
        assert free.requests.finish_s.tolist() == capped.requests.finish_s.tolist()
        assert capped.requests.arrival_s.tolist() == arrivals

    @SYNC_ASYNC
    def test_is_never_exceeded(self, asynchronous: bool) -> None:
        log = run(workload([0.0] * 20, [3] * 20, max_in_flight=4), asynchronous=asynchronous).requests
        for time in log.arrival_s:
            assert ((log.arrival_s <= time) & (log.finish_s > time)).sum() <= 4
        assert (np.diff(log.arrival_s) >= 0).all()

    @SYNC_ASYNC
    def test_a_slot_is_free_when_the_request_ends_not_when_its_last_step_is_known(
        self, asynchronous: bool
    ) -> None:
        """Asynchronous scheduling knows at 2 s that request 0 will end at 3 s."""
        log = run(workload([0.0, 2.5], [3, 1], max_in_flight=1), asynchronous=asynchronous).requests
        assert log.finish_s[0] == 3.0
        assert log.arrival_s.tolist() == [0.0, 3.0]

    def test_a_rejected_request_makes_room_for_the_next(self) -> None:
        log = run(workload([0.0] * 3, [1] * 3, [50, 50, 4], max_in_flight=1), max_model_len=20).requests
        assert log.status.tolist() == [REJECTED, REJECTED, FINISHED]


class TestClosedLoop:
    def test_each_user_sends_the_next_request_when_the_last_one_has_finished(self) -> None:
        log = run(workload([0.0] * 4, [2, 4, 2, 2], concurrency=2)).requests
        assert log.arrival_s.tolist() == [0.0, 0.0, 2.0, 4.0]
        # Request 2 is sent at 2 s and misses the step decided then; 1 and 2 … 3 is sent when 1 ends.
        assert log.finish_s.tolist() == [2.0, 4.0, 5.0, 6.0 + 1.0]

    def test_a_user_thinks_before_sending(self) -> None:
        think = np.array([9.0, 9.0, 0.5, 0.0])  # those of the first requests of all do not count
        log = run(workload([0.0] * 4, [2, 2, 2, 2], concurrency=2, think_s=think)).requests
        assert log.arrival_s.tolist() == [0.0, 0.0, 2.5, 2.0]
        assert log.first_token_s.tolist() == [1.0, 1.0, 4.0, 3.0]
        assert log.finish_s.tolist() == [2.0, 2.0, 5.0, 4.0]

    def test_more_users_than_requests_send_them_all_at_once(self) -> None:
        log = run(workload([0.0] * 3, [2] * 3, concurrency=10)).requests
        assert log.arrival_s.tolist() == [0.0] * 3

    @SYNC_ASYNC
    def test_as_many_are_in_flight_as_there_are_users(self, asynchronous: bool) -> None:
        log = run(
            workload([0.0] * 30, [1 + i % 5 for i in range(30)], concurrency=3), asynchronous=asynchronous
        ).requests
        assert (log.status == FINISHED).all()
        for time in np.unique(log.arrival_s[:-3]):
            assert ((log.arrival_s <= time) & (log.finish_s > time)).sum() == 3

    def test_a_rejected_request_is_followed_by_the_next(self) -> None:
        log = run(workload([0.0] * 3, [1] * 3, [50, 4, 4], concurrency=1), max_model_len=20).requests
        assert log.status.tolist() == [REJECTED, FINISHED, FINISHED]
        assert log.arrival_s[1:].tolist() == [0.0, 1.0]

    def test_a_user_whose_first_request_is_rejected_does_not_take_another_users(self) -> None:
        log = run(workload([0.0] * 4, [1] * 4, [50, 4, 4, 4], concurrency=2), max_model_len=20).requests
        assert log.status.tolist() == [REJECTED, FINISHED, FINISHED, FINISHED]
        assert log.arrival_s.tolist() == [0.0, 0.0, 0.0, 1.0]


class TestLengths:
    def test_a_prompt_that_leaves_no_room_for_a_token_is_rejected(self) -> None:
        log = run(workload([0.0, 0.0], [5, 5], [20, 19]), max_model_len=20).requests
        assert log.status.tolist() == [REJECTED, TRUNCATED]
        assert log.output_tokens.tolist() == [0, 1]
        for column in (log.scheduled_s, log.first_token_s, log.finish_s):
            assert np.isnan(column[0]) and not np.isnan(column[1])

    def test_an_answer_that_outgrows_the_context_is_cut_and_says_so(self) -> None:
        log = run(workload([0.0, 0.0], [50, 12], [8, 8]), max_model_len=20).requests
        assert log.status.tolist() == [TRUNCATED, FINISHED]
        assert log.output_tokens.tolist() == [12, 12]
        assert log.requested_output_tokens.tolist() == [50, 12]
        assert log.finish_s.tolist() == [12.0, 12.0]

    def test_a_run_of_rejected_requests_only_ends(self) -> None:
        log = run(workload([0.0, 1.0], [5, 5], [20, 30]), max_model_len=20)
        assert log.complete
        assert log.requests.status.tolist() == [REJECTED, REJECTED]
        assert len(log.steps.end_s) == 0


class TestRouters:
    def test_round_robin_takes_turns(self) -> None:
        log = run(workload([0.0, 0.5, 0.5, 3.0, 3.0], [4] * 5), instances=3).requests
        assert log.instance.tolist() == [0, 1, 2, 0, 1]

    def test_instances_do_not_share_slots(self) -> None:
        one, two = (run(workload([0.0] * 4, [4] * 4), instances=n, max_num_seqs=1).requests for n in (1, 2))
        assert one.finish_s.tolist() == [4.0, 8.0, 12.0, 16.0]
        assert two.finish_s.tolist() == [4.0, 4.0, 8.0, 8.0]

    def test_random_is_seeded_and_reaches_all_alike(self) -> None:
        def instances(seed: int) -> list[int]:
            requests = workload([0.1 * i for i in range(400)], [1] * 400)
            return run(requests, instances=4, router=Random(seed)).requests.instance.tolist()

        first = instances(1)
        assert first == instances(1)
        assert first != instances(2)
        assert set(np.bincount(first, minlength=4) // 60) == {
            1
        }  # 100 each, give or take 40, 4.6 standard deviations

    def test_the_routers_have_names(self) -> None:
        assert register.global_scheduler.get("round-robin") is RoundRobin
        assert register.global_scheduler.get("random") is Random


def test_a_user_whose_first_request_is_rejected_sends_the_next_one() -> None:
    """Also when other users have not sent anything yet."""
    requests = workload([0.0] * 3, [2, 2, 2], [500, 4, 4], concurrency=3)
    log = run(requests, max_model_len=100)
    assert log.requests.status.tolist() == [3, 1, 1]
