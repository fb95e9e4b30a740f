"""Runs with LoRA adapters: times worked out by hand, and step runs against single steps."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from axis import ConstantCost, workload
from hypothesis import given, settings
from hypothesis import strategies as st
from random_engines import LineCost, draw_limits, draw_workload
from same_story import single_steps

from tokensim import Scenario, simulate
from tokensim.assemble.run import check_adapters
from tokensim.engine import Instance, Simulation
from tokensim.engine.requests import Requests
from tokensim.engine.topology import reached_bytes_per_s
from tokensim.errors import InputError, SimulationError
from tokensim.metrics.log import RunLog
from tokensim.model import load_model
from tokensim.plan import PoolPlan, plan_pool
from tokensim.scheduling.cluster import LoraAffinity, RoundRobin
from tokensim.scheduling.local import Limits, Vllm
from tokensim.scheduling.local.adapters import Adapters
from tokensim.scheduling.local.versions import rules_of
from tokensim.workload import Segments, Workload

BOTH = pytest.mark.parametrize("exact_steps", [True, False], ids=["walked", "runs"])


class AdaptedCost(LineCost):
    """Adapters add something by rows and by their number."""

    def adapters_time(self, tokens: int, adapters: int) -> float:
        return self.base * (tokens / 128 + adapters / 8)


class SecondCost(ConstantCost):
    """A step lasts a second, and a quarter more for each adapter."""

    def adapters_time(self, tokens: int, adapters: int) -> float:
        return adapters / 4


def run(
    requests: Workload,
    adapters: tuple[int, int, float, float],
    *,
    instances: int = 1,
    cost: Any = None,
    exact_steps: bool = False,
    limits: Limits | None = None,
    version: str = "0.33.0",
    router: Any = RoundRobin,
) -> RunLog:
    made = Simulation(requests, router())
    bounds = limits or Limits(num_gpu_blocks=200, block_size=4, async_scheduling=False)
    for index in range(instances):
        scheduler = Vllm(bounds, version, exact_steps=exact_steps)
        scheduler.adapters = Adapters(*adapters)
        made.add_instance(
            Instance(
                index,
                scheduler,
                cost or SecondCost(),
                made.recorder,
                max_model_len=bounds.max_model_len,
                caching=bounds.enable_prefix_caching,
                asynchronous=bounds.async_scheduling,
                pause_before_idle=rules_of(version).pause_before_idle,
                on_finish=made.on_finish,
            )
        )
    log = made.run()
    for instance in made.instances:
        instance.scheduler.check_integrity()
        assert instance.scheduler.pool.free == instance.scheduler.pool.num_blocks
        assert not instance.scheduler.adapters.active
    return log


def asked(*requests: tuple[float, int, int, int]) -> Workload:
    """(arrival, prompt, output, adapter) of each request."""
    arrival, prompt, output, adapter = (np.array(column) for column in zip(*requests, strict=True))
    return Workload(arrival.astype(float), prompt, output, adapter=adapter)


@BOTH
def test_steps_wait_for_swaps_and_take_longer_with_adapters(exact_steps: bool) -> None:
    # One slot. Request 0: read and copied (2 s), then three steps of 1.25 s. Request 1 waits for the slot
    # until 5.75 s: 2 s again. Request 2 runs on the base model: its second step has no adapter in it.
    log = run(asked((0, 8, 3, 0), (1, 8, 1, 1), (9, 8, 2, -1)), (1, 2, 0.5, 1.5), exact_steps=exact_steps)
    assert log.requests.first_token_s == pytest.approx([3.25, 5.75 + 3.25, 10.0])
    assert log.requests.finish_s == pytest.approx([5.75, 9.0, 11.0])
    assert log.steps.what.adapters is not None and log.steps.what.copies_s is not None
    assert log.steps.what.adapters.tolist()[-2:] == [0, 0]
    assert log.steps.what.copies_s.sum() == pytest.approx(4.0)


@BOTH
def test_who_may_run_overtakes_who_waits_for_a_slot(exact_steps: bool) -> None:
    log = run(asked((0, 8, 20, 0), (1, 8, 2, 1), (5, 8, 2, 0)), (1, 2, 0.0, 0.0), exact_steps=exact_steps)
    assert log.requests.scheduled_s[2] < log.requests.finish_s[0] <= log.requests.scheduled_s[1]


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**48))
def test_step_runs_equal_single_steps_with_adapters(seed: int) -> None:
    def story(exact_steps: bool) -> RunLog | str:
        rng = random.Random(seed)
        version = rng.choice(["0.33.0", "0.23.0"])
        limits = draw_limits(rng, version)
        cost = AdaptedCost(
            rng.uniform(0.5, 2), rng.uniform(0, 0.01), 0.0, rng.choice([np.inf, 200.0]), limits.window, 0.0
        )
        drawn = draw_workload(rng, limits, cost.base)
        kinds = rng.randrange(1, 6)
        adapter = np.array([rng.randrange(-1, kinds) for _ in range(len(drawn))])
        columns = {name: getattr(drawn, name) for name in Workload.__slots__}
        requests = Workload(**{**columns, "adapter": adapter})
        slots = rng.randrange(1, 4)
        swaps = (slots, slots + rng.randrange(3), rng.random(), rng.choice([0.0, 3.0]))
        try:
            return run(
                requests, swaps, cost=cost, exact_steps=exact_steps, limits=limits, version=version,
                router=rng.choice([RoundRobin, LoraAffinity]), instances=rng.choice([1, 2]),
            )  # fmt: skip
        except SimulationError as error:
            return str(error)

    runs, steps = story(False), story(True)
    if isinstance(runs, str) or isinstance(steps, str):
        assert runs == steps
        return
    for one, other in zip(single_steps(runs), single_steps(steps), strict=True):
        assert one[0] == other[0]
        assert one[1] == pytest.approx(other[1], rel=1e-9)
    for name in ("scheduled_s", "first_token_s", "finish_s"):
        np.testing.assert_allclose(getattr(runs.requests, name), getattr(steps.requests, name), rtol=1e-9)
    left, right = runs.steps.what, steps.steps.what
    assert left.adapters is not None and right.adapters is not None
    assert (left.adapters * left.steps).sum() == right.adapters.sum()
    assert (runs.requests.finish_s > 0).all()


def test_affinity_keeps_adapters_where_they_are() -> None:
    asks = [(float(2 * i), 8, 2, i % 4) for i in range(40)]
    swaps = (2, 9, 0.5, 0.0)
    near = run(asked(*asks), swaps, instances=2, router=LoraAffinity)
    turns = run(asked(*[(t, p, o, (a * 3 + int(t) // 8) % 4) for t, p, o, a in asks]), swaps, instances=2)
    copied = [log.steps.what.copies_s.sum() for log in (near, turns)]  # type: ignore[union-attr]
    assert copied[0] == pytest.approx(4 * 0.5), "each adapter comes once"
    assert copied[1] > 4 * 0.5


def test_affinity_gives_way_to_a_long_queue() -> None:
    log = run(asked(*[(0.0, 8, 40, 0)] * 30), (1, 1, 0.1, 0.0), instances=2, router=LoraAffinity)
    # All at once, before anything is on a device: the least busy in turn.
    assert np.bincount(log.requests.instance).tolist() == [15, 15]
    late = run(
        asked(*[(float(i), 8, 400, 0) for i in range(30)]), (1, 1, 0.1, 0.0), instances=2, router=LoraAffinity
    )
    # Nine go to the first, which has the adapter; then the second gets it too.
    assert late.requests.instance[:11].tolist() == [0] * 9 + [1, 1]


def test_adapters_do_not_share_prefixes() -> None:
    segments = Segments(np.array([0, 1, 2, 3]), np.array([5, 5, 5]), np.array([32, 32, 32]))
    requests = Workload(
        np.array([0.0, 50.0, 100.0]),
        np.full(3, 32),
        np.full(3, 2),
        segments=segments,
        adapter=np.array([0, 1, 0]),
    )
    log = run(requests, (4, 4, 0.0, 0.0))
    assert log.requests.cached_tokens.tolist() == [0, 0, 28]
    made = Requests(requests)
    first, second = made.make(0, 0.0), made.make(1, 0.0)
    made.identify(first)
    made.identify(second)
    assert first.content is not None and second.content is not None


MODEL = "meta-llama/Llama-3.1-8B"


def scenario(lora: object, model: str = MODEL, **pool: Any) -> Scenario:
    tree = {
        "model": model,
        "cluster": {"pools": [{"hardware": "h100-sxm-80gb", **pool}]},
        "engine": {"lora": lora},
        "performance": {"operators": "roofline"},
        "workload": {
            "arrivals": {"process": "poisson", "rate": 1},
            "input_tokens": {"distribution": "fixed", "value": 100},
            "output_tokens": {"distribution": "fixed", "value": 20},
            "num_requests": 4,
        },
    }
    return Scenario.model_validate(tree)


def plan(lora: object, model: str = MODEL, **pool: Any) -> PoolPlan:
    return plan_pool(scenario(lora, model, **pool), 0, load_model(model))


def test_slots_take_memory_and_adapters_take_time() -> None:
    # Llama-3.1-8B: hidden 4096, 1024 for keys and for values, 14336 in the FFN, 32 layers; rank 16, 2 bytes.
    qkv, o = 3 * 4096 + 4096 + 2 * 1024, 4096 + 4096
    gate_up, down = 2 * 4096 + 2 * 14336, 14336 + 4096
    one = 32 * 16 * 2 * (qkv + o + gate_up + down)
    none, four = plan(None), plan({"max_loras": 4, "host_bandwidth": "20 GB/s", "disk_bandwidth": 2e9})
    assert four.adapters is not None
    assert four.adapters.slot_bytes == 4 * one
    assert four.adapters.copy_s == pytest.approx(one / 20e9)
    assert four.adapters.read_s == pytest.approx(one / 2e9)
    block = 16 * 2 * 1024 * 2 * 32
    lost = none.limits.num_gpu_blocks - four.limits.num_gpu_blocks
    assert lost == pytest.approx(4 * one / block, abs=1)
    small = plan({"max_lora_rank": 64, "rank": 16, "target_modules": ["o_proj"]}).adapters
    assert small is not None
    host = reached_bytes_per_s(none.device, "host")
    assert (small.slot_bytes, small.copy_s) == (32 * 64 * 2 * o, pytest.approx(32 * 16 * 2 * o / host))


def test_kernels_of_adapters_take_overhead_weights_and_rows() -> None:
    made = plan({"max_loras": 4, "target_modules": ["o_proj"]})
    cost, eff = made.cost.adapters, made.device.efficiency
    assert cost is not None
    bandwidth = made.device.memory_bandwidth_bytes_per_s * eff.memory
    shrink, expand = 3 * 16 * 4096 * 2 + 8 * 4096 * 2 + 8 * 64, 3 * 16 * 4096 * 2 + 16 * 4096 * 2 + 8 * 64
    assert cost.seconds(8, 3) == pytest.approx(
        32 * ((shrink + expand) / bandwidth + 2 * eff.kernel_overhead_s)
    )
    assert cost.work(8, 3) == pytest.approx((32 * 4 * 8 * 16 * 4096, 32 * (shrink + expand)))
    sliced = plan({"target_modules": ["o_proj"]}, parallel={"tensor": 2}).adapters
    assert sliced is not None
    assert sliced.slot_bytes == 32 * 16 * 2 * (2048 + 4096), "a part of A, all of B"


def test_a_run_says_what_adapters_took() -> None:
    # The section of workloads that names adapters is not needed: without any, there are only the slots.
    summary = simulate(scenario({"max_loras": 2})).summary
    assert not any(o.operator in ("adapters", "wait_for_copies") for o in summary.time.operators)
    cost = plan({"max_loras": 2}).cost
    assert cost.adapters is not None
    log = run(asked((0, 100, 20, 0), (0, 100, 20, 1)), (2, 2, 0.5, 0.0), cost=cost)
    from tokensim.metrics.attribution import time_shares

    shares = time_shares(log.steps, [cost])
    times = {o.operator: o.seconds for o in shares.operators}
    assert times["wait_for_copies"] == pytest.approx(1.0)
    steps = log.steps.what
    assert times["adapters"] == pytest.approx(
        cost.adapters.seconds(200, 2) + 19 * cost.adapters.seconds(2, 2)
    )
    assert shares.step_s == pytest.approx(float(steps.seconds.sum()))
    assert times["host"] < 0.1


def refusal(lora: object, **options: Any) -> str:
    with pytest.raises((InputError, ValueError)) as error:
        plan(lora, **options)
    return str(error.value)


def test_what_cannot_be_is_refused() -> None:
    assert "max_cpu_loras (1) is less than max_loras (2)" in refusal({"max_loras": 2, "max_cpu_loras": 1})
    assert "rank 32 do not fit into slots of rank 16" in refusal({"rank": 32})
    assert "no module 'o_prj'\n  did you mean 'o_proj'" in refusal({"target_modules": ["o_prj"]})
    ranks = {"data": 4, "expert": 4}
    assert "share experts" in refusal({}, model="Qwen/Qwen3-30B-A3B", parallel=ranks)
    requests = asked((0, 8, 3, 0))
    with pytest.raises(InputError, match="pool 'serve' serves none"):
        check_adapters(requests, [plan(None)])
    check_adapters(requests, [plan({})])
    check_adapters(workload([0.0], [3]), [plan(None)])
