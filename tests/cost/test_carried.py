"""A pool's ``scale``: what is bound by an ability gains from it, and nothing else does."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokensim.assemble import simulate
from tokensim.hardware import load_device
from tokensim.hardware.scale import with_scale
from tokensim.model import load_model
from tokensim.plan import PoolPlan, plan_pool
from tokensim.report.header import header_of
from tokensim.scenario import from_mapping
from tokensim.scenario.scale import Scale

MODEL = load_model("meta-llama/Llama-3.1-8B")


def tree(operators: str = "roofline", tensor: int = 1, scale: dict[str, float] | None = None) -> Any:
    pool: dict[str, Any] = {"hardware": "h100-sxm-80gb", "parallel": {"tensor": tensor}}
    if scale is not None:
        pool["scale"] = scale
    arrivals = {"process": "poisson", "rate": 10}
    return {
        "model": "meta-llama/Llama-3.1-8B",
        "cluster": {"pools": [pool]},
        "performance": {"operators": operators},
        "workload": {"arrivals": arrivals, "input_tokens": 200, "output_tokens": 20, "num_requests": 40},
    }


def plan(*args: Any, **keys: Any) -> PoolPlan:
    return plan_pool(from_mapping(tree(*args, **keys)), 0, MODEL)


def decode_s(made: PoolPlan, requests: int = 32, context: int = 1000) -> float:
    return made.cost.decode_run(requests, float(requests * context), 0, 0, context)[0]


def prefill_s(made: PoolPlan) -> float:
    return made.cost.step_time(0, 0, 0, 0, [(4096, 0)], 1)


@pytest.mark.parametrize("operators", ["roofline", "builtin"])
def test_a_decode_gains_from_bandwidth_and_a_prefill_from_compute(operators: str) -> None:
    plain = plan(operators)
    faster, wider = plan(operators, scale={"compute": 2}), plan(operators, scale={"bandwidth": 2})
    assert decode_s(faster) == pytest.approx(decode_s(plain), rel=0.01)
    assert decode_s(wider) < 0.62 * decode_s(plain)
    assert prefill_s(faster) < 0.65 * prefill_s(plain)
    assert prefill_s(wider) > 0.94 * prefill_s(plain)


def test_the_roofline_of_a_scaled_device_is_the_roofline_of_a_device_with_those_figures() -> None:
    scaled = plan(scale={"compute": 1.7, "bandwidth": 0.6})
    device = load_device("h100-sxm-80gb")
    inline = {
        "base": "h100-sxm-80gb",
        "flops": {dtype: rate * 1.7 for dtype, rate in device.flops.items()},
        "memory_bandwidth": device.memory_bandwidth_bytes_per_s * 0.6,
    }
    data = tree()
    data["cluster"]["pools"][0]["hardware"] = inline
    other = plan_pool(from_mapping(data), 0, MODEL)
    assert decode_s(scaled) == pytest.approx(decode_s(other), rel=1e-9)
    assert prefill_s(scaled) == pytest.approx(prefill_s(other), rel=1e-9)


def test_measured_times_gain_by_what_binds_them() -> None:
    pytest.importorskip("aiconfigurator_core", reason="the measured tables are not installed")
    plain, wider = plan("aiconfigurator"), plan("aiconfigurator", scale={"bandwidth": 1.1})
    assert 0.9 < decode_s(wider) / decode_s(plain) < 0.95
    assert 0.98 < prefill_s(wider) / prefill_s(plain) < 1
    links = plan("aiconfigurator", 2, {"intra_node": 2})
    assert 0.9 < prefill_s(links) / prefill_s(plan("aiconfigurator", 2)) < 0.95


def test_memory_changes_the_blocks_and_no_default_of_the_engine() -> None:
    plain, half = plan(), plan(scale={"memory": 0.5})
    assert half.engine.num_gpu_blocks < 0.4 * plain.engine.num_gpu_blocks  # type: ignore[operator]
    assert half.engine.max_num_batched_tokens == plain.engine.max_num_batched_tokens
    assert decode_s(half) == decode_s(plain)


def test_a_faster_host_shortens_what_nothing_hides() -> None:
    data = tree()
    data["engine"] = {"async_scheduling": False}
    data["performance"]["host"] = {"step": "2ms", "request": 0, "gap": 0}
    plain = decode_s(plan_pool(from_mapping(data), 0, MODEL))
    data["cluster"]["pools"][0]["scale"] = {"host": 2}
    assert plain - decode_s(plan_pool(from_mapping(data), 0, MODEL)) == pytest.approx(1e-3)


def test_the_report_says_what_was_scaled() -> None:
    lines = dict(header_of(from_mapping(tree(scale={"memory": 0.5, "compute": 2}))).lines)
    assert lines["cluster"] == "h100-sxm-80gb (compute × 2, memory × 0.5)"


def test_factors_of_one_change_nothing() -> None:
    device = load_device("h100-sxm-80gb")
    assert with_scale(device, Scale()) is device
    assert simulate(from_mapping(tree(scale={}))).summary == simulate(from_mapping(tree())).summary


@settings(deadline=None, max_examples=8)
@given(
    st.fixed_dictionaries(
        {name: st.floats(0.3, 3) for name in ("compute", "bandwidth", "memory", "host", "intra_node")}
    )
)
def test_step_runs_equal_single_steps_on_any_scaled_device(scale: dict[str, float]) -> None:
    scenario = from_mapping(tree("builtin", 1, scale))
    runs, steps = (simulate(scenario, exact_steps=exact).log.requests for exact in (False, True))
    assert runs.finish_s == pytest.approx(steps.finish_s, rel=1e-9)
