"""Whole scenarios with prefill and decode apart under other policies than vLLM's, and what is refused."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tokensim import simulate
from tokensim.assemble import Result
from tokensim.engine import Instance
from tokensim.engine.hooks import Hook
from tokensim.errors import InputError
from tokensim.scenario import from_mapping, load_scenario
from tokensim.scheduling.local import Request

EXAMPLE = Path(__file__).parents[2] / "examples" / "disaggregated.yaml"


def run(pools: list[dict[str, Any]], *, exact_steps: bool = False, **more: Any) -> Result:
    cluster = {
        "pools": [{"hardware": "h100-sxm-80gb", **pool} for pool in pools],
        **{key: more.pop(key) for key in ("decode_router", "network") if key in more},
    }
    scenario = {
        "model": "meta-llama/Llama-3.1-8B",
        "cluster": cluster,
        "performance": {"operators": "roofline"},
        "workload": {
            "arrivals": {"process": "poisson", "rate": 20},
            "input_tokens": {"distribution": "lognormal", "mean": 500, "cv": 1.0, "max": 4000},
            "output_tokens": {"distribution": "exponential", "mean": 60, "max": 400},
            "num_requests": 150,
        },
        **more,
    }
    return simulate(from_mapping(scenario), exact_steps=exact_steps)


APART = [{"name": "prefill", "role": "prefill"}, {"name": "decode", "role": "decode", "replicas": 2}]


@pytest.mark.parametrize("policy", ["sglang", "vllm-v0", "orca", "sarathi", "trtllm"])
def test_every_engine_serves_with_prefill_and_decode_apart(policy: str) -> None:
    runs, steps = (run(APART, engine={"policy": policy}, exact_steps=exact) for exact in (False, True))
    assert runs.summary.requests.finished == 150
    one, other = runs.requests, steps.requests
    several = one.filter(one["output_tokens"] > 1)
    assert set(several["instance"].to_list()) == {1, 2}
    assert set(several["prefill_instance"].to_list()) == {0}
    assert (several["kv_arrived_s"] > several["first_token_s"]).all()
    for name in ("first_token_s", "finish_s"):
        np.testing.assert_allclose(one[name].to_numpy(), other[name].to_numpy(), rtol=1e-9)


def test_apart_nobody_who_decodes_waits_for_a_prompt() -> None:
    """Where SGLang serves both stages, prompts interrupt the decodes; on a decode instance nothing does."""
    requests = {
        "arrivals": {"process": "poisson", "rate": 15},
        "input_tokens": 2000,
        "output_tokens": 300,
        "num_requests": 120,
    }
    together = run([{"name": "serve", "replicas": 3}], engine={"policy": "sglang"}, workload=requests)
    apart = run(APART, engine={"policy": "sglang"}, workload=requests)
    assert apart.summary.latency.itl_s.p99 < together.summary.latency.itl_s.p99


def test_an_engine_does_not_take_the_kv_of_another() -> None:
    pools = [{**APART[0], "engine": {"policy": "sglang"}}, APART[1]]
    with pytest.raises(InputError, match=r"as different engines do \('prefill' SGLang's, 'decode' vLLM's\)"):
        run(pools)


def test_policies_of_one_engine_exchange_kv() -> None:
    pools = [{**APART[0], "engine": {"policy": "vllm-v0"}}, {**APART[1], "engine": {"policy": "orca"}}]
    assert run(pools).summary.requests.finished == 150


def test_a_static_batch_serves_no_stage_alone() -> None:
    with pytest.raises(InputError, match="'static' cannot serve one stage alone"):
        run(APART, engine={"policy": "static"})


def test_memory_tiers_are_vllms() -> None:
    tiers = {"tiers": [{"kind": "host", "capacity": "10GiB"}]}
    with pytest.raises(InputError, match="'sglang' cannot load KV from memory tiers"):
        run([{"name": "serve"}], engine={"policy": "sglang"}, memory=tiers)


@pytest.mark.parametrize(("router", "taken"), [("least-requests", {0, 2}), ("pd-pair", {2})])
def test_pd_pair_keeps_kv_in_the_node(router: str, taken: set[int]) -> None:
    """Four devices each: the second decode pool shares a node with the prefill pool, the first does not."""
    four = {"parallel": {"tensor": 4}}
    pools = [
        {"name": "far", "role": "decode", "parallel": {"tensor": 8}},
        {"name": "prefill", "role": "prefill", **four},
        {"name": "near", "role": "decode", **four},
    ]
    result = run(
        pools,
        decode_router=router,
        workload={
            "arrivals": {"process": "poisson", "rate": 4},
            "input_tokens": 500,
            "output_tokens": 20,
            "num_requests": 60,
        },
    )
    assert set(result.requests["instance"].to_list()) == taken


def test_a_sglang_decode_instance_has_no_radix_cache_unless_it_is_asked_for() -> None:
    result = run(APART, engine={"policy": "sglang"})
    prefill, decode = result.scenario.cluster.pools
    assert decode.engine["enable_prefix_caching"] is False
    assert "enable_prefix_caching" not in prefill.engine
    assert simulate(result.scenario).requests.equals(result.requests)
    asked = run(APART, engine={"policy": "sglang", "enable_prefix_caching": True})
    assert "enable_prefix_caching" not in asked.scenario.cluster.pools[1].engine


class Heard(Hook):
    """Counts the tokens of each request."""

    def __init__(self) -> None:
        self.tokens = Counter[int]()

    def on_token(self, request: Request, instance: Instance, time_s: float) -> None:
        self.tokens[request.index] += 1


@pytest.mark.parametrize("first_token", ["prefill", "decode"])
@pytest.mark.parametrize("drafts", [False, True])
def test_a_hook_hears_of_the_tokens_that_clients_get(first_token: str, drafts: bool) -> None:
    """Where the decode side gives the first token, the one of the prefill side is nobody's."""
    given = ["workload.num_requests=30", f"cluster.disaggregation.first_token={first_token}"]
    if drafts:
        speculative = "{method: ngram, num_speculative_tokens: 2, acceptance: {rate: 0.5}}"
        given.append(f"engine.speculative={speculative}")
    heard = Heard()
    result = simulate(load_scenario(EXAMPLE, given), hooks=[heard])
    tokens = [heard.tokens[index] for index in range(30)]
    assert tokens == result.requests["output_tokens"].to_list()
