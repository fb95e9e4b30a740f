"""How many KV blocks fit: by hand, against real servers, and what a user reads when nothing fits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tokensim.errors import InputError
from tokensim.hardware import load_device
from tokensim.memory import Capacity, derive_capacity
from tokensim.model import load_model

MEASURED = ("h100-qwen3-14b-w7-sweep-agg6", "rtx-4090-llama-3.1-8b-sharegpt")


def capacity(
    model: str = "meta-llama/Llama-3.1-8B", device: str = "h100-sxm-80gb", **changes: Any
) -> Capacity:
    options: dict[str, Any] = {
        "weights": "bfloat16",
        "kv_dtype": "bfloat16",
        "tensor": 1,
        "expert": 1,
        "block_size": 16,
        "utilization": 0.9,
        "max_num_batched_tokens": 8192,
        "max_num_seqs": 256,
        "where": "cluster.pools[0].hardware",
    }
    return derive_capacity(load_model(model), load_device(device), **{**options, **changes})


def test_by_hand() -> None:
    found = capacity()
    assert found.weight_bytes == 2 * 8_030_261_248
    # Residual, input and output of 4,096 and three of the FFN of 14,336, in 16 bits; 256 rows of logits.
    assert found.activation_bytes == 8192 * 2 * (3 * 4096 + 3 * 14336) + 256 * 128256 * 6
    assert found.block_bytes == 16 * 2 * 8 * 128 * 2 * 32
    left = 0.9 * found.device_bytes - found.weight_bytes - found.activation_bytes - found.reserved_bytes
    assert found.num_gpu_blocks == int(left // found.block_bytes)


def test_logits_are_of_the_tokens_if_they_are_fewer_than_the_requests() -> None:
    few, many = capacity(max_num_batched_tokens=64), capacity(max_num_batched_tokens=64, max_num_seqs=64)
    assert few.activation_bytes == many.activation_bytes


@pytest.mark.parametrize("case", MEASURED)
def test_real_servers_reported_as_many_blocks_within_6_percent(case: str, shared: Path) -> None:
    scenario = yaml.safe_load((shared / "groundtruth" / case / "case.yaml").read_text())["scenario"]
    engine, pool = scenario["engine"], scenario["cluster"]["pools"][0]
    derived = capacity(
        scenario["model"],
        pool["hardware"],
        block_size=engine["block_size"],
        utilization=engine["gpu_memory_utilization"],
        max_num_batched_tokens=engine["max_num_batched_tokens"],
        max_num_seqs=engine["max_num_seqs"],
    )
    assert derived.num_gpu_blocks == pytest.approx(engine["num_gpu_blocks"], rel=0.06)


@given(st.integers(1, 16), st.integers(1, 15))
def test_more_memory_never_means_fewer_blocks(block: int, share: int) -> None:
    less, more = (capacity(block_size=block, utilization=0.4 + part / 32) for part in (share, share + 1))
    assert less.num_gpu_blocks <= more.num_gpu_blocks
    used = more.num_gpu_blocks * more.block_bytes
    total = used + more.weight_bytes + more.activation_bytes + more.reserved_bytes
    assert more.usable_bytes - more.block_bytes < total <= more.usable_bytes


def test_ranks_share_weights_and_cache() -> None:
    one, four = capacity(), capacity(tensor=4)
    assert four.block_bytes == one.block_bytes / 4
    assert four.num_gpu_blocks > 4 * one.num_gpu_blocks  # the weights are shared too


def test_fp8_halves_a_block_and_smaller_blocks_are_more() -> None:
    base = capacity()
    assert capacity(kv_dtype="fp8").block_bytes == base.block_bytes / 2
    assert capacity(block_size=1).num_gpu_blocks // 16 == base.num_gpu_blocks


def test_a_model_that_does_not_fit_is_refused_with_the_numbers() -> None:
    with pytest.raises(InputError) as refusal:
        capacity("meta-llama/Llama-3.1-70B", "rtx-4090")
    assert refusal.value.where == "cluster.pools[0].hardware"
    text = str(refusal.value)
    for part in ("Llama-3.1-70B does not fit on rtx-4090", "weights 131.4 GiB", "× 0.9", "reserve 0.75"):
        assert part in text
    assert refusal.value.hint is not None and "more tensor-parallel ranks" in refusal.value.hint


def test_ranks_are_named_if_they_do_not_suffice() -> None:
    with pytest.raises(InputError, match="over 2 devices"):
        capacity("meta-llama/Llama-3.1-70B", "rtx-4090", tensor=2)
    assert capacity("meta-llama/Llama-3.1-70B", "h100-sxm-80gb", tensor=4).num_gpu_blocks > 1000
