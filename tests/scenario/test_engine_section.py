"""The engine section: vLLM's start-up checks, its defaults by device, and options by version."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from tokensim.errors import InputError
from tokensim.scenario.engine import GIB, Engine, resolved_engine


def refusal(**options: Any) -> str:
    with pytest.raises(ValidationError) as error:
        Engine(**options)
    return str(error.value)


def resolve(engine: Engine, memory_gib: float = 79.6, a100: bool = False, model: int = 131072) -> Engine:
    return resolved_engine(engine, device_memory_bytes=memory_gib * GIB, is_a100=a100, model_max_len=model)


@pytest.mark.parametrize(
    ("memory_gib", "a100", "version", "limits"),
    [
        (79.6, False, "0.33.0", (8192, 1024)),  # H100
        (79.2, True, "0.33.0", (2048, 256)),  # A100
        (23.6, False, "0.33.0", (2048, 256)),  # L4
        (178.0, False, "0.33.0", (16384, 1024)),  # B200
        (178.0, False, "0.23.0", (8192, 1024)),  # the 160 GiB tier came later
        (178.0, False, "0.19.0", (8192, 1024)),
    ],
)
def test_limits_left_out_are_those_of_the_engine_on_that_device(
    memory_gib: float, a100: bool, version: str, limits: tuple[int, int]
) -> None:
    engine = resolve(Engine(version=version), memory_gib, a100)
    assert (engine.max_num_batched_tokens, engine.max_num_seqs) == limits
    assert engine.max_model_len == 131072


def test_given_limits_stay() -> None:
    engine = resolve(Engine(max_num_seqs=7, max_num_batched_tokens=300, max_model_len=1000))
    assert (engine.max_num_seqs, engine.max_num_batched_tokens, engine.max_model_len) == (7, 300, 1000)


def test_the_default_budget_is_no_more_than_all_requests_could_use() -> None:
    assert resolve(Engine(max_num_seqs=2, max_model_len=100)).max_num_batched_tokens == 200


def test_default_requests_are_no_more_than_the_budget() -> None:
    assert resolve(Engine(max_num_batched_tokens=100)).max_num_seqs == 100


def test_without_chunked_prefill_the_default_budget_holds_the_longest_prompt() -> None:
    engine = resolve(Engine(enable_chunked_prefill=False, max_model_len=30000))
    assert engine.max_num_batched_tokens == 30000


def test_without_chunked_prefill_a_budget_below_the_models_context_is_refused() -> None:
    with pytest.raises(InputError) as error:
        resolve(Engine(enable_chunked_prefill=False, max_num_batched_tokens=8192))
    assert "max_num_batched_tokens (8192) is less than max_model_len (131072)" in str(error.value)
    assert "at least 131072, or a smaller max_model_len" in str(error.value)


def test_a_context_longer_than_the_models_is_refused() -> None:
    with pytest.raises(InputError) as error:
        resolve(Engine(max_model_len=200_000))
    assert str(error.value) == (
        "engine.max_model_len: max_model_len is 200000, but the model's context ends at 131072 tokens\n"
        "  at most 131072, or leave it out"
    )


def test_a_budget_below_the_number_of_requests_is_refused() -> None:
    assert "max_num_batched_tokens (100) is less than max_num_seqs (256)" in refusal(
        max_num_batched_tokens=100, max_num_seqs=256
    )
    Engine(max_num_batched_tokens=256, max_num_seqs=256)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("watermark", 0.1),
        ("prefill_schedule_interval", 4),
        ("max_num_active_seqs", 6),
        ("long_prefill_token_threshold_adaptive", True),
    ],
)
@pytest.mark.parametrize("version", ["0.19.0", "0.23.0"])
def test_an_option_of_a_later_engine_version_is_refused(option: str, value: Any, version: str) -> None:
    extra = {"long_prefill_token_threshold": 100} if "adaptive" in option else {}
    assert f"{option} does not exist in vLLM {version}" in refusal(
        version=version, **{option: value}, **extra
    )
    assert getattr(Engine(version="0.33.0", **{option: value}, **extra), option) == value


@pytest.mark.parametrize("version", ["0.18.2", "0.24.0", "0.27.1", "0.34.0", "1.0.0"])
def test_a_version_whose_rules_are_not_known_is_refused(version: str) -> None:
    assert f"the scheduling rules of vLLM {version} are not modelled" in refusal(version=version)


@pytest.mark.parametrize("version", ["0.19.0", "0.21.1", "0.23.0", "0.33.0", "v0.33.0", "0.33"])
def test_modelled_versions_are_taken(version: str) -> None:
    assert Engine(version=version).version == version


def test_captured_sizes_are_put_in_order() -> None:
    assert Engine(cudagraph_capture_sizes=[8, 1, 4, 4]).cudagraph_capture_sizes == [1, 4, 8]
    assert Engine().cudagraph_capture_sizes is None


def test_captured_sizes_are_refused_where_no_graph_is_captured() -> None:
    said = refusal(cudagraph_capture_sizes=[1, 2], enforce_eager=True)
    assert "enforce_eager captures no CUDA graphs" in said
    assert Engine(enforce_eager=True).enforce_eager


def test_room_for_swapping_without_swapping_is_refused_not_ignored() -> None:
    assert "swap_space is given, but nothing is swapped" in refusal(swap_space="4GiB")


def test_an_adaptive_threshold_needs_a_threshold() -> None:
    assert "needs a threshold to adapt" in refusal(long_prefill_token_threshold_adaptive=True)


@pytest.mark.parametrize(
    "options",
    [
        {"max_num_seqs": 0},
        {"max_num_seqs": True},
        {"max_num_seqs": "256"},
        {"max_num_seqs": 1.5},
        {"num_gpu_blocks": 1},
        {"gpu_memory_utilization": 0},
        {"gpu_memory_utilization": 1.01},
        {"gpu_memory_utilization": float("nan")},
        {"watermark": 1.0},
        {"watermark": -0.1},
        {"enable_prefix_caching": 1},
        {"block_size": 0},
        {"scheduling_policy": "lifo"},
        {"policy": ""},
        {"enforce_eager": "yes"},
        {"cudagraph_capture_sizes": 8},
        {"cudagraph_capture_sizes": [0]},
        {"no_such_option": 1},
    ],
)
def test_impossible_values_are_refused(options: dict[str, Any]) -> None:
    assert next(iter(options)) in refusal(**options)
