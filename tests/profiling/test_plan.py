"""A plan has the shapes that a model's steps need; what a session makes of it works in the cost layer."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from fake_bench import BYTES_S, FLOPS, POLICY, FakeBench, facts, roofline

from tokensim.cost import Setting
from tokensim.cost.tables.find import list_tables, open_tables
from tokensim.cost.tables.measured import measured_cost
from tokensim.hardware import load_device
from tokensim.model import load_model
from tokensim.model.operators import Attention, Collective, Elementwise, Experts, Gemm
from tokensim.model.shards import operators
from tokensim.profiling.compare import compare, device_of, profiles_of
from tokensim.profiling.generic import generic_plan
from tokensim.profiling.output import DEVICE_FILE
from tokensim.profiling.plan import Extent, Plan, model_plan, spaced
from tokensim.profiling.run import REFINED, Request, expected, measure
from tokensim.profiling.shapes import Shape, work
from tokensim.profiling.store import STORE_FILE

LLAMA = "meta-llama/Llama-3.1-8B"
MIXTRAL = "mistralai/Mixtral-8x7B-v0.1"
SMALL = Extent(tokens=512, seqs=16, context=1024)


def shapes(plan: Plan, kind: str) -> list[Shape]:
    return [shape for shape in plan.coarse() if shape.kind == kind]


def test_every_gemm_of_the_model_is_planned_with_its_rows() -> None:
    plan = model_plan(load_model(LLAMA), facts(), Extent(), ["bfloat16"], tensor=2)
    planned = {(s["n"], s["k"]) for s in shapes(plan, "gemm")}
    ops = operators(load_model(LLAMA), "bfloat16", "bfloat16", 2, 1)
    assert planned == {(op.n, op.k) for op in ops if isinstance(op, Gemm)}
    rows = {(s["n"], s["k"]): s["m"] for s in shapes(plan, "gemm")}
    assert max(s["m"] for s in shapes(plan, "gemm") if s["n"] == 3072) == 8192  # a rank's QKV projection
    assert rows[128_256 // 2, 4096] == 256  # logits of one row a sequence


def test_quantised_weights_are_planned_beside_those_that_stay_in_16_bits() -> None:
    there = facts(dtypes=("bfloat16", "fp8"), lacking={})
    plan = model_plan(load_model(LLAMA), there, SMALL, ["fp8"])
    assert {s["dtype"] for s in shapes(plan, "gemm")} == {"fp8", "bfloat16"}
    assert {(s["n"], s["dtype"]) for s in shapes(plan, "gemm") if s["n"] == 128_256} == {
        (128_256, "bfloat16")
    }


def test_what_a_device_lacks_is_said() -> None:
    plan = model_plan(load_model(LLAMA), facts(), SMALL, ["fp8"])
    assert "fp8 is not measured: not on this device (no units for it)" in plan.notes
    assert {s["dtype"] for s in shapes(plan, "gemm")} == {"bfloat16"}


def test_collectives_are_planned_where_there_are_as_many_devices() -> None:
    two = model_plan(load_model(LLAMA), facts(), SMALL, ["bfloat16"], tensor=2)
    sizes = [s["bytes"] for s in shapes(two, "collective") if s["collective"] == "all_reduce"]
    assert sizes[0] == 4096 * 2  # the hidden vector of a token
    assert sizes[-1] == 512 * 4096 * 2
    four = model_plan(load_model(LLAMA), facts(), SMALL, ["bfloat16"], tensor=4)
    assert not shapes(four, "collective")
    assert "collectives of 4 ranks are not measured: there are 2 here" in four.notes


def test_experts_are_planned_as_the_tables_have_them() -> None:
    plan = model_plan(load_model(MIXTRAL), facts(), SMALL, ["bfloat16"], tensor=2)
    assert {(s["experts"], s["intermediate"], s["tensor"], s["expert"]) for s in shapes(plan, "experts")} == {
        (8, 14336, 2, 1)
    }


def test_shapes_that_do_not_fit_in_memory_are_left_out() -> None:
    large = model_plan(load_model(LLAMA), facts(), Extent(), ["bfloat16"])
    small = model_plan(load_model(LLAMA), facts(memory_bytes=4e9), Extent(), ["bfloat16"])
    assert max(work(s).operands for s in small.coarse()) <= 0.4 * 4e9
    assert len(small.coarse()) < len(large.coarse())


def test_operators_can_be_chosen() -> None:
    plan = model_plan(load_model(LLAMA), facts(), SMALL, ["bfloat16"]).only(["attention"])
    assert {s.kind for s in plan.coarse()} == {"prefill_attention", "decode_attention"}


def test_calls_of_chunks_and_decodes_are_planned_where_a_kernel_takes_them() -> None:
    with_kernel = facts(kernels={"collective": "nccl", "mixed_attention": "FlashAttention"})
    plan = model_plan(load_model(LLAMA), with_kernel, SMALL, ["bfloat16"])
    mixed = shapes(plan, "mixed_attention")
    assert {s["decodes"] for s in mixed} == {0, 1, 16}
    assert {s["cached"] for s in mixed} == {0, 512}


def test_a_plan_for_any_model_covers_the_sizes_of_the_catalog() -> None:
    plan = generic_plan(facts(), Extent(), ["bfloat16"])
    sizes = {(s["n"], s["k"]) for s in shapes(plan, "gemm")}
    for name in (LLAMA, "Qwen/Qwen3-32B"):
        for op in operators(load_model(name), "bfloat16", "bfloat16", 1, 1):
            if isinstance(op, Gemm) and op.n < 131_072:
                assert min(n for n, _ in sizes) <= op.n <= max(n for n, _ in sizes)
                assert min(k for _, k in sizes) <= op.k <= max(k for _, k in sizes)


def test_coarse_points_are_spaced_by_a_factor() -> None:
    assert spaced(1, 8192) == (1, 4, 16, 64, 256, 1024, 4096, 8192)
    assert spaced(1, 5000) == (1, 4, 16, 64, 256, 1024, 5000)
    assert spaced(3, 3) == (3,)
    assert all(b / a <= 6 for a, b in pairwise(spaced(16, 100_000)))


@pytest.mark.parametrize("name", [LLAMA, MIXTRAL])
def test_the_cost_layer_gives_back_what_was_measured(name: str, tmp_path: Path) -> None:
    """Every operator of a step on two ranks, exactly at the measured shapes and well between them."""
    bench, model = FakeBench(cost_s=0.0, kind="cpu"), load_model(name)
    plan = model_plan(model, bench.facts, SMALL, ["bfloat16"], tensor=2)
    outcome, paths = measure(bench, plan, Request(tmp_path / "p"), POLICY)
    assert outcome.complete
    assert {path.name for path in paths} == {"fake-1-torch-bfloat16.parquet", DEVICE_FILE}
    setting = Setting(load_device(tmp_path / "p" / DEVICE_FILE), model.name, tensor=2)
    cost = measured_cost(open_tables(str(tmp_path / "p"), setting), setting)
    ops = operators(model, "bfloat16", "bfloat16", 2, 1)
    times = cost.price(ops)
    unknown = {op.name for op in ops} - times.keys()
    assert unknown <= {"router_top_k"}
    for op in ops:
        if op.name in unknown or op.name in ("experts_activation", "experts_combine"):
            continue
        time = times[op.name]
        if isinstance(op, Attention):
            _check_attention(op, time)
            continue
        most = SMALL.tokens if getattr(op, "rows", "tokens") == "tokens" else SMALL.seqs
        for rows, tolerance in ((1, 1e-6), (most, 1e-6), (most // 3, 0.06)):
            true = op.count * roofline(_shape_of(op, rows))
            assert time.seconds(np.array([float(rows)]))[0] == pytest.approx(true, rel=tolerance), op
            assert time.origin(float(rows)).how in ("exact", "interpolated")


def _shape_of(op: object, rows: int) -> Shape:
    match op:
        case Gemm():
            return Shape.of("gemm", dtype="bfloat16", n=op.n, k=op.k, m=rows)
        case Elementwise():
            return Shape.of(
                "elementwise", operator="norm", dtype="x", row_bytes=round(op.bytes_per_row), rows=rows
            )
        case Collective():
            ranks = op.ranks if op.kind == "all_gather" else 1
            return Shape.of("collective", bytes=round(op.bytes_per_row * ranks * rows))
        case Experts():
            return Shape.of(
                "experts", dtype="bfloat16", hidden=op.hidden, intermediate=2 * op.intermediate,
                experts=op.total_experts, top_k=op.top_k, tensor=2, expert=1, tokens=rows,
            )  # fmt: skip
    raise AssertionError(op)


def _check_attention(op: Attention, time: object) -> None:
    names = {"kv_dtype": "bfloat16", "heads": op.heads, "kv_heads": op.kv_heads, "head_dim": op.qk_dim}
    for batch, context, tolerance in ((1, 16, 1e-6), (16, 1024, 1e-6), (4, 128, 1e-6), (7, 700, 0.06)):
        true = roofline(Shape.of("decode_attention", **names, window=0, batch=batch, context=context))
        assert time.decode(batch).at(context) == pytest.approx(op.count * true, rel=tolerance)  # type: ignore[attr-defined]
    for tokens, tolerance in ((512, 1e-6), (333, 0.06)):
        true = roofline(Shape.of("prefill_attention", **names, window=0, batch=1, tokens=tokens, cached=0))
        found = time.mixed([(tokens, 0)], 0, 0.0, 0.0)  # type: ignore[attr-defined]
        assert found == pytest.approx(op.count * true, rel=tolerance)


def test_the_device_file_holds_what_was_measured(tmp_path: Path) -> None:
    bench = FakeBench(cost_s=0.0)
    plan = model_plan(
        load_model(LLAMA), bench.facts, Extent(tokens=8192, seqs=16, context=1024), ["bfloat16"]
    )
    measure(bench, plan, Request(tmp_path), POLICY)
    device = load_device(tmp_path / DEVICE_FILE)
    assert device.flops["bfloat16"] == pytest.approx(FLOPS, rel=0.01)
    assert device.memory_bandwidth_bytes_per_s == pytest.approx(BYTES_S)
    assert device.memory_bytes == 64e9
    assert device.host_link.bandwidth_bytes_per_s == 20e9
    assert device.profiles == {"tokensim": "fake-1"}
    assert device.tdp_w == 100.0
    assert device.sources["tdp"] == "said so"
    assert set(device.sources) >= {"memory", "flops", "intra_node", "inter_node", "price_per_hour_usd"}


def test_a_device_of_the_catalog_keeps_its_price_and_power(tmp_path: Path) -> None:
    bench = FakeBench(cost_s=0.0, slug="h100-sxm-80gb")
    plan = model_plan(load_model(LLAMA), bench.facts, SMALL, ["bfloat16"])
    measure(bench, plan, Request(tmp_path, base="h100-sxm-80gb"), POLICY)
    device, published = load_device(tmp_path / DEVICE_FILE), load_device("h100-sxm-80gb")
    assert device.price_per_hour_usd == published.price_per_hour_usd
    assert device.tdp_w == published.tdp_w
    assert device.memory_bandwidth_bytes_per_s == pytest.approx(BYTES_S)
    for one in (device, published):  # the tables are found under both
        assert open_tables(str(tmp_path), Setting(one, LLAMA))[0].tables["gemm"].height > 10


def test_the_file_says_how_it_was_measured(tmp_path: Path) -> None:
    bench = FakeBench(cost_s=0.0)
    plan = model_plan(load_model(LLAMA), bench.facts, SMALL, ["bfloat16"])
    measure(bench, plan, Request(tmp_path), POLICY, told=lambda: {"clocks": "observed"})
    (entry,) = list_tables(str(tmp_path))
    profile = entry.read()
    assert profile.engine == "torch"
    assert profile.provenance["driver"] == "1.2"
    assert profile.provenance["clocks"] == "observed"
    assert profile.provenance["throttled"] == "software power cap (3 times)"
    assert profile.provenance["interpolation"].startswith("checked between measured shapes")
    assert "fp8 is not measured: no units for it" in profile.notes
    assert profile.tables["gemm"]["spread"].to_list()[0] == pytest.approx(0.01)


def test_ctrl_c_leaves_what_there_is(tmp_path: Path) -> None:
    bench = FakeBench(interrupt_after=60)
    plan = model_plan(load_model(LLAMA), bench.facts, SMALL, ["bfloat16"])
    outcome, paths = measure(bench, plan, Request(tmp_path), POLICY)
    assert outcome.ended == "interrupted"
    assert not outcome.complete
    assert sum(table.height for table in list_tables(str(tmp_path))[0].read().tables.values()) == 60
    assert (tmp_path / STORE_FILE).is_file()
    assert all(path.is_file() for path in paths)


def test_what_a_plan_takes_is_told_by_kind() -> None:
    bench = FakeBench()
    plan = model_plan(load_model(LLAMA), bench.facts, SMALL, ["bfloat16"])
    expectation = expected(bench, plan, POLICY, "cold")
    assert {kind: count for kind, (count, _) in expectation.kinds.items()} == {
        kind: len(shapes(plan, kind)) for kind in expectation.kinds
    }
    assert 0.0 < expectation.coarse_s < expectation.about_s
    assert expected(bench, plan, POLICY, "both").coarse_s > expectation.coarse_s


def test_refinement_and_checks_of_a_roofline_take_what_is_said(tmp_path: Path) -> None:
    bench = FakeBench(cost_s=0.0)
    plan = model_plan(load_model(LLAMA), bench.facts, Extent(), ["bfloat16"])
    outcome, _ = measure(bench, plan, Request(tmp_path), POLICY)
    assert outcome.complete
    assert max(outcome.checks) < 0.01
    assert len(bench.asked) / len(plan.coarse()) == pytest.approx(1.0 + REFINED, abs=0.1)


def test_calls_of_both_kinds_take_their_decodes_from_those_alone(tmp_path: Path) -> None:
    kernels = {"collective": "nccl", "mixed_attention": "FlashAttention"}
    bench = FakeBench(cost_s=0.0, kind="cpu", kernels=kernels)
    plan = model_plan(load_model(LLAMA), bench.facts, SMALL, ["bfloat16"]).only(["attention"])
    measure(bench, plan, Request(tmp_path), POLICY)
    setting = Setting(load_device(tmp_path / DEVICE_FILE), LLAMA)
    cost = measured_cost(open_tables(str(tmp_path), setting), setting)
    op = Attention("attention", 32, 8, 128, 128, 4096.0, 1)
    time = cost.price([op])["attention"]
    names = {"kv_dtype": "bfloat16", "heads": 32, "kv_heads": 8, "head_dim": 128}
    alone = roofline(Shape.of("decode_attention", **names, window=0, batch=16, context=1024))
    assert time.decode(16).at(1024) == pytest.approx(alone, rel=1e-6)
    both = roofline(Shape.of("mixed_attention", **names, tokens=512, cached=0, decodes=16, context=256))
    assert time.mixed([(512, 0)], 16, 16 * 256.0, 0.0) == pytest.approx(both, rel=1e-6)


def test_tables_differ_by_what_their_devices_do(tmp_path: Path) -> None:
    for name, factor in (("one", 1.0), ("two", 1.25)):
        bench = FakeBench(lambda shape, factor=factor: factor * roofline(shape), cost_s=0.0, kind="cpu")
        plan = model_plan(load_model(MIXTRAL), bench.facts, SMALL, ["bfloat16"], tensor=2)
        measure(bench, plan, Request(tmp_path / name), POLICY)
    one, two = str(tmp_path / "one"), str(tmp_path / "two")
    setting = Setting(device_of((one, two), None), "")
    rows = compare(profiles_of(one, setting), profiles_of(two, setting), setting)
    assert {row.kind for row in rows} == {
        "gemm", "prefill_attention", "decode_attention", "experts", "elementwise", "collective",
    }  # fmt: skip
    for row in rows:
        assert row.compared == row.shapes
        assert row.median == pytest.approx(0.25, abs=0.02 if "attention" in row.kind else 1e-4)
    same = compare(profiles_of(one, setting), profiles_of(one, setting), setting)
    assert all(abs(row.median) < 1e-6 for row in same)
