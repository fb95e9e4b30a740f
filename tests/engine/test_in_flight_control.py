"""Pipelines and instances that speculate under hooks and control: every token is told, nothing is lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest

from engine.in_flight_runs import NO_HOST, StageCost, workload
from tokensim import simulate
from tokensim.cost import OperatorTime
from tokensim.cost.sends import Send
from tokensim.cost.staged import StagedEstimate
from tokensim.engine import Instance, Simulation
from tokensim.engine.hooks import Hook
from tokensim.engine.pipeline import Pipeline
from tokensim.engine.replica import Replica
from tokensim.engine.speculative import SpeculativeInstance
from tokensim.scenario import from_mapping
from tokensim.scheduling.cluster import GlobalScheduler, RoundRobin
from tokensim.scheduling.cluster.base import T
from tokensim.scheduling.local import Limits, Request, Step, Vllm, form_for
from tokensim.scheduling.local.speculation import Sampled, Speculation


class Listener(Hook):
    """Counts what it hears; at ``act_s`` it does ``act``."""

    def __init__(self, act_s: float = -1.0, act: str = "") -> None:
        self.act_s, self.act = act_s, act
        self.tokens: Counter[int] = Counter()
        self.times: dict[int, float] = {}
        self.steps: Counter[str] = Counter()
        self.replicas: list[Replica] = []

    def on_start(self) -> None:
        self.replicas = list(self.control.replicas)
        if self.act:
            self.control.at(self.act_s, getattr(self, self.act))

    def fail(self) -> None:
        self.control.fail(self.replicas[0], "resume")

    def reroute(self) -> None:
        scheduler = self.replicas[0].scheduler
        for request in [*scheduler.running, *scheduler.waiting]:
            self.control.reroute(request, self.replicas[0])

    def drain(self) -> None:
        self.control.remove_replica(self.replicas[0], migrate=True)

    def on_token(self, request: Request, instance: Instance, time_s: float) -> None:
        assert time_s >= self.times.get(request.index, 0.0)
        self.times[request.index] = time_s
        self.tokens[request.index] += 1

    def before_step(self, instance: Instance, step: Step, start_s: float, seconds: float) -> None:
        assert seconds > 0
        self.steps["before"] += 1

    def after_step(self, instance: Instance, step: Step, end_s: float) -> None:
        self.steps["after"] += 1


def build(
    kind: str,
    listener: Listener,
    requests: int,
    asynchronous: bool,
    router: GlobalScheduler | None = None,
) -> Simulation:
    rng = np.random.default_rng(5)
    prompts, outputs = rng.integers(1, 30, requests), rng.integers(1, 40, requests)
    arrivals = np.cumsum(rng.exponential(3.0, requests))
    simulation = Simulation(
        workload(prompts.tolist(), outputs.tolist(), arrivals.tolist()), router or RoundRobin(), [listener]
    )
    drafts = Speculation(3, Sampled((0.6,))) if kind == "speculation" else None
    limits = Limits(
        num_gpu_blocks=60,
        block_size=4,
        max_num_seqs=6,
        max_num_batched_tokens=40,
        async_scheduling=asynchronous,
        pipeline=3 if kind == "pipeline" else 1,
        speculation=drafts,
    )
    for _ in range(2):
        scheduler = form_for(Vllm, limits)(limits)
        options = {
            "max_model_len": 1000,
            "caching": True,
            "asynchronous": asynchronous,
            "pause_before_idle": True,
            "on_finish": simulation.on_finish,
        }
        index, notes = simulation.next_index, simulation.recorder
        if kind == "pipeline":
            costs, sends = [StageCost(0.5, 0.01)] * 3, [Send(0.1, 0.0)] * 2
            simulation.add_instance(
                Pipeline(
                    index,
                    scheduler,
                    costs,
                    sends,
                    NO_HOST,
                    notes,
                    queue_size=3 + asynchronous,
                    queues_on_empty=True,
                    **options,
                )
            )
        else:
            cost = StageCost(1.0, 0.01)
            simulation.add_instance(SpeculativeInstance(index, scheduler, cost, notes, **options))  # type: ignore[arg-type]
    return simulation


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("kind", ["pipeline", "speculation"])
@pytest.mark.parametrize("act", ["", "fail", "reroute", "drain"])
def test_every_token_is_told_once_and_nothing_is_lost(kind: str, act: str, asynchronous: bool) -> None:
    listener = Listener(60.3, act)
    simulation = build(kind, listener, 40, asynchronous)
    log = simulation.run()
    requests = log.requests
    assert (requests.status == 1).all()
    assert requests.output_tokens.tolist() == requests.requested_output_tokens.tolist()
    assert [listener.tokens[i] for i in range(40)] == requests.output_tokens.tolist()
    assert listener.times == pytest.approx(dict(enumerate(requests.finish_s.tolist())))
    assert listener.steps["before"] == listener.steps["after"] > 0
    spent = float((requests.finish_s - requests.first_token_s).sum())
    assert float((log.gap_s * log.gap_weight).sum()) == pytest.approx(spent)
    for rank in simulation.all_ranks():
        assert rank.scheduler.pool.free == rank.scheduler.pool.num_blocks
        rank.scheduler.check_integrity()
    entries = 6 if kind == "pipeline" else 2
    assert len(log.num_blocks) == simulation.next_index == entries


class Doubting(GlobalScheduler):
    """Looks for itself whether what it is told of an instance is so, and takes the emptier one."""

    looked = 0

    def route(self, request: Request, instances: Sequence[T], now: float) -> T:
        for instance in instances:
            scheduler, load = instance.scheduler, instance.load
            there = [*scheduler.running, *scheduler.waiting]
            output = sum(r.length - r.tokens for r in there)
            prompt = sum(max(r.tokens - r.computed, 0) for r in there if not r.decoding)
            assert (load.running, load.waiting) == (len(scheduler.running), len(scheduler.waiting))
            assert load.outstanding_tokens == output + prompt
            assert load.free_blocks == scheduler.pool.free  # type: ignore[attr-defined]
            assert (load.predicted_work_s > 0) == bool(there)
            self.looked += bool(there)
        return min(instances, key=lambda i: i.load.predicted_work_s)


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("kind", ["pipeline", "speculation"])
def test_routers_see_the_load_as_it_is(kind: str, asynchronous: bool) -> None:
    router = Doubting()
    log = build(kind, Listener(), 60, asynchronous, router).run()
    assert (log.requests.status == 1).all()
    assert router.looked > 60
    assert len(set(log.requests.instance.tolist())) == 2


def test_a_lone_step_of_a_pipeline_is_estimated_as_the_sum_of_its_stages() -> None:
    estimate = StagedEstimate([StageCost(1.0, 0.01), StageCost(3.0, 0.02)], [Send(0.5, 0.001)])
    assert estimate.step_time(2, 0.0, 0.0, 0.0, [(10, 0)], 3) == pytest.approx(4.0 + 12 * 0.03 + 0.512)
    assert estimate.decode_run(5, 100.0, 0.0, 0.0, 0.0)[0] == pytest.approx(4.0 + 5 * 0.03 + 0.505)


class Operators(Hook):
    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_operator(self, instance: Instance, step: Step, operator: OperatorTime) -> None:
        self.seconds.append(operator.seconds)


def test_operators_of_all_stages_and_of_the_drafter_are_told() -> None:
    drafts = {"method": "eagle", "num_speculative_tokens": 2, "acceptance": {"rate": 0.5}}
    for parallel, engine in (({"pipeline": 2}, {}), ({}, {"speculative": drafts})):
        tree = {
            "model": "meta-llama/Llama-3.1-8B",
            "cluster": {"pools": [{"hardware": "h100-sxm-80gb", "parallel": parallel}]},
            "engine": engine,
            "performance": {"operators": "roofline"},
            "workload": {
                "arrivals": "all-at-once",
                "input_tokens": 50,
                "output_tokens": 5,
                "num_requests": 3,
            },
        }
        scenario = from_mapping(tree, "test")
        heard = Operators()
        result = simulate(scenario, hooks=[heard])
        assert sum(heard.seconds) == pytest.approx(result.summary.time.step_s)
