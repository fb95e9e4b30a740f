"""Whole steps on the roofline: worked out by hand, and what must hold of any."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paper_device import compiled, round_device

from tokensim.cost import CompiledStepCost, Host
from tokensim.errors import InputError
from tokensim.hardware import Efficiency, load_device
from tokensim.model.operators import Attention, Collective, Elementwise, Experts, Gemm, Operator

MIXED: list[Operator] = [
    Elementwise("norm", 8192.0, 8),
    Gemm("qkv", 6144, 4096, 4, "bfloat16"),
    Attention("full", 32, 8, 128, 128, 4096.0, 3),
    Attention("sliding", 32, 8, 128, 128, 4096.0, 1, window=100),
    Collective("all_reduce", "all_reduce", 8192.0, 2, 8),
    Experts("experts", 8, 8, 2, 4096, 1024, 3, 4, "bfloat16"),
    Gemm("lm_head", 32000, 4096, 1, "bfloat16", rows="samples"),
]
SIMPLE: list[Operator] = [Attention("a", 1, 1, 50, 50, 200.0, 1), Gemm("g", 1000, 1000, 1, "bfloat16")]


def mixed() -> CompiledStepCost:
    device = round_device(efficiency=Efficiency(0.7, 0.5, 0.8, 2e-6, "test"))
    return compiled(MIXED, device, host=Host(0.0, 1e-4, 1e-6, asynchronous=False))


def test_decode_steps_by_hand() -> None:
    cost = compiled(SIMPLE, host=Host(0.0, 1e-3, 1e-6, asynchronous=False))
    gemm = (2e6 + 2 * 4e3) / 1e12
    moved = 2 * (100 * 2 + 200)  # for each: query in and output out, key and value written
    first, growth, _ = cost.decode_run(2, 500.0, 0.0, 0.0, 0.0)
    assert first == pytest.approx(1e-3 + 2e-6 + gemm + (moved + 500 * 200) / 1e12, rel=1e-12)
    assert growth == pytest.approx(2 * 200 / 1e12)


def test_a_prefill_step_by_hand() -> None:
    gemm = 1000 * 2e6 / 1e14  # bound by arithmetic
    moved = (1000 * 200 + 1000 * (100 * 2 + 200)) / 1e12
    pairs = 2 * 100 * (1000 * 1001 / 2) / 1e14
    assert compiled(SIMPLE).step_time(0, 0, 0, 0, [(1000, 0)], 1) == pytest.approx(
        gemm + max(moved, pairs), rel=1e-12
    )


@given(st.integers(1, 300), st.integers(1, 10**6))
def test_a_step_without_chunks_is_the_first_of_a_run(decode: int, context: int) -> None:
    cost = mixed()
    window = min(context, 100 * decode)
    first, _, _ = cost.decode_run(decode, context, window, 0, 0)
    assert cost.step_time(decode, context, window, 0, (), decode) == pytest.approx(first, rel=1e-12)


def test_a_straight_line_holds_for_ever() -> None:
    assert mixed().decode_run(3, 10.0, 10.0, 3.0, 0.0)[2] > 10**9


def test_memory_of_earlier_steps_does_not_change_a_step() -> None:
    fresh, used = mixed(), mixed()
    for rows in range(1, 50):
        used.step_time(rows, 100 * rows, 50 * rows, 0, [(rows, 7)], rows + 1)
        used.decode_run(rows, 100 * rows, 50 * rows, 0, 0)
    assert fresh.step_time(3, 300, 200, 0, [(40, 7)], 4) == used.step_time(3, 300, 200, 0, [(40, 7)], 4)
    assert fresh.decode_run(3, 300, 200, 3, 0) == used.decode_run(3, 300, 200, 3, 0)


@given(st.integers(0, 50), st.integers(1, 2000), st.integers(0, 2000))
def test_more_work_never_takes_less_time(decode: int, tokens: int, cached: int) -> None:
    cost = mixed()

    def step(decode: int, tokens: int, cached: int) -> float:
        return cost.step_time(decode, 500 * decode, 100 * decode, 0, [(tokens, cached)], decode + 1)

    base = step(decode, tokens, cached)
    assert step(decode + 1, tokens, cached) > base
    assert step(decode, tokens + 1, cached) > base
    assert step(decode, tokens, cached + 1) >= base


def test_splitting_a_prompt_reads_the_cache_again_but_computes_the_same_pairs() -> None:
    cost = compiled([SIMPLE[0]], round_device(flops={"bfloat16": 1e10}))
    whole = cost.step_time(0, 0, 0, 0, [(1000, 0)], 0)
    halves = cost.step_time(0, 0, 0, 0, [(600, 0)], 0) + cost.step_time(0, 0, 0, 0, [(400, 600)], 0)
    assert halves == pytest.approx(whole, rel=1e-12)  # bound by arithmetic here


def test_the_window_is_reported_and_must_be_one() -> None:
    assert mixed().window == 100
    assert compiled(SIMPLE).window is None
    two: list[Operator] = [Attention(f"a{w}", 1, 1, 64, 64, 256.0, 1, window=w) for w in (128, 256)]
    with pytest.raises(InputError, match=r"different sliding windows: \[128, 256\]"):
        compiled(two)


def test_attention_within_a_window_grows_with_the_capped_contexts_alone() -> None:
    cost = compiled([Attention("a", 1, 1, 50, 50, 200.0, 1, window=100)])
    first, growth, _ = cost.decode_run(2, 10_000.0, 150.0, 1.0, 0.0)
    assert first == pytest.approx((2 * 400 + 150 * 200) / 1e12)
    assert growth == pytest.approx(200 / 1e12)
    assert cost.decode_run(2, 10_000.0, 200.0, 0.0, 0.0)[1] == 0.0


def test_a_faster_memory_makes_decode_faster_and_prefill_no_slower() -> None:
    slow, fast = (compiled(MIXED, load_device(name)) for name in ("h100-sxm-80gb", "h200-sxm-141gb"))
    assert fast.step_time(8, 8000, 800, 0, (), 8) < slow.step_time(8, 8000, 800, 0, (), 8)
    assert fast.step_time(0, 0, 0, 0, [(2000, 0)], 1) <= slow.step_time(0, 0, 0, 0, [(2000, 0)], 1)
