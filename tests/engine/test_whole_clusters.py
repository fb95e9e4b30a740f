"""Everything at once: whatever a scenario asks of a cluster, step runs tell the story of single steps, and
nothing is lost.

Each example is a seed: ``check(seed)`` repeats it; its scenario is ``whole_clusters.draw_scenario(seed)``.
"""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from same_story import single_steps
from whole_clusters import build

from tokensim.engine import Simulation, control
from tokensim.errors import InputError, SimulationError
from tokensim.metrics.gaps import gaps_of
from tokensim.metrics.log import STATUSES, RunLog
from tokensim.metrics.recorder import REQUEST_ROW

REQUEST_BYTES = 8 * len(REQUEST_ROW)
COUNTS = ("status", "instance", "output_tokens", "cached_tokens", "preemptions", "recomputed_tokens")
TIMES = ("arrival_s", "scheduled_s", "first_token_s", "finish_s", "first_delivery_s", "last_delivery_s")


def outcome(seed: int, exact_steps: bool) -> tuple[RunLog | str, Simulation]:
    """The run of ``seed``, one way or the other; a message if it cannot be completed."""
    made = build(seed, exact_steps=exact_steps)
    try:
        with patch.object(control, "MOST_FUTILE_TICKS", 50):  # an autoscaler may add replicas in each
            return made.run(), made
    except SimulationError as error:
        return str(error), made


def check_conservation(log: RunLog, made: Simulation) -> None:
    """Every request ended once, and every block, byte, transfer and count came back."""
    columns = log.requests
    assert len(made.recorder.requests) == REQUEST_BYTES * len(made.workload), "accounted for twice, or never"
    status = np.array(STATUSES)[columns.status]
    assert set(status) <= {"finished", "truncated", "rejected", "failed", "cancelled"}, set(status)
    answered = (status == "finished") | (status == "truncated")
    finished = status == "finished"
    assert (columns.output_tokens[finished] == columns.requested_output_tokens[finished]).all()
    assert (columns.output_tokens[~answered] == 0).all()
    assert (columns.instance[answered] >= 0).all()
    for before, after in (
        ("arrival_s", "scheduled_s"),
        ("scheduled_s", "first_token_s"),
        ("first_token_s", "finish_s"),
    ):
        assert (getattr(columns, before)[answered] <= getattr(columns, after)[answered]).all(), after
    assert not made.passages and not made.parked
    assert not made.network.in_flight
    for replica in made.replicas:
        assert replica.idle, f"{replica} has requests left"
        for rank in replica.ranks:
            scheduler = rank.scheduler
            scheduler.check_integrity()
            assert scheduler.pool.free == scheduler.pool.num_blocks, f"{replica} leaks blocks"
    made.loads.at(made.now + 1e9, True)
    for replica in made.replicas:
        assert replica.load.outstanding_requests == 0, f"{replica} counts requests that have ended"
        assert not made.loads.active or replica.load.outstanding_tokens == 0
    assert made.gateway is None or made.gateway.queued == 0
    tiers = [rank.tiers for rank in made.all_ranks() if rank.tiers is not None]
    for store in {level.store for kv in tiers for level in kv.levels}:
        store.tier.check_integrity()
        came = store.stored_bytes + store.demoted_bytes + store.promoted_bytes
        assert came == pytest.approx((store.tier.used + store.tier.evicted) * store.block_bytes), store.name


def check(seed: int) -> RunLog | str:
    """Both runs of ``seed`` tell one story, in which nothing is lost."""
    (runs, made), (steps, other) = outcome(seed, False), outcome(seed, True)
    if isinstance(runs, str) or isinstance(steps, str):
        assert runs == steps
        return runs if isinstance(runs, str) else ""
    for name in COUNTS:
        assert getattr(runs.requests, name).tolist() == getattr(steps.requests, name).tolist(), name
    for name in TIMES:
        left, right = getattr(runs.requests, name), getattr(steps.requests, name)
        np.testing.assert_allclose(left, right, rtol=1e-9, err_msg=name)
    assert runs.end_s == pytest.approx(steps.end_s, rel=1e-9)
    for one, its in zip(single_steps(runs), single_steps(steps), strict=True):
        assert one[0] == its[0]
        assert one[1] == pytest.approx(its[1], rel=1e-9)
    gaps, single = gaps_of(runs), gaps_of(steps)
    assert gaps.count == single.count
    assert gaps.total_s == pytest.approx(single.total_s, rel=1e-9, abs=1e-7)
    for log, simulation in ((runs, made), (steps, other)):
        check_conservation(log, simulation)
    assert made.tiers.use() == other.tiers.use()
    return runs


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**48))
@example(8102369)  # all replicas go at one look, each with another's requests: a prompt begins anew for ever
@example(9030155)  # failures go on and nobody can go on: only replicas come and die
@example(9041550)  # replicas in lockstep, one of which dies: what it had misses the others' decisions
@example(20013404)  # a request is withdrawn on its way into a replica that has died
@example(30003728)  # a tier with exactly as much on its way as it may have
def test_whatever_a_scenario_asks_for_runs_equal_single_steps_and_nothing_is_lost(seed: int) -> None:
    with suppress(InputError):  # some of what is drawn is not simulated together, and refused
        check(seed)


def test_few_are_refused_and_the_others_reach_every_corner() -> None:
    """What makes a cluster difficult happens in several of 150 scenarios."""
    seen: Counter[str] = Counter()
    for seed in range(150):
        try:
            log, made = outcome(seed, False)
        except InputError:
            seen["refused"] += 1
            continue
        assert not isinstance(log, str), log
        ended = set(np.array(STATUSES)[log.requests.status])
        happened = {
            "handed over": log.handovers is not None and (log.handovers.migrates == 0).any(),
            "migrated": log.handovers is not None and log.handovers.migrates.any(),
            "loaded from a tier": log.loads is not None,
            "failed": "failed" in ended,
            "rejected": "rejected" in ended,
            "taken up again": log.retries is not None and log.retries.any(),
            "preempted": log.requests.preemptions.any(),
            "hit": log.requests.cached_tokens.any(),
            "replicas came": len(made.replicas) > sum(pool.facts.pool.replicas for pool in made.pools),
            "drafts": log.verified is not None,
            "stages": bool(log.later_stages),
            "long run": (log.steps.what.steps > 5).any(),
            "several policies": len({type(rank.scheduler) for rank in made.all_ranks()}) > 1,
        }
        seen.update(name for name, yes in happened.items() if yes)
    assert seen["refused"] < 25
    rare = {name: count for name, count in seen.items() if count < 4 and name != "refused"}
    assert not rare and len(seen) >= 13, f"the generator hardly reaches {rare}: {seen}"
