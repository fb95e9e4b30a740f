"""Every local scheduler from a scenario: it runs, can be repeated from what it leaves, and says what it
refuses."""

from __future__ import annotations

from typing import Any

import pytest

from tokensim import Scenario, simulate
from tokensim.errors import InputError
from tokensim.registry import register
from tokensim.scenario import dump_scenario
from tokensim.scenario.yaml_text import parse

POLICIES = ("static", "orca", "vllm-v0", "sarathi", "trtllm", "sjf", "priority", "edf", "fair")


def scenario(engine: dict[str, Any], **more: Any) -> Scenario:
    """60 requests in three seconds on an L4 with little memory for its KV cache."""
    return Scenario.model_validate(
        {
            "model": "meta-llama/Llama-3.2-1B",
            "cluster": {"pools": [{"hardware": "l4"}]},
            "engine": {"num_gpu_blocks": 160, "max_model_len": 512, **engine},
            "workload": {
                "arrivals": {"process": "poisson", "rate": 20},
                "input_tokens": {"distribution": "uniform", "min": 20, "max": 200},
                "output_tokens": {"distribution": "uniform", "min": 5, "max": 150},
                "num_requests": 60,
            },
            **more,
        }
    )


@pytest.mark.parametrize("policy", POLICIES)
def test_it_runs_and_can_be_repeated_exactly_from_what_it_leaves(policy: str) -> None:
    assert policy in register.local_scheduler.names()
    result = simulate(scenario({"policy": policy}))
    assert result.summary.requests.finished == 60
    left, _ = parse(dump_scenario(result.scenario), "scenario.yaml")
    again = simulate(Scenario.model_validate(left))
    assert again.requests.equals(result.requests)
    stepped = simulate(scenario({"policy": policy}), exact_steps=True)
    assert stepped.requests["finish_s"].to_list() == pytest.approx(result.requests["finish_s"].to_list())


def test_swapping_and_recomputing_differ() -> None:
    swap = simulate(scenario({"policy": "vllm-v0", "preemption": "swap"}))
    recompute = simulate(scenario({"policy": "vllm-v0"}))
    pool = swap.scenario.cluster.pools[0].engine
    assert (pool["swap_space"], pool["async_scheduling"], pool["max_num_seqs"]) == (4 * 2**30, False, 256)
    assert swap.log.requests.preemptions.sum() > 0
    assert swap.log.requests.recomputed_tokens.sum() == 0
    assert recompute.log.requests.recomputed_tokens.sum() > 0


def refusal(engine: dict[str, Any]) -> str:
    with pytest.raises(InputError) as error:
        simulate(scenario(engine))
    return str(error.value)


@pytest.mark.parametrize(
    ("engine", "said"),
    [
        (
            {"policy": "sarathy"},
            "engine.policy: unknown local scheduler 'sarathy'\n  did you mean 'sarathi'",
        ),
        (
            {"policy": "orca", "enable_prefix_caching": True},
            "engine.enable_prefix_caching: the policy 'orca' knows no enable_prefix_caching other than"
            " false\n  leave it out, or choose another engine.policy",
        ),
        (
            {"preemption": "swap"},
            "engine.preemption: the policy 'vllm' recomputes what it preempts, and cannot swap it to host"
            " memory\n  use preemption: recompute; these policies can swap: vllm-v0",
        ),
        (
            {"policy": "vllm-v0", "preemption": "swap", "enable_prefix_caching": True},
            "engine.enable_prefix_caching: swapped blocks are not kept in the prefix cache",
        ),
        (
            {"policy": "orca", "policy_options": {"reserved": "max"}},
            "engine.policy_options: the policy 'orca' has no option 'reserved'\n  did you mean 'reserve'?",
        ),
        (
            {"policy": "static", "policy_options": {"padding": True}},
            "engine.policy_options: the policy 'static' has no option 'padding'\n  it takes no options",
        ),
        (
            {"policy": "trtllm", "policy_options": {"capacity": "static"}},
            "engine.policy_options.capacity: unknown capacity scheduler 'static'",
        ),
        (
            {"policy": "sjf", "policy_options": {"lengths": "predicted"}},
            "engine.policy_options: the policy goes by predicted lengths, and 60 of 60 requests have none",
        ),
    ],
)
def test_what_a_policy_does_not_know_is_refused(engine: dict[str, Any], said: str) -> None:
    assert refusal(engine).startswith(said)


def test_what_a_policy_settles_may_be_said_too() -> None:
    engine = {"policy": "orca", "enable_prefix_caching": False, "scheduling_policy": "fcfs"}
    assert simulate(scenario(engine)).summary.requests.finished == 60
