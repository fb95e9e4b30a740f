"""The shipped model as a source: who is priced, by whose coefficients, and how its answers fit together."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokensim.cost.base import AttentionTime, DecodeCurve, RowTime, Setting
from tokensim.cost.builtin import Builtin
from tokensim.cost.builtin.coefficients import NEAREST, lenders, measured
from tokensim.errors import InputError
from tokensim.hardware import catalog_names, load_device
from tokensim.hardware.base import Device
from tokensim.model.operators import Attention, Collective, Elementwise, Experts, Gemm, Operator
from tokensim.registry import register

ATTENTION = Attention("attention", 40, 8, 128, 128, 4096.0, 40)
WINDOWED = dataclasses.replace(ATTENTION, name="attention_window", window=1024)
LATENT = Attention("latent", 16, 1, 576, 512, 1152.0, 61, prefill_dims=(192, 128))
QKV = Gemm("qkv_proj", 7168, 5120, 40, "bfloat16")
EXPERTS = Experts("experts", 128, 128, 8, 2048, 768, 3, 48, "bfloat16")
NORM = Elementwise("norm", 40960.0, 80)
REDUCE = Collective("all_reduce", "all_reduce", 10240.0, 2, 80)
DENSE: list[Operator] = [QKV, EXPERTS, ATTENTION, WINDOWED, LATENT, NORM]

GPUS = [name for name in catalog_names() if load_device(name).kind == "gpu"]
OTHERS = [name for name in catalog_names() if load_device(name).kind != "gpu"]
MEASURED = sorted(measured())


def source(device: str | Device, **setting: str) -> Builtin:
    found = load_device(device) if isinstance(device, str) else device
    return Builtin(Setting(found, "test", **setting))  # type: ignore[arg-type]


def rows_of(built: Builtin, op: Operator) -> RowTime:
    time = built.price([op])[op.name]
    assert not isinstance(time, dict)
    return time  # type: ignore[return-value]


def attention_of(built: Builtin, op: Attention) -> AttentionTime:
    return built.price([op])[op.name]  # type: ignore[return-value]


def at(curve: DecodeCurve, context: float) -> float:
    return float(np.interp(context, curve.contexts, curve.seconds))


def test_it_is_registered() -> None:
    assert register.operator_cost.get("builtin") is Builtin


@pytest.mark.parametrize("name", GPUS)
def test_every_gpu_of_the_catalog_gets_an_answer_for_every_operator(name: str) -> None:
    device = load_device(name)
    times = source(device, activation_dtype="float16").price(DENSE)
    assert set(times) == {op.name for op in DENSE}
    for op in DENSE:
        time = times[op.name]
        if isinstance(op, Attention):
            curve = time.decode(16)  # type: ignore[union-attr]
            assert all(s > 0 and math.isfinite(s) for s in curve.seconds)
            assert time.mixed([(512, 0), (16, 4000)], 8, 8000.0, 2000.0) > 0  # type: ignore[union-attr]
            origin = time.origin([], 16, 16000.0, 1000.0)  # type: ignore[union-attr,call-arg]
        else:
            seconds = time.seconds(np.array([1.0, 64.0, 2048.0]))  # type: ignore[union-attr]
            assert np.all(seconds > 0) and np.all(np.isfinite(seconds))
            origin = time.origin(64.0)  # type: ignore[union-attr,call-arg]
        assert origin.how == "fitted"
        assert origin.error is not None and 0 < origin.error < 0.4


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_not_a_gpu_is_left_to_the_roofline(name: str) -> None:
    assert source(name).price([*DENSE, REDUCE]) == {}


@pytest.mark.parametrize("name", MEASURED)
def test_a_measured_device_says_its_own_name(name: str) -> None:
    assert rows_of(source(name), QKV).origin(1.0).source == f"builtin ({name})"


@pytest.mark.parametrize(
    ("name", "lender"),
    [
        ("rtx-4090-24gb", "l40s-48gb"),
        ("h20-96gb", "h"),
        ("rtx-5090-32gb", "rtx-pro-6000-96gb"),
        ("v100-sxm-32gb", "a100-sxm-80gb"),
        ("mi300x-192gb", "h"),
        ("mi355x-288gb", "gb200-186gb"),
    ],
)
def test_others_borrow_from_the_nearest_architecture_and_say_so(name: str, lender: str) -> None:
    origin = rows_of(source(name, activation_dtype="float16"), QKV).origin(1.0)
    assert origin.source.startswith(f"builtin (coefficients of {lender}")
    assert origin.source.endswith("nearest architecture)")


def test_every_stand_in_is_an_architecture_that_was_measured() -> None:
    known = {one.reference.architecture for one in measured().values()}
    assert {stand_in for stand_in, _ in NEAREST.values()} <= known
    assert all(lenders(load_device(name)) for name in GPUS)


def test_a_gpu_of_an_unknown_architecture_is_left_to_the_roofline() -> None:
    device = dataclasses.replace(load_device("h100-sxm-80gb"), id="mine", architecture="of my own")
    assert source(device).price(DENSE) == {}


def test_borrowed_coefficients_follow_the_shares_that_the_catalog_gives() -> None:
    h100 = load_device("h100-sxm-80gb")
    half = dataclasses.replace(
        h100, id="half", efficiency=dataclasses.replace(h100.efficiency, gemm=h100.efficiency.gemm / 2)
    )
    rows = np.array([8192.0])
    ratio = rows_of(source(half), QKV).seconds(rows) / rows_of(source(h100), QKV).seconds(rows)
    assert 1.9 < float(ratio[0]) < 2.2


def test_twice_the_peaks_take_about_half_the_time_of_large_operators() -> None:
    h100 = load_device("h100-sxm-80gb")
    twice = dataclasses.replace(
        h100,
        id="twice",
        flops={dtype: 2 * rate for dtype, rate in h100.flops.items()},
        memory_bandwidth_bytes_per_s=2 * h100.memory_bandwidth_bytes_per_s,
    )
    for rows in (np.array([1.0]), np.array([8192.0])):
        big = dataclasses.replace(QKV, n=40000)
        ratio = rows_of(source(twice), big).seconds(rows) / rows_of(source(h100), big).seconds(rows)
        assert 0.48 < float(ratio[0]) < 0.6


@pytest.mark.parametrize("name", ["h100-sxm-80gb", "b200-sxm-180gb", "l40s-48gb"])
@pytest.mark.parametrize("weights", ["fp8", "int8", "int4", "mxfp4"])
def test_smaller_weights_decode_faster(name: str, weights: str) -> None:
    large = Gemm("gate_up", 34816, 5120, 40, "bfloat16")
    one = np.array([8.0])
    built = source(name)
    small = rows_of(built, dataclasses.replace(large, weight_dtype=weights)).seconds(one)
    assert float(small[0]) < 0.85 * float(rows_of(built, large).seconds(one)[0])


@pytest.mark.parametrize("name", ["a100-sxm-80gb", "h100-sxm-80gb", "b200-sxm-180gb"])
def test_a_smaller_cache_decodes_faster_where_it_is_read(name: str) -> None:
    full = attention_of(source(name), ATTENTION).decode(64)
    eight = dataclasses.replace(ATTENTION, kv_bytes_per_token=2048.0)
    assert at(attention_of(source(name, kv_dtype="fp8"), eight).decode(64), 8000) < 0.8 * at(full, 8000)


@pytest.mark.parametrize("name", MEASURED)
def test_counts_multiply(name: str) -> None:
    rows = np.array([1.0, 100.0])
    for op in (QKV, EXPERTS, NORM, REDUCE):
        once = rows_of(source(name), dataclasses.replace(op, count=1)).seconds(rows)
        assert rows_of(source(name), op).seconds(rows) == pytest.approx(op.count * once)
    once_ = dataclasses.replace(ATTENTION, count=1)
    one, all_ = attention_of(source(name), once_), attention_of(source(name), ATTENTION)
    assert np.array(all_.decode(3).seconds) == pytest.approx(40 * np.array(one.decode(3).seconds))
    chunks = [(100, 0), (7, 900)]
    assert all_.mixed(chunks, 3, 900.0, 400.0) == pytest.approx(40 * one.mixed(chunks, 3, 900.0, 400.0))


@pytest.mark.parametrize("name", MEASURED)
@pytest.mark.parametrize("op", [ATTENTION, WINDOWED, LATENT], ids=lambda op: op.name)
def test_straight_lines_between_the_knots_are_within_half_a_percent(name: str, op: Attention) -> None:
    built = attention_of(source(name), op)
    for requests in (1, 16, 256):
        curve = built.decode(requests)
        assert len(curve.contexts) < 60
        contexts = np.arange(1.0, min(op.window or 60000, 60000), 7.0)
        layer = built._layer  # type: ignore[attr-defined]
        shape = (layer.heads, layer.kv_heads, layer.decode_size, layer.token_bytes)
        exact = op.count * built._form.seconds(requests, contexts, *shape, *built._rates)  # type: ignore[attr-defined]
        line = np.interp(contexts, curve.contexts, curve.seconds)
        assert np.abs(line / exact - 1).max() < 0.005


@settings(deadline=None)
@given(
    name=st.sampled_from(MEASURED),
    op=st.sampled_from([ATTENTION, WINDOWED, LATENT]),
    chunks=st.lists(st.tuples(st.integers(1, 8192), st.integers(0, 30000)), min_size=1, max_size=5),
)
def test_a_call_over_plain_numbers_is_that_over_arrays(
    name: str, op: Attention, chunks: list[tuple[int, int]]
) -> None:
    built = attention_of(source(name), op)
    law, layer = built._law, built._layer  # type: ignore[attr-defined]
    form = law.form
    new, cached = np.array(chunks, dtype=float).T
    longest = np.minimum(new + cached, layer.window + form.window_tokens).max()
    sums = (
        form.pairs(new, cached, np.float64(layer.window)).sum(),
        new.sum(),
        np.minimum(new + cached, layer.window + new).sum(),
        float(len(chunks)),
        longest,
    )
    assert built.mixed(chunks, 0, 0.0, 0.0) == pytest.approx(op.count * float(law.seconds(*sums)))


@settings(deadline=None)
@given(
    name=st.sampled_from(GPUS),
    op=st.sampled_from([ATTENTION, WINDOWED, LATENT]),
    chunk=st.tuples(st.integers(1, 8192), st.integers(0, 30000)),
    requests=st.integers(0, 300),
    more=st.integers(1, 2000),
)
def test_more_work_never_takes_less(
    name: str, op: Attention, chunk: tuple[int, int], requests: int, more: int
) -> None:
    built = attention_of(source(name), op)
    context = min(2000, op.window or 2000) * float(requests)
    base = built.mixed([chunk], requests, context, 2000.0)
    tokens, cached = chunk
    assert built.mixed([(tokens + more, cached)], requests, context, 2000.0) >= base * (1 - 1e-9)
    assert built.mixed([(tokens, cached + more)], requests, context, 2000.0) >= base * (1 - 1e-9)
    assert built.mixed([chunk, (more, 0)], requests, context, 2000.0) >= base * (1 - 1e-9)


def test_a_window_makes_long_prompts_cheaper() -> None:
    built = source("h100-sxm-80gb")
    full, windowed = attention_of(built, ATTENTION), attention_of(built, WINDOWED)
    assert windowed.mixed([(8192, 0)], 0, 0, 0) < 0.5 * full.mixed([(8192, 0)], 0, 0, 0)


def test_decode_and_prefill_tell_their_own_errors() -> None:
    built = attention_of(source("h100-sxm-80gb"), ATTENTION)
    fits = measured()["h100-sxm-80gb"].fits
    assert built.origin([], 4, 400.0, 100.0).error == fits["decode"]["bfloat16"].error
    assert built.origin([(100, 0)], 4, 400.0, 100.0).error == fits["prefill"]["bfloat16"].error


def test_collectives_are_priced_where_they_were_measured_alone() -> None:
    assert rows_of(source("h100-sxm-80gb"), REDUCE).origin(1.0).error is not None
    assert source("h100-sxm-80gb").price([dataclasses.replace(REDUCE, ranks=3)]) == {}
    assert source("h100-pcie-80gb").price([REDUCE]) == {}


def test_an_all_gather_is_of_what_all_ranks_bring() -> None:
    built = source("h100-sxm-80gb")
    gather = Collective("gather", "all_gather", 1e6, 4, 1)
    form = measured()["h100-sxm-80gb"].fits["all_gather"]["4"].form
    expected = form.seconds(np.array([4e6]))  # type: ignore[union-attr,call-arg]
    assert rows_of(built, gather).seconds(np.array([1.0])) == pytest.approx(expected)


def test_sampling_is_several_kernels() -> None:
    built = source("rtx-4090-24gb")
    one = np.array([1.0])
    other = rows_of(built, Elementwise("logits", 128256 * 34.0, 1)).seconds(one)
    sampling = rows_of(built, Elementwise("sampling", 128256 * 34.0, 1)).seconds(one)
    assert 15e-6 < float(sampling[0]) < 45e-6  # 25 µs in the profile of that card
    assert float(sampling[0]) > 2 * float(other[0])


def test_an_unknown_weight_format_is_refused() -> None:
    with pytest.raises(InputError, match="unknown weight format 'bf61'"):
        source("h100-sxm-80gb").price([dataclasses.replace(QKV, weight_dtype="bf61")])


def test_an_unknown_cache_format_is_refused() -> None:
    with pytest.raises(InputError, match="unknown KV cache format"):
        source("h100-sxm-80gb", kv_dtype="fp9")


def test_collectives_are_fitted_for_the_links_of_one_node() -> None:
    reduce = Collective("reduce", "all_reduce", 8192.0, 8, 32)
    device = load_device("h100-sxm-80gb")
    assert "reduce" in source(device).price([reduce])
    assert Builtin(Setting(device, "test", own_links=False)).price([reduce]) == {}
    assert source(dataclasses.replace(device, devices_per_node=4)).price([reduce]) == {}
