"""How hard a device works: against the work of the operators, counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from tokensim.cost.base import StepColumns
from tokensim.model import load_model
from tokensim.plan import PoolPlan, plan_pool
from tokensim.scenario import Scenario

MODEL = "meta-llama/Llama-3.1-8B"


def plan(
    device: str = "h100-sxm-80gb", operators: str = "roofline", eager: bool = True, **pool: object
) -> PoolPlan:
    tree = {
        "model": MODEL,
        "cluster": {"pools": [{"hardware": device, **pool}]},
        "engine": {"enforce_eager": eager},
        "performance": {"operators": operators},
        "workload": {
            "arrivals": {"process": "poisson", "rate": 1},
            "input_tokens": {"distribution": "fixed", "value": 10},
            "output_tokens": {"distribution": "fixed", "value": 10},
            "num_requests": 1,
        },
    }
    return plan_pool(Scenario.model_validate(tree), 0, load_model(MODEL))


def columns(
    decode: int = 0, context: float = 0.0, steps: int = 1, chunks: tuple[tuple[int, int], ...] = ()
) -> StepColumns:
    zero = np.zeros(1)
    return StepColumns(
        steps=np.array([steps]),
        decode=np.array([decode]),
        context=zero + context,
        window_context=zero,
        window_growth=zero,
        longest=zero,
        clock_share=zero,
        seconds=zero + 1.0,
        samples=np.array([decode + len(chunks)]),
        chunk_row=np.zeros(len(chunks), dtype=np.int64),
        chunk_tokens=np.array([c[0] for c in chunks], dtype=np.int64),
        chunk_context=np.array([c[1] for c in chunks], dtype=np.int64),
    )


def test_arithmetic_is_two_flops_a_weight_and_token() -> None:
    cost = plan().cost
    work = cost.activity(columns(chunks=((1024, 0),)))
    # 6.98e9 weights in layers, 32 heads of 128: 4 · 4096 FLOPs a pair and layer; one row of logits.
    layers = 6_979_321_856
    pairs = 32 * 4 * 4096 * (1024 * 1025 / 2)
    flops = 2 * layers * 1024 + pairs + 2 * 4096 * 128_256
    assert work.compute_s[0] == pytest.approx(flops / 989.4e12, rel=1e-3)
    assert work.prefill_share[0] == 1.0
    assert work.network_s[0] == 0.0


def test_a_decode_reads_the_weights_and_the_cache() -> None:
    work = plan().cost.activity(columns(decode=2, context=4000.0, steps=3))
    weights = 2 * (6_979_321_856 + 4096 * 128_256)
    cache = 131_072 * 4000
    assert work.memory_s[0] == pytest.approx(3 * (weights + cache) / 3.35e12, rel=0.01)
    assert work.prefill_share[0] == 0.0


def test_a_mixed_step_is_shared_by_work() -> None:
    cost = plan().cost
    mixed = cost.activity(columns(decode=100, context=100.0, chunks=((300, 0),)))
    assert 0.7 < mixed.prefill_share[0] < 0.8, "three quarters of the tokens, a little more of the attention"
    long = cost.activity(columns(decode=100, context=4e6, chunks=((300, 0),)))
    assert long.prefill_share[0] < 0.25, "the decodes read four million tokens"


def test_ranks_exchange() -> None:
    step = columns(chunks=((1024, 0),))
    alone, together = plan().cost.activity(step), plan(parallel={"tensor": 2}).cost.activity(step)
    assert together.network_s[0] > 0
    assert together.compute_s[0] == pytest.approx(alone.compute_s[0] / 2, rel=1e-6)


@pytest.mark.parametrize(
    ("device", "decode", "published_w", "above"),
    [
        ("h100-sxm-80gb", 1, 300, 0.03),
        ("h100-sxm-80gb", 128, 600, -0.21),
        ("h200-sxm-141gb", 128, 517, -0.05),
        ("b200-sxm-180gb", 1, 452, -0.06),
        ("b200-sxm-180gb", 128, 606, 0.04),
    ],
)
def test_power_is_as_far_from_published_figures_as_is_stated(
    device: str, decode: int, published_w: float, above: float
) -> None:
    """The points that ``hardware.draw`` and the documentation name, at a context of 1,000 tokens."""
    made = plan(device, "builtin", eager=False)
    seconds, _, _ = made.cost.decode_run(decode, 1000.0 * decode, 0, 0, 1000)
    work, draw = made.cost.activity(columns(decode, 1000.0 * decode)), made.device.draw
    activity = draw.busy + (draw.compute * work.compute_s[0] + draw.memory * work.memory_s[0]) / seconds
    watts = made.device.idle_w + (made.device.tdp_w - made.device.idle_w) * min(1.0, activity)
    assert watts / published_w - 1 == pytest.approx(above, abs=0.01)


def test_a_prefill_runs_at_the_power_limit() -> None:
    made = plan("h100-sxm-80gb", "builtin")
    chunks = ((4096, 0),)
    seconds = made.cost.step_time(0, 0, 0, 0, chunks, 1)
    work, draw = made.cost.activity(columns(chunks=chunks)), made.device.draw
    assert draw.busy + (draw.compute * work.compute_s[0] + draw.memory * work.memory_s[0]) / seconds > 1.0
