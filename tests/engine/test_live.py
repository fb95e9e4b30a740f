"""A live simulation: the same arrivals give the same story as offline, and who leaves leaves nothing behind.

Examples are seeds of ``whole_clusters``: any policies, roles, ranks, pipelines, drafts, tiers, failures.
"""

from __future__ import annotations

import random
from collections import Counter
from math import inf, nextafter
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_whole_clusters import COUNTS, TIMES, check_conservation
from whole_clusters import draw_scenario, model_named

from tokensim.assemble.cluster import build_simulation
from tokensim.assemble.live import LiveCluster, live_cluster
from tokensim.engine import control
from tokensim.engine.arriving import Arrival
from tokensim.engine.live import LiveSimulation
from tokensim.errors import InputError, SimulationError
from tokensim.metrics.log import STATUSES, RunLog
from tokensim.plan import plan_pool
from tokensim.scenario import Scenario
from tokensim.workload import Workload, build_workload


def open_loop(seed: int) -> Scenario:
    """The scenario of ``seed`` with requests that nobody holds back, and of which nobody knows more than a
    client of a server says."""
    drawn = draw_scenario(seed)
    workload = drawn["workload"]
    for name in ("sessions", "max_in_flight", "deadline", "predicted_tokens"):
        workload.pop(name, None)
    workload.setdefault("num_requests", 12)
    if workload["arrivals"]["process"] in ("closed-loop", "all-at-once"):
        workload["arrivals"] = {"process": "poisson", "rate": 30.0}
    for pool in drawn["cluster"]["pools"]:
        options = pool["engine"].get("policy_options", {})
        if options.get("lengths") == "predicted":
            options["lengths"] = "actual"
    return Scenario.model_validate(drawn)


def arrivals_of(workload: Workload) -> list[tuple[float, Arrival]]:
    def value(column: np.ndarray | None, row: int, plain: int) -> int:
        return plain if column is None else int(column[row])

    segments = workload.segments
    rows = []
    for row, time_s in enumerate(workload.arrival_s.tolist()):
        adapter = value(workload.adapter, row, -1)
        parts: tuple[tuple[int, int], ...] = ()
        answer = -1
        if segments is not None:
            own = slice(int(segments.offsets[row]), int(segments.offsets[row + 1]))
            shift = (adapter + 1) << 40
            ids = [int(one) + shift for one in segments.ids[own]]
            parts = tuple(zip(ids, segments.tokens[own].tolist(), strict=True))
            answer = value(segments.output_ids, row, -1)
            answer += shift if answer >= 0 else 0
        rows.append(
            (
                time_s,
                Arrival(
                    int(workload.input_tokens[row]),
                    int(workload.output_tokens[row]),
                    parts,
                    answer,
                    value(workload.priority, row, 0),
                    adapter,
                    value(workload.tenant, row, 0),
                    value(workload.session, row, -1),
                ),
            )
        )
    return rows


class Listener:
    """Counts what clients get, and when."""

    def __init__(self, live: LiveSimulation) -> None:
        self.live = live
        self.tokens: Counter[int] = Counter()
        self.skip: Counter[int] = Counter()
        self.first_s: dict[int, float] = {}
        self.last_s: dict[int, float] = {}
        self.ended: dict[int, int] = {}
        self.now = 0.0

    def advance(self, until_s: float) -> None:
        for batch in self.live.advance(until_s):
            assert self.now <= batch.time_s <= until_s, "tokens leave in order, and not before their time"
            self.now = batch.time_s
            for index in batch.tokens:
                assert index not in self.ended, "a token after the end"
                if self.skip[index]:
                    self.skip[index] -= 1
                    continue
                self.tokens[index] += 1
                self.first_s.setdefault(index, batch.time_s)
                self.last_s[index] = batch.time_s
            for index, status in batch.ends:
                if status < 0:
                    self.skip[index] = self.tokens[index]
                else:
                    assert index not in self.ended, "two ends"
                    self.ended[index] = status

    def finish(self) -> None:
        """Until nobody is left, and all has been sent."""
        for _ in range(200_000):
            due = self.live.next_s
            if due == inf or due > self.now + 100.0:  # failures and looks go on, and nobody is served
                break
            self.advance(nextafter(due, inf))
            if not self.live.present and not self.live.outbox.next_s < inf:
                break


def offline(scenario: Scenario) -> RunLog:
    model = model_named(str(scenario.model))
    plans = [plan_pool(scenario, index, model) for index in range(len(scenario.cluster.pools))]
    workload = build_workload(scenario.workload, scenario.seed)
    with patch.object(control, "MOST_FUTILE_TICKS", 50):
        return build_simulation(scenario, model, plans, workload, exact_steps=False, hooks=[]).run()


def live_run(scenario: Scenario, seed: int, leave: float = 0.0) -> tuple[LiveCluster, Listener]:
    """``scenario`` given live, with looks at random times in between; ``leave``: the share of clients that do
    not wait for the end."""
    rng = random.Random(seed)
    cluster = live_cluster(scenario, keep=True)
    live = cluster.simulation
    listener = Listener(live)
    leaving: list[tuple[float, int]] = []
    for time_s, arrival in arrivals_of(build_workload(scenario.workload, scenario.seed)):
        for _ in range(rng.randrange(3)):
            look_s = rng.uniform(listener.live.now, time_s)
            for left_s, index in [entry for entry in leaving if entry[0] <= look_s]:
                live.cancel(index)
                leaving.remove((left_s, index))
            listener.advance(look_s)
        index = live.submit(arrival, time_s)
        if rng.random() < leave:
            leaving.append((time_s + rng.choice([0.0, 0.003, 0.05, 0.3]), index))
        if rng.random() < 0.7:
            listener.advance(time_s)
    for left_s, index in sorted(leaving):
        if left_s > live.now:
            listener.advance(left_s)
        live.cancel(index)
    listener.finish()
    return cluster, listener


def check_same(seed: int) -> str:
    try:
        scenario = open_loop(seed)
        log = offline(scenario)
    except InputError:
        return "refused"
    except SimulationError:
        return "stuck"
    status = np.array(STATUSES)[log.requests.status]
    with patch.object(control, "MOST_FUTILE_TICKS", 50):
        cluster, listener = live_run(scenario, seed)
    if cluster.simulation.present:  # it does not know that nobody will ever come to serve them
        assert (status == "failed").any(), f"{cluster.simulation.present} requests never end"
        return "waiting for replicas"
    own = cluster.simulation.log()
    for name in COUNTS:
        assert (getattr(own.requests, name) == getattr(log.requests, name)).all(), (seed, name)
    for name in TIMES:
        ours, theirs = getattr(own.requests, name), getattr(log.requests, name)
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-12, err_msg=f"{seed} {name}")
    for index in np.flatnonzero((status == "finished") | (status == "truncated")).tolist():
        got, wanted = listener.tokens[index], log.requests.output_tokens[index]
        # Who begins anew where there is less room had more tokens than its answer has in the end.
        cut_short = status[index] == "truncated" and log.retries is not None
        assert got >= wanted if cut_short else got == wanted, (seed, index)
        if log.retries is None and log.handovers is None:  # else some tokens may come twice
            assert listener.first_s[index] == pytest.approx(log.requests.first_delivery_s[index], rel=1e-9)
            assert listener.last_s[index] == pytest.approx(log.requests.last_delivery_s[index], rel=1e-9)
    assert len(listener.ended) == len(log.requests.status)
    return "compared"


def check_leaving(seed: int) -> Counter[str]:
    try:
        scenario = open_loop(seed)
        cluster, _ = live_run(scenario, seed, leave=0.6)
    except InputError:
        return Counter()
    made = cluster.simulation
    if made.present:
        return Counter(waiting=made.present)
    log = made.log()
    check_conservation(log, made)
    assert not made.requests.present and not made.requests.arrivals and not made._gone
    return Counter(np.array(STATUSES)[log.requests.status].tolist())


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6))
@example(1772)  # a token is in the front end when its replica dies, and the request begins anew
@example(2000202)  # the same, and it is rejected when it comes again
@example(6000041)  # a pool that only decodes grows again from none for prompts that wait
@example(8000058)  # a restart waits for those who wait for one another's memory
@example(8005867)  # a first token is in a front end when its request moves on, and begins anew elsewhere
@example(10011437)  # a router is asked where a request goes on that decodes in a run of steps
@example(10016939)  # all wait for one another's memory while requests are still to come
@example(10017955)  # the same, while there is no replica just then
@example(10019577)  # a request is retracted whose next token is in flight
@example(6000869)  # a prompt of which nothing is known comes back from where nothing is cached
@example(2000355)  # a router looks at a pipeline whose next steps have been worked out
def test_the_same_arrivals_tell_the_same_story_live_as_offline(seed: int) -> None:
    check_same(seed)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6))
def test_clients_that_leave_leave_nothing_behind(seed: int) -> None:
    check_leaving(seed)
