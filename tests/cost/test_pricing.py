"""One operator at a time, worked out by hand on a device with round numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from paper_device import round_device

from tokensim.cost.pricing import (
    COLLECTIVE_BASE_S,
    LINK_EFFICIENCY,
    compute_dtype,
    pairs_and_reads,
    pairs_and_reads_array,
    price_operators,
)
from tokensim.errors import InputError
from tokensim.hardware import Device, Efficiency, Link, load_device
from tokensim.model.operators import Attention, Collective, Elementwise, Experts, Gemm, Operator


def seconds(operator: Operator, rows: int, device: Device | None = None) -> float:
    prices, _ = price_operators([operator], device or round_device(), "bfloat16")
    (price,) = prices
    return price.seconds(rows)


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
        price_operators([], round_device(flops={"int8": 1e14}), "bfloat16")
    assert "int8" in str(error.value)


def test_unknown_dtypes_are_refused() -> None:
    with pytest.raises(InputError, match="fp9"):
        seconds(Gemm("g", 10, 10, 1, "fp9"), 1)
    with pytest.raises(InputError, match="activations cannot be 'int8'"):
        price_operators([], round_device(), "int8")


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


def collective(kind: str, ranks: int, device: Device | None = None) -> float:
    return seconds(Collective("c", kind, 1000.0, ranks, 1), 1000, device)  # type: ignore[arg-type]


def test_collectives_over_a_mesh_take_one_hop_a_phase_and_a_rings_traffic() -> None:
    rate = 100e9 * LINK_EFFICIENCY
    assert collective("all_reduce", 4) == pytest.approx(COLLECTIVE_BASE_S + 2e-6 + 1.5 * 1e6 / rate)
    assert collective("reduce_scatter", 4) == pytest.approx(COLLECTIVE_BASE_S + 1e-6 + 0.75 * 1e6 / rate)
    assert collective("all_gather", 4) == pytest.approx(COLLECTIVE_BASE_S + 1e-6 + 3 * 1e6 / rate)
    assert collective("all_to_all", 4) == pytest.approx(COLLECTIVE_BASE_S + 1e-6 + 0.75 * 1e6 / rate)


def test_collectives_over_a_bus_take_every_hop_of_the_ring() -> None:
    device = round_device(intra_node=Link("bus", 100e9, 1e-6))
    expected = COLLECTIVE_BASE_S + 6e-6 + 1.5 * 1e6 / (100e9 * LINK_EFFICIENCY)
    assert collective("all_reduce", 4, device) == pytest.approx(expected)


def test_a_ring_that_leaves_the_node_runs_at_the_networks_pace() -> None:
    expected = COLLECTIVE_BASE_S + 30 * 10e-6 + 30 / 16 * 1e6 / (10e9 * LINK_EFFICIENCY)
    assert collective("all_reduce", 16) == pytest.approx(expected)


def test_a_collective_of_one_rank_is_free() -> None:
    assert collective("all_reduce", 1) == 0.0


def test_the_new_tokens_of_attention_are_written_to_the_cache() -> None:
    assert seconds(Attention("a", 8, 2, 64, 64, 512.0, 3), 10) == pytest.approx(3 * 10 * 512 / 1e12)


def test_decode_attention_is_bound_by_the_cache_or_by_arithmetic() -> None:
    _, (grouped,) = price_operators([Attention("a", 8, 2, 64, 64, 512.0, 3)], round_device(), "bfloat16")
    assert grouped.decode_bound == "memory"
    assert grouped.decode_s == pytest.approx(3 * 512 / 1e12)
    latent = Attention("a", 128, 1, 576, 512, 1152.0, 1, prefill_dims=(192, 128))
    _, (absorbed,) = price_operators([latent], round_device(), "bfloat16")
    assert absorbed.decode_bound == "compute"
    assert absorbed.decode_s == pytest.approx(2 * 128 * 1088 / 1e14)
    assert absorbed.pair_s == pytest.approx(2 * 128 * 320 / 1e14)


@given(st.integers(1, 60), st.integers(0, 60), st.none() | st.integers(1, 70))
def test_pairs_and_reads_equal_a_count_of_every_query(tokens: int, cached: int, window: int | None) -> None:
    cap = window or cached + tokens
    seen = [min(cached + i, cap) for i in range(1, tokens + 1)]
    first = cached + 1 - seen[0]  # the earliest cached position that any query looks at
    assert pairs_and_reads(tokens, cached, window) == (sum(seen), cached + tokens - first)
    pairs, reads = pairs_and_reads_array(np.array([float(tokens)]), np.array([float(cached)]), window)
    assert (pairs[0], reads[0]) == (sum(seen), cached + tokens - first)
