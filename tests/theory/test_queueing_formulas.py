"""With exponential lengths the simulation is a queue that theory has formulas for, within 2 %.

The mean of a waiting time scatters by per cents even over a hundred thousand requests, so a simulated mean
alone proves little. The claim goes in two legs that leave nothing to a lucky seed. Every single request of a
run waits as long as the queue's recursion says for the same sample; and the recursion's mean over millions of
customers is the formula's, with a standard error that is measured and makes 2 % more than four of them.
"""

from __future__ import annotations

import numpy as np
import pytest
from queues import (
    MEAN_SERVICE_S,
    STEP_S,
    Floats,
    erlang_c,
    markov_workload,
    mean_wait_s,
    samples,
    waiting_times,
    waiting_times_of_many,
)

from tokensim.engine.gateway import Gateway, Rules
from tokensim.engine.simulation import Simulation
from tokensim.metrics.log import RunLog
from tokensim.registry import register
from tokensim.workload import Workload

from axis import ConstantCost, simulation  # isort: skip  (queues.py says where it is)

SIGMAS = 4.5
ROOM = {"blocks": 30_000, "max_model_len": 100_000, "cost": ConstantCost(STEP_S)}


def one_slot(requests: Workload) -> RunLog:
    return simulation(requests, max_num_seqs=1, **ROOM).run()


def slots_of_one_instance(requests: Workload, slots: int) -> RunLog:
    return simulation(requests, max_num_seqs=slots, **ROOM).run()


def instances_behind_a_gateway(requests: Workload, count: int) -> RunLog:
    """Instances of one slot; who finds none free waits at the gateway."""
    router = register.global_scheduler.get("least-requests")()
    made: Simulation = simulation(requests, instances=count, router=router, max_num_seqs=1, **ROOM)
    order = register.gateway_order.get("fcfs")()
    made.gateway = Gateway(
        Rules(max_outstanding=count), order, made.agenda, made.dispatch, lambda request: None
    )
    return made.run()


def waits(log: RunLog) -> Floats:
    return log.requests.scheduled_s - log.requests.arrival_s


def expected_waits(requests: Workload, servers: int) -> Floats:
    return waiting_times(requests.arrival_s, requests.output_tokens * STEP_S, servers)


@pytest.mark.parametrize("load", [0.3, 0.9])
def test_one_slot_makes_every_request_wait_as_lindley_says(load: float) -> None:
    requests = markov_workload(load, 1, 4_000, seed=5)
    np.testing.assert_allclose(waits(one_slot(requests)), expected_waits(requests, 1), atol=1e-7)


@pytest.mark.parametrize(("servers", "load"), [(2, 0.5), (4, 0.8)])
def test_instances_behind_a_gateway_make_every_request_wait_as_kiefer_and_wolfowitz_say(
    servers: int, load: float
) -> None:
    requests = markov_workload(load, servers, 3_000, seed=6)
    log = instances_behind_a_gateway(requests, servers)
    np.testing.assert_allclose(waits(log), expected_waits(requests, servers), atol=1e-7)


@pytest.mark.parametrize(("servers", "load"), [(3, 0.5), (8, 0.9)])
def test_slots_of_one_instance_make_requests_wait_a_step_longer_at_most(servers: int, load: float) -> None:
    """They take their steps together, so that who finds a free slot joins when the step in progress ends."""
    requests = markov_workload(load, servers, 3_000, seed=7)
    longer = waits(slots_of_one_instance(requests, servers)) - expected_waits(requests, servers)
    assert longer.min() > -1e-7 and longer.max() < STEP_S + 1e-7


def test_the_device_is_busy_for_as_long_as_requests_are_served() -> None:
    requests = markov_workload(0.5, 1, 4_000, seed=8)
    rows = one_slot(requests).steps
    assert (rows.end_s - rows.start_s).sum() == pytest.approx(requests.output_tokens.sum() * STEP_S, rel=1e-9)


@pytest.mark.parametrize("servers", [1, 3])
def test_many_queues_side_by_side_are_the_queues_one_by_one(servers: int) -> None:
    gaps_s, tokens = samples(0.8, servers, (400, 5), seed=9)
    many = waiting_times_of_many(gaps_s, tokens * STEP_S, servers)
    for queue in range(5):
        arrivals_s, services_s = np.cumsum(gaps_s[:, queue]), tokens[:, queue] * STEP_S
        one = waiting_times(arrivals_s, services_s, servers)
        np.testing.assert_allclose(many[:, queue], one, atol=1e-9)


def assert_within_2_percent(means: Floats, expected: float) -> None:
    """``means`` of independent runs together are ``expected``, and chance would hardly make them miss it."""
    error = float(means.std(ddof=1)) / len(means) ** 0.5
    assert SIGMAS * error < 0.02 * expected
    assert float(means.mean()) == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize(("servers", "load"), [(1, 0.5), (1, 0.7), (3, 0.7)])
def test_the_recursion_has_the_means_of_mmc(servers: int, load: float) -> None:
    """Waiting time, and who has to wait (for one server a share ``load``: arrivals see time averages)."""
    begin, queues, customers = 400, 10_000, 600  # empty queues: forgotten after some dozens of arrivals
    gaps_s, tokens = samples(load, servers, (begin + customers, queues), seed=1)
    waits_s = waiting_times_of_many(gaps_s, tokens * STEP_S, servers)[begin:]
    assert_within_2_percent(waits_s.mean(axis=0), mean_wait_s(servers, load))
    assert_within_2_percent((waits_s > 0).mean(axis=0), erlang_c(servers, load))


def test_the_formula_of_one_server_is_the_one_of_the_textbook() -> None:
    for load in (0.3, 0.5, 0.9):
        assert erlang_c(1, load) == pytest.approx(load)
        assert mean_wait_s(1, load) == pytest.approx(load / (1 - load) * MEAN_SERVICE_S)
