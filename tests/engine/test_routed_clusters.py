"""Routers that read loads, in random clusters with random things done to them: step runs tell the same story
as single steps, and what the router counts itself comes out even."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from test_random_clusters import draw

from tokensim.engine import Simulation
from tokensim.engine.gateway import Gateway, Limit, Rules, TenantRules
from tokensim.metrics.log import STATUSES, RunLog
from tokensim.metrics.recorder import REJECTED
from tokensim.registry import register

OPTIONS: dict[str, dict[str, Any]] = {
    "cost-aware": {"ttft": 0.5},
    "least-kv": {},
    "least-requests": {},
    "least-tokens": {},
    "pd-pair": {},
    "power-of-two": {},
    "prefix-aware": {"balance_abs_threshold": 4},
    "session-affinity": {},
    "shortest-queue": {},
    "slo-aware": {},
    "weighted": {"weights": {"mixed-0": 3}},
}


def outcome(seed: int, exact_steps: bool) -> tuple[RunLog, Simulation]:
    rng = random.Random(seed)
    policy = rng.choice(sorted(OPTIONS))
    made = draw(random.Random(seed), exact_steps)
    router = register.global_scheduler.get(policy)(seed=seed, **OPTIONS[policy])
    made.router = router
    made.loads.serve(router)
    second = register.global_scheduler.get("pd-pair")()
    assert made.handover is not None
    made.handover.router = second
    made.loads.serve(second)
    if rng.random() < 0.5:
        rules = Rules(
            max_outstanding=rng.choice([1, 3, 8]),
            max_queued=rng.choice([2, 100]),
            queue_timeout_s=rng.choice([0.05, 1e6]),
            over_limit=rng.choice(["queue", "reject"]),
            others=TenantRules(requests=rng.choice([None, Limit(50.0, 2.0)])),
        )
        made.gateway = Gateway(
            rules,
            register.gateway_order.get(rng.choice(["fcfs", "priority", "fair"]))(),
            made.agenda,
            made.dispatch,
            lambda request: made.give_up(request, REJECTED),
        )
    return made.run(), made


def check(seed: int) -> Any:
    (runs, one), (steps, other) = outcome(seed, False), outcome(seed, True)
    a, b = runs.requests, steps.requests
    assert a.status.tolist() == b.status.tolist()
    assert a.instance.tolist() == b.instance.tolist()
    for name in ("arrival_s", "scheduled_s", "first_token_s", "finish_s"):
        np.testing.assert_allclose(getattr(a, name), getattr(b, name), rtol=1e-9, err_msg=name)
    for made in (one, other):
        made.loads.at(1e9, True)
        up = [replica for replica in made.replicas if replica.state.value == "up"]
        assert [replica.load.outstanding_requests for replica in up] == [0] * len(up)
        assert [replica.load.outstanding_tokens for replica in up] == [0] * len(up)
        assert made.gateway is None or made.gateway.queued == 0
    return a


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 1 << 32))
def test_routed_by_load_runs_equal_single_steps_and_counts_come_out_even(seed: int) -> None:
    check(seed)


def test_some_of_them_are_rejected_and_some_routed_to_several() -> None:
    ended = [outcome(seed, False)[0].requests for seed in range(60)]
    assert sum((columns.status == STATUSES.index("rejected")).sum() for columns in ended) > 5
    assert sum(len(np.unique(columns.instance)) > 2 for columns in ended) > 5
