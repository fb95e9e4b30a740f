"""GenZ behind the public interface. Its model is a roofline too: both must say the same, kernel launches
aside."""

from __future__ import annotations

import importlib.util
import sys
import warnings

import numpy as np
import pytest
from paper_device import round_device

from tokensim.cost.base import AttentionTime, OperatorCost, RowTime, Setting
from tokensim.errors import InputError
from tokensim.hardware import Device, load_device
from tokensim.model.operators import Attention, Collective, Elementwise, Experts, Gemm, Operator

ROWS = np.array([1.0, 3.0, 64.0, 500.0, 2049.0, 8191.0])
FULL = Attention("attention", heads=32, kv_heads=8, qk_dim=128, v_dim=128, kv_bytes_per_token=4096, count=32)


def genz(device: Device, **changes: str) -> OperatorCost:
    if importlib.util.find_spec("GenZ") is None:
        pytest.skip("genz-llm is not installed")
    from tokensim.cost.genz import GenzCost

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what its plotting libraries say of one another
        return GenzCost(Setting(device, "some-model", **changes))  # type: ignore[arg-type]


def rows(cost: OperatorCost, op: Operator) -> RowTime:
    return cost.price([op])[op.name]  # type: ignore[return-value]


def attention(cost: OperatorCost, op: Attention) -> AttentionTime:
    return cost.price([op])[op.name]  # type: ignore[return-value]


def test_a_small_gemm_takes_what_its_traffic_takes() -> None:
    # 1 row: 2 bytes * (1000 * 2000 + 1000 + 2000) at 1 TB/s; 3 layers
    time = rows(genz(round_device()), Gemm("qkv_proj", 1000, 2000, 3, "bfloat16"))
    assert time.seconds(np.array([1.0])) == pytest.approx([3 * 4.006e-6])
    assert time.origin(1).how == "roofline"
    assert time.origin(1).source.startswith("GenZ 0.")


def test_a_large_gemm_takes_what_its_arithmetic_takes() -> None:
    # 2 * 65536 * 4096 * 4096 at 100 TFLOP/s; twice as fast in fp8
    cost = genz(round_device())
    seconds = 2 * 65536 * 4096 * 4096 / 1e14
    half = rows(cost, Gemm("x", 4096, 4096, 1, "bfloat16")).seconds(np.array([65536.0, 262144.0]))
    assert half == pytest.approx([seconds, 4 * seconds])
    fp8 = rows(cost, Gemm("x", 4096, 4096, 1, "fp8")).seconds(np.array([65536.0]))
    assert fp8 == pytest.approx([seconds / 2])


@pytest.mark.parametrize("name", ["h100-sxm-80gb", "mi300x-192gb", "t4-16gb"])
@pytest.mark.parametrize("op", [Gemm("x", 6144, 4096, 32, "bfloat16"), FULL], ids=["gemm", "attention"])
def test_genz_and_the_roofline_agree_where_neither_launches_kernels(name: str, op: Operator) -> None:
    from dataclasses import replace

    from tokensim.cost.roofline import Roofline

    device = load_device(name)
    device = replace(device, efficiency=replace(device.efficiency, kernel_overhead_s=0.0))
    theirs, ours = genz(device).price([op])[op.name], Roofline(Setting(device, "m")).price([op])[op.name]
    if isinstance(op, Gemm):
        assert theirs.seconds(ROWS) == pytest.approx(ours.seconds(ROWS), rel=0.05)  # type: ignore[union-attr]
        return
    for chunks, requests, context in (((), 7, 7000.0), (((4096, 0),), 0, 0.0), (((300, 5000),), 3, 900.0)):
        longest = context / max(requests, 1)
        if not chunks:
            curve = theirs.decode(requests)  # type: ignore[union-attr]
            mine = ours.decode(requests)  # type: ignore[union-attr]
            slope = (mine.seconds[1] - mine.seconds[0]) / (mine.contexts[1] - mine.contexts[0])
            assert np.interp(longest, curve.contexts, curve.seconds) == pytest.approx(
                mine.seconds[0] + slope * longest, rel=0.05
            )
        else:
            expected = ours.mixed(chunks, requests, context, longest)  # type: ignore[union-attr]
            got = theirs.mixed(chunks, requests, context, longest)  # type: ignore[union-attr]
            assert got == pytest.approx(expected, rel=0.1)


def test_a_chunk_looks_back_only() -> None:
    # 4096 queries of 32 heads see 2048.5 keys each on average: 4 * 32 * 128 FLOPs a pair at 100 TFLOP/s
    time = attention(genz(round_device()), FULL)
    pairs = 4096 * 4097 / 2
    assert time.mixed([(4096, 0)], 0, 0.0, 0.0) == pytest.approx(32 * pairs * 4 * 32 * 128 / 1e14, rel=0.01)


def test_experts_that_no_token_is_routed_to_are_not_read() -> None:
    op = Experts("experts", 64, 64, 1, 1024, 2048, 3, 1, "bfloat16")
    one, two = rows(genz(round_device()), op).seconds(np.array([1.0, 2.0]))
    weights = 2 * 3 * 1024 * 2048 / 1e12
    assert one == pytest.approx(weights, rel=0.01)
    assert two == pytest.approx(2 * weights, rel=0.02)


def test_collectives_inside_the_node_are_genz_s_own_formula() -> None:
    # 5 us, 6 hops of 1 us, 2 * 3/4 of 100 MB over 100 GB/s; all at the share that libraries reach
    time = rows(genz(round_device()), Collective("x", "all_reduce", 1e5, 4, 1))
    from tokensim.cost.collectives import LINK_EFFICIENCY

    expected = (5e-6 + 6e-6 + 1.5 * 1e8 / 100e9) / LINK_EFFICIENCY
    assert time.seconds(np.array([1e3])) == pytest.approx([expected], rel=0.01)


def test_a_chunk_reads_all_keys_even_if_its_queries_see_half_of_them() -> None:
    slow_memory = round_device(memory_bandwidth_bytes_per_s=1e10)
    time = attention(genz(slow_memory), FULL)
    keys_and_values = 32 * 256 * 2 * 8 * 128 * 2 / 1e10
    assert time.mixed([(256, 0)], 0, 0.0, 0.0) >= keys_and_values


def test_what_genz_does_not_express_is_left_to_the_next_source() -> None:
    latent = Attention("mla", 128, 1, 576, 512, 1152.0, 61, prefill_dims=(192, 128))
    others = [
        Gemm("weight_only", 4096, 4096, 1, "int4"),
        latent,
        Elementwise("norm", 8192.0, 64),
        Collective("scatter", "reduce_scatter", 8192.0, 4, 1),
        Collective("across_nodes", "all_reduce", 8192.0, 16, 1),
    ]
    assert genz(round_device()).price(others) == {}


def test_without_the_package_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    from tokensim.cost.genz import GenzCost

    for name in ("GenZ", "GenZ.operators"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(InputError, match=r"pip install 'tokensim\[genz\]'"):
        GenzCost(Setting(round_device(), "some-model"))
