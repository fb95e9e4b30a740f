"""One operator at a time on the roofline, worked out by hand on a device with round numbers."""

from __future__ import annotations

from typing import cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from paper_device import round_device

from tokensim.cost import AttentionTime, Roofline, RowTime, Setting
from tokensim.cost.collectives import collective_seconds
from tokensim.cost.work import attention_work, compute_dtype, pairs_and_reads, pairs_and_reads_array
from tokensim.errors import InputError
from tokensim.hardware import Device, Efficiency, load_device
from tokensim.model.operators import Attention, Collective, Elementwise, Experts, Gemm, Operator

GROUPED = Attention("a", 8, 2, 64, 64, 512.0, 3)


def roofline(device: Device | None = None, activation_dtype: str = "bfloat16") -> Roofline:
    return Roofline(Setting(device or round_device(), "a model", activation_dtype=activation_dtype))


def seconds(operator: Operator, rows: int, device: Device | None = None) -> float:
    time = cast(RowTime, roofline(device).price([operator])[operator.name])
    return float(time.seconds(np.array([float(rows)]))[0])


def attention(op: Attention, device: Device | None = None) -> AttentionTime:
    return cast(AttentionTime, roofline(device).price([op])[op.name])


def decode_seconds(op: Attention, requests: int, context: float, device: Device | None = None) -> float:
    """Decode attention of ``requests`` whose contexts sum to ``context``."""
    curve = attention(op, device).decode(requests)
    slope = (curve.seconds[1] - curve.seconds[0]) / (curve.contexts[1] - curve.contexts[0])
    return curve.seconds[0] + slope * (context / requests - curve.contexts[0])


def test_gemm_with_one_row_reads_its_weights() -> None:
    # 1000 x 1000 weights of 2 bytes and one row of 1000 in, 1000 out, at 1 TB/s
    assert seconds(Gemm("g", 1000, 1000, 1, "bfloat16"), 1) == pytest.approx((2e6 + 4e3) / 1e12)


def test_gemm_with_many_rows_is_bound_by_arithmetic_and_scales_with_count() -> None:
    # 2·10⁴·10³·10³ FLOPs at 1e14 FLOP/s, in 3 layers
    assert seconds(Gemm("g", 1000, 1000, 3, "bfloat16"), 10_000) == pytest.approx(3 * 2e10 / 1e14)


def test_efficiencies_divide_the_peaks_and_overhead_is_added() -> None:
    device = round_device(efficiency=Efficiency(0.5, 0.25, 0.8, 1e-6, "test"))
    assert seconds(Gemm("g", 1000, 1000, 1, "bfloat16"), 10_000, device) == pytest.approx(
        2e10 / 0.5e14 + 1e-6
    )
    assert seconds(Elementwise("e", 1e6, 2), 4, device) == pytest.approx(2 * (4e6 / 0.8e12 + 1e-6))


def test_fp8_weights_use_fp8_units_at_the_share_of_low_precision() -> None:
    device = round_device(efficiency=Efficiency(1.0, 1.0, 1.0, 0.0, "test", gemm_low_precision=0.5))
    assert seconds(Gemm("g", 1000, 1000, 1, "fp8"), 10_000) == pytest.approx(2e10 / 2e14)
    assert seconds(Gemm("g", 1000, 1000, 1, "fp8"), 10_000, device) == pytest.approx(2e10 / 1e14)
    assert seconds(Gemm("g", 1000, 1000, 1, "bfloat16"), 10_000, device) == pytest.approx(2e10 / 1e14)


@pytest.mark.parametrize("weights", ["int4", "int8", "mxfp4"])
def test_weight_only_formats_save_bytes_but_compute_in_16_bits(weights: str) -> None:
    wide, narrow = Gemm("g", 4096, 4096, 1, "bfloat16"), Gemm("g", 4096, 4096, 1, weights)
    assert seconds(narrow, 1) < 0.6 * seconds(wide, 1)
    assert seconds(narrow, 10_000) == seconds(wide, 10_000)


def test_fp8_weights_on_a_device_without_fp8_are_weight_only() -> None:
    device = round_device(flops={"bfloat16": 1e14})
    assert compute_dtype(device, "fp8", "bfloat16") == "bfloat16"
    assert seconds(Gemm("g", 1000, 1000, 1, "fp8"), 1, device) == pytest.approx((1e6 + 4e3) / 1e12)


def test_devices_without_bfloat16_run_in_float16() -> None:
    assert compute_dtype(load_device("v100-sxm-16gb"), "bfloat16", "bfloat16") == "float16"
    assert compute_dtype(load_device("upmem"), "bfloat16", "bfloat16") == "float32"


def test_a_device_without_a_usable_dtype_is_refused_by_name() -> None:
    with pytest.raises(InputError, match="Round numbers cannot compute in bfloat16") as error:
        roofline(round_device(flops={"int8": 1e14}))
    assert "int8" in str(error.value)


def test_unknown_dtypes_are_refused() -> None:
    with pytest.raises(InputError, match="fp9"):
        seconds(Gemm("g", 10, 10, 1, "fp9"), 1)
    with pytest.raises(InputError, match="activations cannot be 'int8'"):
        roofline(activation_dtype="int8")


def test_one_token_reads_top_k_experts_and_many_tokens_read_all() -> None:
    experts = Experts("x", 8, 8, 2, 1000, 500, 3, 1, "bfloat16")
    weights_of_one = 3 * 1000 * 500 * 2
    activations = 2 * (2 * 1000 + 3 * 500) * 2
    assert seconds(experts, 1) == pytest.approx((2 * weights_of_one + activations) / 1e12)
    # 2 tokens: 8·(1 - (3/4)²) = 3.5 experts expected
    assert seconds(experts, 2) == pytest.approx((3.5 * weights_of_one + 2 * activations) / 1e12)
    # 1000 tokens hit all 8; compute: 2 FLOPs x 2 experts x weights
    assert seconds(experts, 1000) == pytest.approx(1000 * 2 * 2 * 3 * 1000 * 500 / 1e14)


def test_an_expert_rank_computes_its_share_of_the_rows() -> None:
    whole = Experts("x", 8, 8, 2, 1000, 500, 3, 1, "bfloat16")
    half = Experts("x", 4, 8, 2, 1000, 500, 3, 1, "bfloat16")
    for rows in (1, 7, 5000):
        assert seconds(half, rows) == pytest.approx(seconds(whole, rows) / 2)


def test_a_collective_takes_the_best_algorithms_time_in_each_layer() -> None:
    op = Collective("c", "all_reduce", 1000.0, 4, 3)
    best = float(collective_seconds("all_reduce", np.array(1e6), 4, round_device()))
    assert seconds(op, 1000) == pytest.approx(3 * best)
    assert seconds(Collective("c", "all_reduce", 1000.0, 1, 1), 1000) == 0.0


def test_a_decode_reads_its_context_and_writes_its_own_token() -> None:
    # two requests: query and output of 8 heads of 64 + 64, key and value written; 100 tokens read
    moved = 2 * (8 * 128 * 2 + 512) + 100 * 512
    assert decode_seconds(GROUPED, 2, 100.0) == pytest.approx(3 * moved / 1e12)


def test_attention_over_latents_may_be_bound_by_arithmetic() -> None:
    latent = Attention("a", 128, 1, 576, 512, 1152.0, 1, prefill_dims=(192, 128))
    added = decode_seconds(latent, 1, 1001.0) - decode_seconds(latent, 1, 1000.0)
    assert added == pytest.approx(2 * 128 * 1088 / 1e14)  # beyond the 1152 / 1e12 of reading
    work = attention_work(latent, "bfloat16")
    assert (work.flops_pair, work.prefill_flops_pair) == (2 * 128 * 1088, 2 * 128 * 320)


def test_a_chunk_takes_the_slower_of_its_pairs_and_its_traffic() -> None:
    time = attention(GROUPED)
    pairs = 1000 * 1001 / 2
    assert time.mixed([(1000, 0)], 0, 0.0, 0.0) == pytest.approx(3 * 2 * 8 * 128 * pairs / 1e14)
    moved = 10_001 * 512 + (8 * 128 * 2 + 512)  # one token after many: its context is read
    assert time.mixed([(1, 10_000)], 0, 0.0, 0.0) == pytest.approx(3 * moved / 1e12)
    both = time.mixed([(1000, 0), (1, 10_000)], 2, 100.0, 0.0)
    alone = time.mixed([(1000, 0)], 0, 0.0, 0.0) + time.mixed([(1, 10_000)], 0, 0.0, 0.0)
    assert both == pytest.approx(alone + decode_seconds(GROUPED, 2, 100.0))


def test_the_launches_of_attention_are_counted_once_a_layer() -> None:
    device = round_device(efficiency=Efficiency(1.0, 1.0, 1.0, 1e-6, "test"))
    for chunks in ([(100, 0)], [(100, 0), (50, 7)]):
        launched = attention(GROUPED, device).mixed(chunks, 3, 300.0, 0.0)
        assert launched - attention(GROUPED).mixed(chunks, 3, 300.0, 0.0) == pytest.approx(3 * 2e-6)


@given(st.integers(1, 60), st.integers(0, 60), st.none() | st.integers(1, 70))
def test_pairs_and_reads_equal_a_count_of_every_query(tokens: int, cached: int, window: int | None) -> None:
    cap = window or cached + tokens
    seen = [min(cached + i, cap) for i in range(1, tokens + 1)]
    first = cached + 1 - seen[0]  # the earliest cached position that any query looks at
    assert pairs_and_reads(tokens, cached, window) == (sum(seen), cached + tokens - first)
    pairs, reads = pairs_and_reads_array(np.array([float(tokens)]), np.array([float(cached)]), window)
    assert (pairs[0], reads[0]) == (sum(seen), cached + tokens - first)
