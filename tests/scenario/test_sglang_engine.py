"""``policy: sglang`` in a scenario: its defaults by device, what is refused, and whole runs."""

from __future__ import annotations

from typing import Any

import pytest

from tokensim import Scenario, simulate
from tokensim.errors import InputError
from tokensim.hardware import load_device
from tokensim.model import load_model
from tokensim.plan import PoolPlan, plan_pool
from tokensim.scenario import Engine, dump_scenario, from_mapping
from tokensim.scenario.sglang import memory_class, running_limit, static_share

GIB = 2**30


def scenario(hardware: str = "h100-sxm-80gb", tensor: int = 1, data: int = 1, **engine: Any) -> Scenario:
    return from_mapping(
        {
            "model": "meta-llama/Llama-3.1-8B",
            "cluster": {"pools": [{"hardware": hardware, "parallel": {"tensor": tensor, "data": data}}]},
            "engine": {"policy": "sglang", **engine},
            "performance": {"operators": "roofline"},
            "workload": {
                "arrivals": {"process": "poisson", "rate": 20},
                "input_tokens": 200,
                "output_tokens": 30,
                "num_requests": 40,
            },
        }
    )


def plan(**options: Any) -> PoolPlan:
    made = scenario(**options)
    return plan_pool(made, 0, load_model(made.model, "model"))


def test_its_defaults_are_sglangs() -> None:
    engine = plan().engine
    assert (engine.version, engine.block_size) == ("0.5.23", 1)
    assert engine.max_num_batched_tokens == 8192
    assert engine.max_num_seqs == 2048
    assert engine.gpu_memory_utilization == pytest.approx((81559 - 512 - 12288 - 512 - 128) / 81559, abs=0.02)


@pytest.mark.parametrize(
    ("gib", "tensor", "chunk", "captured"),
    [(16, 1, 2048, 8), (24, 1, 2048, 24), (48, 4, 4096, 160), (80, 1, 8192, 256), (180, 1, 16384, 512)],
)
def test_chunk_and_captured_batches_follow_device_memory(
    gib: int, tensor: int, chunk: int, captured: int
) -> None:
    assert memory_class(gib * GIB, tensor) == (chunk, captured)


def test_the_share_of_memory_leaves_what_sglang_reserves() -> None:
    assert static_share(24 * GIB, 2048, 24, 1) == round((24576 - 512 - 3072 - 48 - 128) / 24576, 3)
    assert static_share(80 * GIB, 8192, 256, 1) == round((81920 - 512 - 12288 - 512 - 128) / 81920, 3)


def test_pool_and_batch_can_be_given() -> None:
    engine = plan(num_gpu_blocks=6000, block_size=16, max_num_seqs=100, gpu_memory_utilization=0.5).engine
    assert (engine.num_gpu_blocks, engine.max_num_seqs, engine.gpu_memory_utilization) == (6000, 100, 0.5)
    half = plan(gpu_memory_utilization=0.5).engine.num_gpu_blocks
    more = plan(gpu_memory_utilization=0.6).engine.num_gpu_blocks
    assert half is not None and more is not None
    device = load_device("h100-sxm-80gb", "hardware")
    kv_bytes = 2 * 32 * 8 * 128 * 2  # K and V of 32 layers, 8 heads of 128, 2 bytes
    assert more - half == pytest.approx(0.1 * device.memory_bytes / kv_bytes, abs=2)


def test_no_more_requests_run_than_half_the_tokens_of_the_pool() -> None:
    engine = Engine(policy="sglang", max_model_len=4096)
    assert running_limit(engine, 1000) == 500
    assert running_limit(engine, 100_000) == 4096
    assert running_limit(engine, 20_000) == 2500


@pytest.mark.parametrize(
    ("engine", "says", "hint"),
    [
        ({"version": "0.33.0"}, "SGLang 0.33.0 are not modelled", "0.5.23"),
        ({"watermark": 0.1}, "watermark is an option of vLLM", "schedule_conservativeness"),
        ({"prefill_schedule_interval": 4}, "is an option of vLLM", "prefill_decode_interval"),
        (
            {"speculative": {"method": "ngram", "num_speculative_tokens": 3, "acceptance": {"rate": 0.5}}},
            "speculative decoding is not simulated",
            "vllm",
        ),
        ({"swap_space": "1GB"}, "nothing is swapped", "leave it out"),
        ({"block_size": 16, "max_num_batched_tokens": 1000}, "not a multiple", "992"),
    ],
)
def test_what_sglang_does_not_have_is_refused(engine: dict[str, Any], says: str, hint: str) -> None:
    with pytest.raises(InputError) as error:
        scenario(**engine)
    assert says in str(error.value) and hint in str(error.value)


def test_sglangs_version_is_none_of_vllms() -> None:
    with pytest.raises(InputError, match=r"vLLM 0\.5\.23 are not modelled"):
        scenario(version="0.5.23", policy="vllm")


def test_a_wrong_policy_option_is_refused_where_it_stands() -> None:
    with pytest.raises(InputError) as error:
        simulate(scenario(policy_options={"schedule_polcy": "lpm"}))
    assert error.value.where == "engine.policy_options.schedule_polcy"
    assert "schedule_policy" in str(error.value.hint)


def test_a_pool_of_another_policy_gets_that_ones_defaults() -> None:
    made = scenario()
    pool = made.cluster.pools[0].model_copy(update={"engine": {"policy": "vllm"}})
    engine = made.pool_engine(pool)
    assert (engine.version, engine.block_size) == ("0.33.0", 16)


def test_a_run_can_be_repeated_from_what_it_leaves() -> None:
    first = simulate(scenario())
    assert (first.requests["status"] == "finished").all()
    again = simulate(from_mapping(Scenario.model_validate(first.scenario.model_dump()).model_dump()))
    assert again.summary == first.summary
    assert again.scenario == first.scenario
    assert "version: 0.5.23" in dump_scenario(first.scenario)


def test_exact_steps_give_the_same_requests() -> None:
    runs, steps = simulate(scenario()), simulate(scenario(), exact_steps=True)
    assert runs.log.end_s == pytest.approx(steps.log.end_s, rel=1e-9)
    assert runs.log.requests.first_token_s == pytest.approx(steps.log.requests.first_token_s, rel=1e-9)


def test_prompts_that_sglang_rejects_are_rejected() -> None:
    with pytest.raises(InputError, match="every prompt is too long"):
        simulate(scenario(num_gpu_blocks=206))
    result = simulate(scenario(num_gpu_blocks=207))
    assert result.requests["output_tokens"].to_list() == [5] * 40, "cut to what the pool holds"


def test_data_parallel_ranks_of_a_dense_model_run_apart() -> None:
    result = simulate(scenario(data=2))
    assert set(result.requests["instance"].to_list()) == {0, 1}
