"""Prefill and decode apart, worked out by hand: every step lasts a second, KV takes as long as is said."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from axis import ConstantCost, workload

from tokensim.engine import Instance, Simulation
from tokensim.engine.handover import Handover
from tokensim.engine.passage import Terms
from tokensim.engine.replica import Replica, ReplicaPool
from tokensim.metrics.log import RunLog
from tokensim.scheduling.cluster import RoundRobin
from tokensim.scheduling.local import Limits, Vllm
from tokensim.workload import Workload

BOTH = pytest.mark.parametrize("exact_steps", [True, False], ids=["walked", "runs"])


class Wire:
    """Each transfer takes ``s_per_byte`` a byte, whatever else is on the way."""

    def __init__(self, simulation: Simulation, s_per_byte: float) -> None:
        self.simulation = simulation
        self.s_per_byte = s_per_byte
        self.sent: list[tuple[float, float]] = []

    def move(
        self, source: Replica, target: Replica, bytes_: float, now: float, done: Callable[[float], None]
    ) -> Any:
        self.sent.append((now, bytes_))
        self.simulation.agenda.action(now + bytes_ * self.s_per_byte, done)
        return object()

    def cancel(self, transfer: Any, now: float) -> None:
        raise AssertionError("nothing fails here")


def cluster(
    requests: Workload,
    terms: Terms,
    *,
    roles: tuple[str, ...] = ("prefill", "decode"),
    exact_steps: bool = False,
    asynchronous: bool = False,
    blocks: tuple[int, ...] = (100, 100),
    s_per_byte: float = 0.25,
    policy: Any = Vllm,
    **limits: Any,
) -> Simulation:
    made = Simulation(requests, RoundRobin())
    Handover(made, RoundRobin(), terms, Wire(made, s_per_byte))
    for index, (role, size) in enumerate(zip(roles, blocks, strict=True)):
        options = {"block_size": 4, "max_num_batched_tokens": 1000, "enable_prefix_caching": False, **limits}
        bounds = Limits(num_gpu_blocks=size + 1, async_scheduling=asynchronous, **options)
        scheduler = policy(bounds, exact_steps=exact_steps)
        instance = Instance(
            index,
            scheduler,
            ConstantCost(),
            made.recorder,
            max_model_len=scheduler.rejects_from(bounds.max_model_len),
            caching=bounds.enable_prefix_caching,
            asynchronous=asynchronous,
            pause_before_idle=True,
            on_finish=made.on_finish,
        )
        made.add_instance(instance, ReplicaPool(role, lambda: made.instances[0], role=role))
    return made


def run(requests: Workload, terms: Terms, **options: Any) -> RunLog:
    made = cluster(requests, terms, **options)
    log = made.run()
    for instance in made.instances:
        for rank in instance.ranks:
            rank.scheduler.check_integrity()
            assert rank.scheduler.pool.free == rank.scheduler.pool.num_blocks
    assert not made.handover.passages
    return log


@BOTH
def test_the_first_token_streams_from_prefill_and_the_second_waits_for_the_kv(exact_steps: bool) -> None:
    """Prefill until 1 s; 4 tokens of a byte take a second; tokens 2 and 3 end at 3 s and 4 s."""
    log = run(workload([0.0], [3]), Terms(1.0), exact_steps=exact_steps)
    assert log.requests.first_token_s.tolist() == [1.0]
    assert log.requests.finish_s.tolist() == [4.0]
    assert log.requests.instance.tolist() == [1]
    assert log.requests.output_tokens.tolist() == [3]


@BOTH
def test_a_decode_side_that_gives_the_first_token_computes_the_last_prompt_token_again(
    exact_steps: bool,
) -> None:
    log = run(workload([0.0], [3]), Terms(1.0, streams_first=False), exact_steps=exact_steps)
    assert log.requests.first_token_s.tolist() == [3.0]
    assert log.requests.finish_s.tolist() == [5.0]


@BOTH
@pytest.mark.parametrize("streams_first", [True, False])
@pytest.mark.parametrize("push", [True, False])
@pytest.mark.parametrize("layerwise", [True, False])
@pytest.mark.parametrize("asynchronous", [True, False])
def test_every_way_ends_every_request_once_and_leaves_nothing(
    push: bool, layerwise: bool, streams_first: bool, asynchronous: bool, exact_steps: bool
) -> None:
    requests = workload([0.0, 0.1, 0.2, 3.0, 3.0, 9.5], [3, 1, 20, 7, 30, 2], [4, 9, 30, 16, 5, 33])
    terms = Terms(1.0, layers=4, push=push, layerwise=layerwise, streams_first=streams_first, latency_s=0.25)
    log = run(
        requests,
        terms,
        roles=("prefill", "decode", "decode"),
        blocks=(24, 14, 15),
        exact_steps=exact_steps,
        asynchronous=asynchronous,
        max_num_batched_tokens=16,
    )
    assert set(log.requests.status.tolist()) == {1}
    assert log.requests.output_tokens.tolist() == requests.output_tokens.tolist()


@BOTH
def test_layers_leave_while_the_chunk_runs(exact_steps: bool) -> None:
    """4 layers, 4 bytes: 3 of them leave at 0.25 s, the last one at 1 s, when the chunk ends."""
    made = cluster(workload([0.0], [3]), Terms(1.0, layers=4, layerwise=True), exact_steps=exact_steps)
    log = made.run()
    assert made.handover.mover.sent == [(0.25, 3.0), (1.0, 1.0)]
    assert log.requests.finish_s.tolist() == [1.25 + 2]


@BOTH
def test_pulled_kv_waits_in_the_prefill_instance_while_the_decode_side_is_full(exact_steps: bool) -> None:
    """The decode side holds one request; the second one's KV is fetched when the first has finished."""
    requests = workload([0.0, 0.0, 0.0], [4, 4, 4], [8, 8, 8])
    log = run(requests, Terms(1.0), blocks=(4, 3), exact_steps=exact_steps, s_per_byte=0.125)
    # two prompts fill the prefill side; the decode side runs one request a time, 1 s + 3 s each
    assert log.requests.first_token_s.tolist() == [1.0, 1.0, 3.0]
    assert log.requests.finish_s.tolist() == [5.0, 9.0, 13.0]


@BOTH
def test_pushed_requests_do_not_prefill_before_the_decode_side_has_memory(exact_steps: bool) -> None:
    requests = workload([0.0, 0.0], [4, 4], [8, 8])
    log = run(requests, Terms(1.0, push=True), blocks=(100, 3), exact_steps=exact_steps, s_per_byte=0.125)
    assert log.requests.first_token_s.tolist() == [1.0, 6.0]
    assert log.requests.finish_s.tolist() == [5.0, 10.0]
