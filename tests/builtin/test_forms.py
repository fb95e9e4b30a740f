"""The formulas: by hand where they are simple, and never falling where work grows."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokensim.cost.builtin.attention import knots
from tokensim.cost.builtin.attention_forms import by_head_size
from tokensim.cost.builtin.coefficients import Fit, measured
from tokensim.cost.builtin.primitives import smooth_max, through_cache
from tokensim.cost.builtin.rates import weight_bytes
from tokensim.cost.builtin.row_forms import CollectiveForm, GemmForm, StreamForm

PLAIN = GemmForm(
    launch_s=1e-6,
    compute_share=0.5,
    memory_share=0.8,
    sharpness=0.0,  # a sum
    edge_rows=0.0,
    edge_columns=0.0,
    edge_depth=0.0,
    fill=0.0,
    chain_s=0.0,
    chain_steps=1.0,
    row_s=0.0,
    row_element_s=0.0,
    sag=0.0,
    sag_s=1.0,
    cache_bytes=1.0,
    cache_speed=1e-12,
)


def fits_of(*kinds: str) -> list[tuple[str, str, str, Fit]]:
    return [
        (device, kind, dtype, fit)
        for device, one in measured().items()
        for kind in kinds
        for dtype, fit in one.fits.get(kind, {}).items()
    ]


def test_a_plain_gemm_is_its_launch_its_arithmetic_and_its_traffic() -> None:
    # 2·4·8·16 FLOPs at half of 1e9; 2·8·16 + 2·4·(8 + 16) bytes at 0.8 of 1e6
    seconds = float(PLAIN.seconds(4, 8, 16, 2.0, 1e9, 1e6))
    assert seconds == pytest.approx(1e-6 + 1024 / 0.5e9 + 448 / 0.8e6)


def test_long_arithmetic_sags() -> None:
    tired = dataclasses.replace(PLAIN, sag=0.25, sag_s=1e-3)
    for rate, ratio in ((1e15, 1.0), (1.0, 1.25)):
        mine = float(tired.seconds(4, 8, 16, 2.0, rate, 1e12)) - PLAIN.launch_s
        its = float(PLAIN.seconds(4, 8, 16, 2.0, rate, 1e12)) - PLAIN.launch_s
        assert mine / its == pytest.approx(ratio, rel=1e-3)


def test_in_a_step_short_arithmetic_sags_as_long_arithmetic_does() -> None:
    tired = dataclasses.replace(PLAIN, sag=0.25, sag_s=1e-3)
    short = float(tired.sustained().seconds(4, 8, 16, 2.0, 1e15, 1e30)) - PLAIN.launch_s
    assert short == pytest.approx(1.25 * 1024 / 0.5e15, rel=1e-3)


def test_the_smooth_maximum_is_a_sum_at_sharpness_0_and_a_maximum_far_above() -> None:
    assert float(smooth_max(0.0, 3.0, 4.0)) == pytest.approx(7.0)
    assert float(smooth_max(1.0, 3.0, 4.0)) == pytest.approx(5.0)
    assert float(smooth_max(1e4, 3.0, 4.0)) == pytest.approx(4.0, rel=1e-3)
    assert float(smooth_max(50.0, 1e-9, 1e-6)) == pytest.approx(1e-6)


def test_small_working_sets_come_as_much_faster_as_the_cache_and_large_ones_do_not() -> None:
    assert through_cache(1.0, 1e6, 3.0) == pytest.approx(0.25)
    assert through_cache(1e9, 1e6, 3.0) == pytest.approx(1e9)


@given(size=st.floats(1.0, 1e10), more=st.floats(1.0, 4.0), speed=st.floats(0.0, 20.0))
def test_more_bytes_never_arrive_sooner(size: float, more: float, speed: float) -> None:
    assert through_cache(size * more, 1e7, speed) >= through_cache(size, 1e7, speed) * (1 - 1e-12)


def test_values_by_head_size_are_linear_in_the_logarithm_and_flat_beyond() -> None:
    sizes, values = (64.0, 256.0), (1.0, 3.0)
    assert by_head_size(sizes, values, 128.0) == pytest.approx(2.0)
    assert by_head_size(sizes, values, 32.0) == 1.0
    assert by_head_size(sizes, values, 512.0) == 3.0


def test_a_collective_turns_from_the_slow_rate_to_the_fast_one() -> None:
    form = CollectiveForm(launch_s=1e-5, small_rate=1e9, large_rate=1e10, turn_bytes=1e6)
    assert float(form.seconds(1e3)) == pytest.approx(1e-5 + 1e3 / 1e9 + 1e3 / 1e10, rel=1e-3)
    assert float(form.seconds(1e9)) == pytest.approx(1e-5 + 1e6 / 1e9 + 1e9 / 1e10, rel=1e-2)


def test_an_elementwise_kernel_is_its_launch_and_its_traffic() -> None:
    form = StreamForm(launch_s=2e-6, memory_share=0.5, cache_bytes=1.0, cache_speed=1e-12)
    assert float(form.seconds(1e6, 1e12)) == pytest.approx(2e-6 + 2e-6)


@pytest.mark.parametrize(
    ("device", "dtype", "fit"),
    [pytest.param(d, t, f, id=f"{d}-{t}") for d, _, t, f in fits_of("gemm")],
)
def test_more_rows_never_take_less_time(device: str, dtype: str, fit: Fit) -> None:
    assert isinstance(fit.form, GemmForm)
    reference = measured()[device].reference
    rows = np.arange(1.0, 9000.0)
    for n, k in ((128, 8192), (1024, 1024), (5120, 17408), (65536, 512)):
        seconds = fit.form.seconds(
            rows, n, k, weight_bytes(dtype), reference.flops["bfloat16"], reference.bandwidth
        )
        assert np.all(np.diff(seconds) > -1e-15)
        assert np.all(seconds > 0)


@pytest.mark.parametrize(
    ("device", "dtype", "fit"),
    [pytest.param(d, t, f, id=f"{d}-{t}") for d, _, t, f in fits_of("experts")],
)
def test_more_tokens_never_make_experts_faster(device: str, dtype: str, fit: Fit) -> None:
    reference = measured()[device].reference
    tokens = np.arange(1.0, 9000.0)
    rates = (weight_bytes(dtype), reference.flops["bfloat16"], reference.bandwidth)
    for top_k, experts, ranks in ((8, 128, 1), (8, 32, 4), (2, 8, 1)):
        seconds = fit.form.seconds(tokens, 2048, 768, 3, top_k, experts, ranks, 1, *rates)  # type: ignore[union-attr,call-arg]
        assert np.all(np.diff(np.asarray(seconds)) > -1e-15)


@pytest.mark.parametrize(
    ("kind", "device", "dtype", "fit"),
    [
        pytest.param(k, d, t, f, id=f"{k}-{d}-{t}")
        for d, k, t, f in fits_of("decode", "decode_window", "decode_latent")
    ],
)
def test_longer_contexts_and_more_requests_never_decode_faster(
    kind: str, device: str, dtype: str, fit: Fit
) -> None:
    reference = measured()[device].reference
    rates = (reference.flops["bfloat16"], reference.bandwidth)
    contexts, requests = np.geomspace(1, 131072, 400), np.arange(1.0, 600.0)
    for heads, kv_heads, size in ((32, 8, 128), (16, 16, 64), (128, 1, 544)):
        shape = (heads, kv_heads, size, 4.0 * kv_heads * size)
        for count in (1, 7, 256):
            seconds = fit.form.seconds(count, contexts, *shape, *rates)  # type: ignore[union-attr,arg-type,call-arg]
            assert np.all(np.diff(np.asarray(seconds)) > -1e-15)
        for context in (16, 3000):
            seconds = fit.form.seconds(requests, context, *shape, *rates)  # type: ignore[union-attr,arg-type,call-arg]
            assert np.all(np.diff(np.asarray(seconds)) > -1e-15)


@given(
    st.lists(st.floats(1e-6, 1.0), min_size=2, max_size=60),
)
def test_knots_keep_lines_within_the_tolerance(values: list[float]) -> None:
    y = np.array(values)
    x = np.arange(1.0, len(y) + 1)
    some = knots(x, y)
    line = np.interp(x, x[some], y[some])
    assert np.all(np.abs(line / y - 1) <= 0.004 + 1e-12)
    assert some[0] == 0 and some[-1] == len(y) - 1


def test_a_straight_curve_needs_its_ends_alone() -> None:
    x = np.linspace(1, 100, 50)
    assert knots(x, 3 + 2 * x) == [0, 49]


def test_pairs_of_a_sliding_window_are_those_of_full_attention_while_it_is_not_full() -> None:
    form = measured()["h100-sxm-80gb"].fits["prefill"]["bfloat16"].form
    full = form.pairs(np.float64(100), np.float64(50), np.float64(math.inf))  # type: ignore[union-attr]
    assert form.pairs(np.float64(100), np.float64(50), np.float64(1e6)) == full  # type: ignore[union-attr]
    edge = form.edge_tokens  # type: ignore[union-attr]
    assert full == pytest.approx(100 * 50 + 100 * 101 / 2 + 100 * edge / 2)
