"""Times that depend on rows alone: GEMMs, layers, collectives from measured tables."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from measured_samples import US, at, installed_tables, llmservingsim_tables, profile, setting, table

from tokensim.cost.tables.curves import RowCurve
from tokensim.cost.tables.gemm import GemmTable
from tokensim.cost.tables.measured import measured_cost
from tokensim.errors import InputError
from tokensim.model.operators import Collective, Elementwise, Gemm, Operator


def test_a_measured_gemm_is_exact_on_its_rows_and_linear_between_them() -> None:
    rows = [(64, 32, 1, 10 * US), (64, 32, 8, 10 * US), (64, 32, 16, 18 * US)]
    time = GemmTable(table("gemm", rows, dtype="bfloat16"), setting(), "s").price(
        Gemm("up", 64, 32, 3, "bfloat16")
    )
    assert time is not None
    assert at(time, 1) == pytest.approx(30 * US)
    assert at(time, 5) == pytest.approx(30 * US)  # the plateau of a memory-bound GEMM stays one
    assert at(time, 12) == pytest.approx(3 * 14 * US)
    assert at(time, 32) == pytest.approx(3 * 34 * US)  # the line from 8 to 16 goes on
    assert [time.origin(m).how for m in (8, 12, 32)] == ["exact", "interpolated", "extrapolated"]


def test_a_gemm_off_the_grid_keeps_the_share_of_the_roofline() -> None:
    device = setting().device
    byte_s = 1 / device.memory_bandwidth_bytes_per_s

    def ideal(n: int, k: int) -> float:
        return (n * k + n + k) * 2 * byte_s

    rows = [(n, 4096, 1, ideal(n, 4096) / share) for n, share in ((4096, 0.5), (16384, 0.7))]
    gemms = GemmTable(table("gemm", rows, dtype="bfloat16"), setting(), "s")
    between = gemms.price(Gemm("up", 8192, 4096, 1, "bfloat16"))
    beyond = gemms.price(Gemm("head", 131072, 4096, 1, "bfloat16"))
    assert between is not None and beyond is not None
    assert at(between, 1) == pytest.approx(ideal(8192, 4096) / 0.6)  # half-way in log n
    assert at(beyond, 1) == pytest.approx(ideal(131072, 4096) / 0.7)
    assert between.origin(1).how == "interpolated"
    assert beyond.origin(1).how == "extrapolated"


def test_a_dtype_that_was_not_measured_is_left_to_the_next_source() -> None:
    cost = measured_cost([profile(gemm=table("gemm", [(64, 32, 1, US)], dtype="bfloat16"))], setting())
    assert cost.price([Gemm("up", 64, 32, 1, "int4"), Elementwise("norm", 100.0, 1)]) == {}
    assert set(cost.price([Gemm("up", 64, 32, 1, "float16")])) == {"up"}  # runs at the rate of bfloat16


def test_times_of_the_host_are_not_taken_for_those_of_a_kernel() -> None:
    rows = [("bfloat16", 64, 32, 1, 2.5 * US), ("fp8_block", 64, 32, 1, 55 * US)]
    cost = measured_cost([profile(gemm=table("gemm", rows))], setting())
    assert cost.price([Gemm("up", 64, 32, 1, "fp8")]) == {}


def test_no_profile_is_refused() -> None:
    with pytest.raises(InputError, match="no measured tables"):
        measured_cost([], setting())


@given(
    st.lists(st.floats(1e-6, 1e-2), min_size=2, max_size=9),
    st.lists(st.floats(1, 1e5), min_size=2, max_size=20),
)
def test_a_curve_is_never_negative_and_never_falls_beyond_its_points(
    seconds: list[float], rows: list[float]
) -> None:
    points = np.array([float(2**i) for i in range(len(seconds))])
    curve = RowCurve(points, np.array(seconds), "s")
    answers = curve.seconds(np.sort(np.array(rows)))
    assert (answers >= 0).all()
    beyond = answers[np.sort(np.array(rows)) >= points[-1]]
    assert (np.diff(beyond) >= 0).all()


def test_layers_of_this_model_are_looked_up_by_name_and_count() -> None:
    rows = [
        ("layernorm", 1, 2 * US),
        ("layernorm", 4, 5 * US),
        ("add", 1, US),
        ("qkv_proj", 1, 7 * US),
        ("lm_head", 1, 9 * US),
    ]
    layers = table("layer", rows, model="acme/tiny", dtype="bfloat16", tensor=1)
    operators: list[Operator] = [
        Elementwise("norm", 1.0, 4),
        Gemm("qkv_proj", 64, 32, 2, "bfloat16"),
        Gemm("lm_head", 99, 32, 1, "bfloat16", "samples"),
        Elementwise("rotary", 1.0, 2),
    ]
    times = measured_cost([profile(layer=layers)], setting()).price(operators)
    assert set(times) == {"norm", "qkv_proj", "lm_head"}
    assert at(times["norm"], 1) == pytest.approx(4 * 3 * US)  # the residual was measured apart
    assert at(times["norm"], 2) == pytest.approx(4 * (3 + 2) * US)  # one point: in proportion
    assert at(times["qkv_proj"], 1) == pytest.approx(14 * US)
    assert measured_cost([profile(layer=layers)], setting(tensor=2)).price(operators) == {}
    assert measured_cost([profile(layer=layers)], setting(model="acme/other")).price(operators) == {}


def test_a_quantised_projection_does_not_take_the_time_of_16_bit_weights() -> None:
    layers = table("layer", [("qkv_proj", 1, US)], model="acme/tiny", dtype="bfloat16", tensor=1)
    cost = measured_cost([profile(layer=layers)], setting())
    assert cost.price([Gemm("qkv_proj", 64, 32, 2, "fp8")]) == {}


def collectives() -> list[tuple[str, str, int, int, float]]:
    mib = 2**20
    return [
        ("all_reduce", "custom_graph", 4, mib, 10 * US),
        ("all_reduce", "custom_graph", 4, 8 * mib, 80 * US),
        ("all_reduce", "custom_graph", 4, 16 * mib, 500 * US),
        ("all_reduce", "custom_eager", 4, mib, 30 * US),
        ("all_reduce", "nccl", 4, mib, 20 * US),
        ("all_reduce", "nccl", 4, 16 * mib, 160 * US),
        ("all_gather", "nccl", 4, mib, 8 * US),
        ("all_gather", "nccl", 4, 2 * mib, 12 * US),
    ]


def reduce_seconds(backends: set[str], mib: int) -> float:
    rows = [row for row in collectives() if row[1] in backends]
    cost = measured_cost([profile(collective=table("collective", rows))], setting())
    return at(cost.price([Collective("reduce", "all_reduce", 2.0**20, 4, 2)])["reduce"], mib)


@pytest.mark.parametrize(("mib", "us"), [(1, 10), (8, 80), (12, 290), (16, 500)])
def test_an_all_reduce_of_any_size_is_the_one_of_the_engines_workers(mib: int, us: float) -> None:
    """They hand large buffers to NCCL themselves, so the table holds that too."""
    every = {"custom_graph", "custom_eager", "nccl"}
    assert reduce_seconds(every, mib) == pytest.approx(2 * us * US)
    assert reduce_seconds({"custom_graph"}, mib) == reduce_seconds(every, mib)


def test_without_it_the_librarys_is_taken_and_what_a_host_launched_last_of_all() -> None:
    assert reduce_seconds({"nccl", "custom_eager"}, 1) == pytest.approx(2 * 20 * US)
    assert reduce_seconds({"custom_eager"}, 1) == pytest.approx(2 * 30 * US)


def test_a_number_of_ranks_that_was_not_measured_is_left_to_the_next_source() -> None:
    cost = measured_cost([profile(collective=table("collective", collectives()))], setting())
    assert cost.price([Collective("reduce", "all_reduce", 1.0, 3, 2)]) == {}  # 3 ranks: not measured


def test_collectives_that_other_links_carry_are_left_to_the_next_source() -> None:
    reduce = Collective("reduce", "all_reduce", 2.0**20, 4, 2)
    of_a_node = setting()
    rewired = replace(of_a_node, own_links=False)
    across = replace(of_a_node, device=replace(of_a_node.device, devices_per_node=2))
    for case in (rewired, across):
        cost = measured_cost([profile(collective=table("collective", collectives()))], case)
        assert cost.price([reduce]) == {}


def test_an_all_gather_is_looked_up_by_the_whole_buffer() -> None:
    cost = measured_cost([profile(collective=table("collective", collectives()))], setting())
    time = cost.price([Collective("gather", "all_gather", 2**18, 4, 1)])["gather"]
    assert at(time, 1) == pytest.approx(8 * US)
    assert at(time, 2) == pytest.approx(12 * US)


@pytest.mark.parametrize(("dtype", "median"), [("bfloat16", 0.04), ("fp8", 0.035)])
def test_h100_gemms_left_out_of_the_grid_are_met(dtype: str, median: float) -> None:
    """Every inner line of n between 1024 and 16384 is left out and interpolated, for k in that range."""
    rows = installed_tables("h100_sxm", ("gemm",)).tables["gemm"]
    rows = rows.filter(rows["dtype"] == dtype)
    lines = [n for n in sorted(set(rows["n"])) if 512 <= n <= 51200]
    errors = []
    for n in lines[1:-1:3]:
        rest = GemmTable(rows.filter(rows["n"] != n), setting(), "s")
        here = rows.filter((rows["n"] == n) & rows["k"].is_between(1024, 16384)).sort("k", "m")
        for (k,), part in here.partition_by("k", as_dict=True).items():
            time = rest.price(Gemm("g", n, int(k), 1, dtype))
            assert time is not None
            assert time.origin(1).how == "interpolated"
            errors.append(np.abs(time.seconds(part["m"].to_numpy()) / part["seconds"].to_numpy() - 1))
    assert np.median(np.concatenate(errors)) < median


def test_every_layer_of_a_measured_model_is_covered(shared: Path) -> None:
    from tokensim.model import load_model
    from tokensim.model.shards import operators

    tables = llmservingsim_tables(shared, "RTX4090/meta-llama/Llama-3.1-8B")
    model = "meta-llama/Llama-3.1-8B"
    ops = operators(load_model(model), "bfloat16", "bfloat16", 1, 1)
    times = measured_cost([tables], setting("rtx-4090-24gb", model=model)).price(ops)
    assert set(times) == {op.name for op in ops}
