"""The gateway: caps, queues, limits and fair shares, with instances whose every step lasts a second."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from axis import simulation, workload

from tokensim.engine.gateway import Bucket, Gateway, Limit, Rules, TenantRules
from tokensim.metrics.log import STATUSES, RunLog
from tokensim.metrics.recorder import REJECTED
from tokensim.registry import register
from tokensim.scheduling.cluster import GlobalScheduler
from tokensim.workload import Workload

REJECTED_STATUS = STATUSES.index("rejected")
assert GlobalScheduler  # registers the orders too


def behind(requests: Workload, rules: Rules, order: str = "fcfs", **options: Any) -> RunLog:
    """The log of ``requests`` that come through a gateway."""
    made = simulation(requests, **options)
    made.gateway = Gateway(
        rules,
        register.gateway_order.get(order)(),
        made.agenda,
        made.dispatch,
        lambda request: made.give_up(request, REJECTED),
    )
    log = made.run()
    assert made.gateway.queued == 0
    return log


def starts(log: RunLog) -> list[float]:
    return log.requests.scheduled_s.tolist()


def test_only_so_many_are_inside_and_the_next_enters_when_one_ends() -> None:
    log = behind(workload([0, 0, 0, 0], [2, 3, 1, 1]), Rules(max_outstanding=2))
    # 0 ends at 2; 2 enters then, and misses the decision of that instant, as a client's next request would.
    assert starts(log) == [0, 0, 3, 4]
    assert log.requests.finish_s.tolist() == [2, 3, 4, 5]
    assert log.requests.arrival_s.tolist() == [0, 0, 0, 0], "waiting at the gateway counts"


def test_who_finds_the_queue_full_is_rejected_at_once() -> None:
    log = behind(workload([0, 0, 0, 0.5], [2, 2, 2, 2]), Rules(max_outstanding=1, max_queued=1))
    assert (log.requests.status == REJECTED_STATUS).tolist() == [False, False, True, True]
    assert log.requests.instance.tolist() == [0, 0, -1, -1]


def test_who_waits_too_long_is_rejected() -> None:
    rules = Rules(max_outstanding=1, queue_timeout_s=2.5)
    log = behind(workload([0, 0, 0, 1], [2, 2, 2, 2]), rules)
    # 1 enters at 2, so that 2 would enter at 4, 3 at 6: their patience ends at 2.5 and 3.5.
    assert (log.requests.status == REJECTED_STATUS).tolist() == [False, False, True, True]
    assert starts(log)[:2] == [0, 2]


def test_a_closed_loop_goes_on_after_a_rejection() -> None:
    requests = workload([0] * 6, [2] * 6, concurrency=2, think_s=np.full(6, 0.25))
    log = behind(requests, Rules(max_outstanding=1, max_queued=0))
    # The second user is turned away at 0, 0.25, … with the requests that remain; the first is served.
    assert np.bincount(log.requests.status, minlength=4)[[1, REJECTED_STATUS]].sum() == 6
    assert log.requests.arrival_s.tolist() == [0, 0, 0.25, 0.5, 0.75, 1.0]
    assert (log.requests.status == 1).tolist() == [True, False, False, False, False, False]


def test_urgent_requests_overtake_at_the_gateway() -> None:
    requests = workload([0, 0, 0, 0], [1] * 4, priority=np.array([0, 2, 2, 1]))
    assert starts(behind(requests, Rules(max_outstanding=1), "priority")) == [0, 2, 3, 1]
    assert starts(behind(requests, Rules(max_outstanding=1), "fcfs")) == [0, 1, 2, 3]


def test_fair_sharing_counts_tokens_by_weight() -> None:
    # Tenant 0 has been served 8 tokens when tenant 1 begins to wait, which is lifted to as much.
    requests = workload([0] * 6, [4] * 6, tenant=np.array([0, 0, 0, 0, 1, 1]), prompts=[4] * 6)
    plain = starts(behind(requests, Rules(max_outstanding=1), "fair"))
    assert np.argsort(plain).tolist() == [0, 1, 4, 2, 5, 3]
    twice = Rules(max_outstanding=1, tenants={0: TenantRules(weight=2.0)})
    weighted = starts(behind(requests, twice, "fair"))
    # (4, 4), equal, so the earlier: (8, 4), (8, 12), (12, 12), (16, 12), and the last one.
    assert np.argsort(weighted).tolist() == [0, 1, 4, 2, 3, 5]


def test_who_comes_late_cannot_catch_up_what_it_did_not_ask_for() -> None:
    requests = workload(
        [0, 0, 0, 0, 0, 3.5, 3.5, 3.5], [1] * 8, tenant=np.array([0, 0, 0, 0, 0, 1, 1, 1]), prompts=[4] * 8
    )
    entered = np.argsort(starts(behind(requests, Rules(max_outstanding=1), "fair"))).tolist()
    assert entered[:4] == [0, 1, 2, 3]
    assert entered[4:] == [4, 5, 6, 7], "lifted to tenant 0's count: it takes turns, it does not take all"


def test_requests_beyond_a_limit_wait_for_their_tokens() -> None:
    others = TenantRules(requests=Limit(0.5, 1.0))
    log = behind(workload([0, 0, 0, 10], [1] * 4), Rules(others=others))
    assert starts(log) == [0, 2, 4, 10], "one every two seconds, one at once after a pause"


def test_a_limit_on_tokens_counts_prompt_and_output() -> None:
    others = TenantRules(tokens=Limit(4.0, 16.0))
    log = behind(workload([0, 0, 0], [4, 4, 12], prompts=[4, 4, 12]), Rules(others=others))
    # 8 and 8 empty the bucket; 24 is more than it can hold: it waits until it is full, at 4 s.
    assert starts(log) == [0, 0, 4]


def test_requests_beyond_a_limit_are_rejected_where_that_is_asked_for() -> None:
    rules = Rules(over_limit="reject", others=TenantRules(requests=Limit(0.5, 1.0)))
    log = behind(workload([0, 1, 2, 2.5], [1] * 4), rules)
    assert (log.requests.status == REJECTED_STATUS).tolist() == [False, True, False, True]


def test_one_tenants_limit_does_not_hold_up_another() -> None:
    rules = Rules(tenants={7: TenantRules(requests=Limit(0.1, 1.0))})
    requests = workload([0, 0, 0, 0], [1] * 4, tenant=np.array([7, 7, 3, 3]))
    assert starts(behind(requests, rules)) == [0, 10, 0, 0]


def test_a_bucket_is_a_closed_form() -> None:
    bucket = Bucket(Limit(2.0, 6.0))
    bucket.take(5.0, 1.0)
    assert bucket.ready_s(3.0, 1.0) == 2.0
    assert bucket.ready_s(99.0, 1.0) == 3.5, "as much as it can hold"
    bucket.take(8.0, 3.5)
    assert bucket.ready_s(1.0, 3.5) == pytest.approx(3.5 + 3 / 2), "two in debt, one to have"


def test_waiting_at_a_gateway_is_the_same_in_single_steps() -> None:
    rng = np.random.default_rng(5)
    requests = workload(
        np.cumsum(rng.exponential(0.7, 80)), rng.integers(1, 12, 80), tenant=rng.integers(0, 3, 80)
    )
    rules = Rules(max_outstanding=3, queue_timeout_s=20.0, others=TenantRules(tokens=Limit(11.0, 30.0)))
    for asynchronous in (False, True):
        one, other = (
            behind(requests, rules, "fair", exact_steps=exact, asynchronous=asynchronous, instances=2)
            for exact in (False, True)
        )
        assert one.requests.status.tolist() == other.requests.status.tolist()
        assert 0 < (one.requests.status == REJECTED_STATUS).sum() < 60
        np.testing.assert_allclose(one.requests.finish_s, other.requests.finish_s, rtol=1e-9)
