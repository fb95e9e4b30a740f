"""What is bound by an ability answers to it in proportion, and to nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from servers import server

from tokensim.errors import InputError
from tokensim.explore.executors import make_executor
from tokensim.explore.sensitivity import Sensitivity, sensitivity
from tokensim.explore.sensitivity_report import WIDTH, bar
from tokensim.scenario import Scenario
from tokensim.scenario.loading import from_mapping

SERIAL = make_executor("serial")


def bound(input_tokens: int, output_tokens: int, **keys: Any) -> Scenario:
    """Eight users on a roofline without launches."""
    device = {"base": "h100-sxm-80gb", "efficiency": {"kernel_overhead": 0}}
    return from_mapping(
        {
            "model": "meta-llama/Llama-3.1-8B",
            "cluster": {"pools": [{"name": "serve", "hardware": device}]},
            "engine": {"enable_prefix_caching": False},
            "performance": {"operators": "roofline"},
            "workload": {
                "arrivals": {"process": "closed-loop", "concurrency": 8},
                "input_tokens": input_tokens,
                "output_tokens": output_tokens,
                "num_requests": 24,
            },
            **keys,
        }
    )


def find(scenario: Scenario, **keys: Any) -> Sensitivity:
    return sensitivity(scenario, **{"seeds": 1, "executor": SERIAL, **keys})


def value(found: Sensitivity, ability: str, figure: str) -> float:
    """0 where the ability has no effect at all."""
    one = found.table.get(ability, {}).get(figure)
    return 0.0 if one is None else one.value


def test_decoding_answers_to_bandwidth_and_to_nothing_else() -> None:
    found = find(bound(16, 300))
    assert value(found, "bandwidth", "TPOT p50") == pytest.approx(-1, abs=0.02)
    assert value(found, "bandwidth", "output tokens/s") == pytest.approx(1, abs=0.02)
    assert value(found, "compute", "TPOT p50") == pytest.approx(0, abs=0.02)
    assert {"intra_node", "inter_node", "host_link", "memory"} <= set(found.without_effect)
    assert found.main == "output tokens/s"
    assert "memory bandwidth (+1" in found.sentence


def test_prefill_answers_to_compute() -> None:
    found = find(bound(4000, 1))
    compute, bandwidth = (value(found, name, "output tokens/s") for name in ("compute", "bandwidth"))
    assert compute > 0.88
    assert bandwidth < 0.12  # norms and activations
    assert compute + bandwidth == pytest.approx(1, abs=0.01)
    assert next(iter(found.table)) == "compute"


def test_elasticities_of_all_abilities_of_a_device_without_overhead_sum_to_one() -> None:
    """Twice everything is twice as fast: the time of a step is homogeneous in the rates (Euler)."""
    found = find(bound(900, 60), change=0.01)
    total = sum(value(found, ability, "output tokens/s") for ability in found.table)
    assert total == pytest.approx(1, abs=0.02)


def test_a_host_that_does_it_all_is_the_bottleneck_at_capacity_too() -> None:
    scenario = server({"process": "constant", "rate": 10}, 800, slo={"ttft": 0.015})
    found = find(scenario, at="capacity", seeds=2)
    assert value(found, "host", "capacity") == pytest.approx(1, abs=0.1)
    assert set(found.table) == {"host"}
    assert "host speed" in found.sentence
    assert found.baseline["capacity"] == pytest.approx(100, rel=0.02)


def test_memory_binds_where_blocks_run_out() -> None:
    scenario = bound(2000, 200, engine={"gpu_memory_utilization": 0.24, "enable_prefix_caching": False})
    assert value(find(scenario), "memory", "output tokens/s") > 0.1
    blocks = bound(2000, 200, engine={"num_gpu_blocks": 600, "enable_prefix_caching": False})
    found = find(blocks)
    assert "memory" in found.without_effect
    assert "num_gpu_blocks" in found.notes[0]


def test_a_pool_may_be_asked_about_alone() -> None:
    tree = bound(16, 50).model_dump(mode="json")
    first = tree["cluster"]["pools"][0]
    tree["cluster"]["pools"] = [first, {**first, "name": "other"}]
    both, one = (find(from_mapping(tree), pool=pool) for pool in (None, "other"))
    assert value(one, "bandwidth", "output tokens/s") < 0.7 * value(both, "bandwidth", "output tokens/s")


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"change": 0.0}, "--change"),
        ({"seeds": 0}, "--seeds"),
        ({"pool": "serv"}, "serve"),
        ({"at": "night"}, "--at"),
        ({"at": "capacity"}, "no SLO"),
        ({"confidence": 1.0}, "--confidence"),
    ],
)
def test_what_cannot_be_asked_is_refused(keys: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        find(bound(16, 4), **keys)


def test_bars_are_as_long_as_their_values() -> None:
    assert bar(1, 1) == "█" * WIDTH
    assert bar(0.5, 1) == "█" * (WIDTH // 2)
    assert bar(0, 1) == "" == bar(0, 0)
