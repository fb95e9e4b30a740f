"""Whole steps: the decode line, single steps, and the account of where the time went."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paper_device import round_device

from tokensim.cost import RooflineCost, StepColumns, build_cost
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

Step = tuple[int, int, list[tuple[int, int]], int]
"""Decodes, context of each, chunks, steps."""

STEPS = st.lists(
    st.tuples(
        st.integers(0, 40),
        st.integers(1, 300),
        st.lists(st.tuples(st.integers(1, 500), st.integers(0, 500)), max_size=3),
        st.integers(1, 5),
    ).filter(lambda step: step[0] > 0 or len(step[2]) > 0),
    max_size=8,
)


def mixed(**options: float) -> RooflineCost:
    device = round_device(efficiency=Efficiency(0.7, 0.5, 0.8, 2e-6, "test"))
    return RooflineCost(MIXED, device, **options)


def test_a_decode_step_by_hand() -> None:
    cost = RooflineCost(SIMPLE, round_device(), host_step_s=1e-3, host_request_s=1e-6)
    gemm = (2e6 + 2 * 4e3) / 1e12
    cache = (2 * 200 + 2 * 100 * 2) / 1e12  # two writes; two queries in and outputs out
    line = cost.decode_line(2)
    assert line.base == pytest.approx(1e-3 + 2e-6 + gemm + cache, rel=1e-12)
    assert line.slope == pytest.approx(200 / 1e12)
    assert line.limit == math.inf


def test_a_prefill_step_by_hand() -> None:
    cost = RooflineCost(SIMPLE, round_device(), host_step_s=0.0, host_request_s=0.0)
    rows = 1000 * 2e6 / 1e14 + 1000 * 200 / 1e12  # the GEMM is bound by arithmetic; the cache is written
    reads = (1000 * 200 + 1000 * 100 * 2) / 1e12
    pairs = 2 * 100 * (1000 * 1001 / 2) / 1e14
    assert cost.step_time(0, 0, 0, [(1000, 0)], 1) == pytest.approx(rows + max(reads, pairs), rel=1e-12)


@given(st.integers(1, 300), st.integers(1, 10**6))
def test_a_step_without_chunks_lies_on_the_line_exactly(decode: int, context: int) -> None:
    cost = mixed()
    line = cost.decode_line(decode)
    window = min(context, 100 * decode)
    on_line = line.base + line.slope * context + line.window_slope * window
    assert cost.step_time(decode, context, window, (), decode) == on_line


def test_the_same_line_is_returned_every_time() -> None:
    cost = mixed()
    assert cost.decode_line(3) is cost.decode_line(3)


def test_memory_of_earlier_steps_does_not_change_a_step() -> None:
    fresh, used = mixed(), mixed()
    for rows in range(1, 50):
        used.step_time(rows, 100 * rows, 50 * rows, [(rows, 7)], rows + 1)
    assert fresh.step_time(3, 300, 200, [(40, 7)], 4) == used.step_time(3, 300, 200, [(40, 7)], 4)


@given(st.integers(0, 50), st.integers(1, 2000), st.integers(0, 2000))
def test_more_work_never_takes_less_time(decode: int, tokens: int, cached: int) -> None:
    cost = mixed()

    def step(decode: int, tokens: int, cached: int) -> float:
        return cost.step_time(decode, 500 * decode, 100 * decode, [(tokens, cached)], decode + 1)

    base = step(decode, tokens, cached)
    assert step(decode + 1, tokens, cached) > base
    assert step(decode, tokens + 1, cached) > base
    assert step(decode, tokens, cached + 1) >= base


def test_splitting_a_prompt_reads_the_cache_again_but_computes_the_same_pairs() -> None:
    cost = RooflineCost(
        [SIMPLE[0]], round_device(flops={"bfloat16": 1e10}), host_step_s=0.0, host_request_s=0.0
    )
    whole = cost.step_time(0, 0, 0, [(1000, 0)], 0)
    halves = cost.step_time(0, 0, 0, [(600, 0)], 0) + cost.step_time(0, 0, 0, [(400, 600)], 0)
    assert halves == pytest.approx(whole, rel=1e-12)  # bound by arithmetic here


def test_the_window_is_reported_and_must_be_one() -> None:
    assert mixed().window == 100
    assert RooflineCost(SIMPLE, round_device()).window is None
    two: list[Operator] = [Attention("a", 1, 1, 64, 64, 256.0, 1, window=w) for w in (128, 256)]
    with pytest.raises(InputError, match=r"different sliding windows: \[128, 256\]"):
        RooflineCost(two, round_device())


def growth(step: Step) -> int:
    """What each later step of a run adds to W: contexts that stay below the window of 100 grow."""
    decode, context, _, count = step
    return decode if context + count <= 100 else 0


def columns(steps: list[Step]) -> StepColumns:
    def ints(values: list[int]) -> np.ndarray:
        return np.array(values, dtype=np.int64)

    # a run with chunks is one step
    runs = [1 if chunks else count for _, _, chunks, count in steps]
    capped = [n * min(context, 100) for n, context, _, _ in steps]
    return StepColumns(
        steps=ints(runs),
        decode=ints([n for n, *_ in steps]),
        context=np.array([float(n * context) for n, context, *_ in steps]),
        window_context=np.array([float(c) for c in capped]),
        window_growth=np.array([float(growth(step)) for step in steps]),
        samples=ints([n + len(chunks) for n, _, chunks, _ in steps]),
        chunk_row=ints([row for row, step in enumerate(steps) for _ in step[2]]),
        chunk_tokens=ints([t for *_, chunks, _ in steps for t, _ in chunks]),
        chunk_context=ints([c for *_, chunks, _ in steps for _, c in chunks]),
    )


@settings(max_examples=60)
@given(STEPS)
def test_breakdown_sums_to_the_time_of_all_steps(steps: list[Step]) -> None:
    cost = mixed()
    total = 0.0
    for decode, context, chunks, count in steps:
        capped = decode * min(context, 100)
        for step in range(1 if chunks else count):
            at = decode * (context + step)
            window = capped + step * growth((decode, context, chunks, count))
            total += cost.step_time(decode, at, window, chunks, decode + len(chunks))
    parts = cost.breakdown(columns(steps))
    assert math.fsum(part.seconds for part in parts) == pytest.approx(total, rel=1e-9)
    for part in parts:
        assert math.fsum(part.bound_seconds.values()) == pytest.approx(part.seconds, rel=1e-12)
        assert set(part.bound_seconds) <= {"compute", "memory", "network", "host"}


def test_breakdown_counts_flops_and_bytes_and_names_the_bound() -> None:
    cost = RooflineCost(SIMPLE, round_device(), host_step_s=1e-3, host_request_s=1e-6)
    attention, gemm, host = cost.breakdown(columns([(2, 10, [], 3), (0, 1, [(1000, 0)], 1)]))
    assert (attention.operator, gemm.operator, host.operator) == ("a", "g", "host")
    assert (attention.kind, gemm.kind, host.kind) == ("attention", "gemm", "host")
    # three steps of 2 rows read the weights three times, one of 1000 rows once
    assert gemm.flops == 2e6 * (3 * 2 + 1000)
    assert gemm.bytes == 4 * 2e6 + (3 * 2 + 1000) * 4e3
    assert gemm.bound_seconds["memory"] == pytest.approx(3 * (2e6 + 8e3) / 1e12)
    assert gemm.bound_seconds["compute"] == pytest.approx(2e9 / 1e14)
    # contexts 20, 22, 24 and the pairs of the prompt
    assert attention.flops == 200 * (66 + 500_500)
    assert host.seconds == pytest.approx(4e-3 + 7e-6)


def test_breakdown_of_nothing_is_zero() -> None:
    assert sum(part.seconds for part in mixed().breakdown(columns([]))) == 0.0


def test_kernel_overhead_counts_as_host_time_and_links_as_network() -> None:
    parts = {part.operator: part for part in mixed().breakdown(columns([(1, 1, [], 1)]))}
    assert parts["norm"].bound_seconds["host"] == pytest.approx(8 * 2e-6)
    assert set(parts["all_reduce"].bound_seconds) == {"network"}


def test_auto_is_the_roofline_and_unknown_kinds_are_refused() -> None:
    assert isinstance(build_cost("auto", SIMPLE, round_device()), RooflineCost)
    assert isinstance(build_cost("roofline", SIMPLE, round_device()), RooflineCost)
    for kind in ("builtin", "rofline"):
        with pytest.raises(InputError, match=f"unknown operator cost '{kind}'") as error:
            build_cost(kind, SIMPLE, round_device())
        assert error.value.where == "performance.operators"


@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf])
def test_impossible_host_times_are_refused(value: float) -> None:
    with pytest.raises(InputError, match="host_step_s"):
        RooflineCost(SIMPLE, round_device(), host_step_s=value)


def test_a_faster_memory_makes_decode_faster_and_prefill_no_slower() -> None:
    slow, fast = (RooflineCost(MIXED, load_device(name)) for name in ("h100-sxm-80gb", "h200-sxm-141gb"))
    assert fast.step_time(8, 8000, 800, (), 8) < slow.step_time(8, 8000, 800, (), 8)
