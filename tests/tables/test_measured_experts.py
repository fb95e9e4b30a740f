"""Routed experts and latent attention from measured tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from measured_samples import US, at, installed_tables, llmservingsim_tables, profile, setting, table

from tokensim.cost.build import operator_sources
from tokensim.cost.tables.experts import NEAREST_ERROR, ExpertsTable
from tokensim.cost.tables.measured import measured_cost
from tokensim.errors import InputError
from tokensim.hardware import load_device
from tokensim.model import load_model
from tokensim.model.operators import Elementwise, Experts, Gemm, Operator
from tokensim.model.shards import operators

SHAPE = {"dtype": "bfloat16", "hidden": 512, "intermediate": 256, "experts": 8, "top_k": 2}


def op(experts: int = 8, intermediate: int = 256, count: int = 1, replicas: int = 1) -> Experts:
    return Experts("experts", experts, 8, 2, 512, intermediate, 3, count, "bfloat16", replicas)


def spread_rows() -> pl.DataFrame:
    rows = [
        (tensor, expert, spread, tokens, None, factor * tokens * US / (tensor * expert))
        for tensor, expert in ((1, 1), (2, 1), (1, 4))
        for spread, factor in (("balanced", 10), ("power_law_1.01", 20))
        for tokens in (1, 8)
    ]
    return table("experts", rows, **SHAPE)


def test_the_slices_of_a_rank_are_found() -> None:
    source = ExpertsTable(spread_rows(), setting(), "s")
    for operator, divided in ((op(), 1), (op(intermediate=128), 2), (op(experts=2), 4)):
        priced = source.price(operator)
        assert priced is not None
        assert at(priced[0], 8) == pytest.approx(160 * US / divided)
        assert priced[0].origin(8).how == "exact"


def test_replicas_bring_their_tokens_too() -> None:
    priced = ExpertsTable(spread_rows(), setting(), "s").price(op(count=3, replicas=2))
    assert priced is not None
    assert at(priced[0], 4) == pytest.approx(3 * 160 * US)


def test_the_spread_over_experts_can_be_chosen() -> None:
    priced = ExpertsTable(spread_rows(), setting(), "s", "balanced").price(op())
    assert priced is not None
    assert at(priced[0], 8) == pytest.approx(80 * US)
    with pytest.raises(InputError, match=r"power_law_1\.02"):
        ExpertsTable(spread_rows(), setting(), "s", "power_law_1.02")


def test_a_kernel_covers_what_happens_between_its_gemms() -> None:
    ops: list[Operator] = [
        Gemm("router", 8, 512, 1, "bfloat16"),
        op(),
        Elementwise("experts_activation", 9.0, 1),
        Elementwise("experts_combine", 9.0, 1),
    ]
    times = measured_cost([profile(experts=spread_rows())], setting()).price(ops)
    assert set(times) == {"experts", "experts_activation", "experts_combine"}
    assert at(times["experts_combine"], 100) == 0.0


def given_rows() -> pl.DataFrame:
    """100 µs and 10 µs for every expert hit, whatever the tokens; 2 experts come from the cache."""
    rows = [
        (1, 1, "given", tokens, hit, (100 + 10 * hit if hit > 2 else 50) * US)
        for tokens in (1, 4, 64)
        for hit in (2, 4, 6, 8)
    ]
    return table("experts", rows, **SHAPE)


def test_the_expected_number_of_experts_hit_is_looked_up() -> None:
    priced = ExpertsTable(given_rows(), setting(), "s").price(op())
    assert priced is not None
    assert at(priced[0], 1) == pytest.approx(
        120 * US
    )  # two experts, from memory as in a model of many layers
    assert at(priced[0], 3) == pytest.approx((100 + 10 * 8 * (1 - 0.75**3)) * US)
    assert at(priced[0], 64) == pytest.approx(180 * US, rel=1e-6)
    assert "router" in priced[1]


def test_a_layer_that_was_not_measured_is_like_its_nearest() -> None:
    source = ExpertsTable(spread_rows(), setting(), "s")
    priced = source.price(Experts("experts", 8, 8, 2, 512, 512, 3, 1, "bfloat16"))
    assert priced is not None
    assert priced[0].origin(8).how == "extrapolated"
    assert at(priced[0], 8) > 160 * US
    assert source.price(Experts("experts", 8, 8, 2, 512, 512, 3, 1, "fp8")) is None


@pytest.mark.parametrize("operators", ["aiconfigurator", "builtin"])
def test_experts_in_fp8_decode_faster_than_in_bfloat16(operators: str) -> None:
    """Published ones are scaled by blocks; the kernel for one scale a tensor is 4 times slower in tables."""
    if operators == "aiconfigurator":
        installed_tables("h200_sxm", ("experts",))
    here = setting("h200-sxm-141gb", version="0.24.0")
    seconds = []
    for dtype in ("fp8", "bfloat16"):
        op = Experts("experts", 128, 128, 8, 2048, 768, 3, 48, dtype)
        source = operator_sources(operators, here)[0]
        time = source.price([op])["experts"]
        seconds.append(float(time.seconds(np.array([16.0]))[0]))  # type: ignore[union-attr]
    assert seconds[0] < seconds[1]


def test_h100_layers_left_out_are_met_from_other_models() -> None:
    rows = installed_tables("h100_sxm", ("experts",)).tables["experts"]
    rows = rows.filter((rows["dtype"] == "bfloat16") & (rows["distribution"] == "power_law_1.01"))
    few = rows.filter((pl.col("tensor") * pl.col("expert")).is_in([1, 2, 8]))
    model = ["hidden", "intermediate", "experts", "top_k"]
    errors = []
    for (hidden, intermediate, experts, top_k), part in few.partition_by(model, as_dict=True).items():
        rest = few.join(part.select(model).unique(), on=model, how="anti")
        source = ExpertsTable(rest, setting(), "s")
        for (tensor, expert), shard in part.partition_by("tensor", "expert", as_dict=True).items():
            local = Experts(
                "e", experts // expert, experts, top_k, hidden, intermediate // tensor, 3, 1, "bfloat16"
            )
            priced = source.price(local)
            assert priced is not None
            shard = shard.sort("tokens")
            errors.append(
                np.abs(priced[0].seconds(shard["tokens"].to_numpy()) / shard["seconds"].to_numpy() - 1)
            )
    assert np.median(np.concatenate(errors)) < 1.15 * NEAREST_ERROR


def test_every_operator_of_a_measured_expert_model_is_covered(shared: Path) -> None:
    model = "Qwen/Qwen3-30B-A3B-Instruct-2507"
    tables = llmservingsim_tables(shared, f"RTXPRO6000/{model}")
    ops = operators(load_model(model), "bfloat16", "bfloat16", 1, 1)
    times = measured_cost([tables], setting("rtx-pro-6000-96gb", model=model)).price(ops)
    assert set(times) == {op.name for op in ops} - {"router_top_k"}, "the experts hit were set"


def test_a_rank_with_a_part_of_the_experts_is_as_busy_as_all_with_that_part_of_the_tokens() -> None:
    """Two replicas of 50 tokens, 4 of 8 experts here: all 4 are hit, and half of the 200 visits stay.

    The other 100 pass through activation (three widths) and weighted sum (two hidden vectors), 2 bytes each.
    """
    rows = [
        (1, 1, "given", tokens, hit, (100 * hit + tokens) * US)
        for tokens in (1, 10, 50, 100, 200)
        for hit in (2, 4, 8)
    ]
    half = ExpertsTable(table("experts", rows, **SHAPE), setting(), "s").price(op(experts=4, replicas=2))
    assert half is not None
    elsewhere = 100 * (3 * 256 + 2 * 512) * 2 / load_device("h100-sxm-80gb").memory_bandwidth_bytes_per_s
    assert at(half[0], 50) == pytest.approx((400 + 50) * US + elsewhere, rel=1e-9)


def test_ranks_wait_for_the_one_with_the_most_experts_hit() -> None:
    rows = [(1, 1, "given", tokens, hit, hit * US) for tokens in (1, 100) for hit in (2, 4, 8)]
    source = ExpertsTable(table("experts", rows, **SHAPE), setting(), "s")
    whole, half = source.price(op()), source.price(op(experts=4, replicas=2))
    assert whole is not None and half is not None
    hit = 8 * (1 - 0.75**4)
    assert at(whole[0], 4) == pytest.approx(hit * US, rel=1e-3)
    assert at(half[0], 2) > hit / 2 * US * 1.1


def test_a_step_of_equal_decodes_takes_what_the_latent_module_took() -> None:
    """The module is taken apart and put together again."""
    tables = installed_tables("h100_sxm", ("gemm", "mla_prefill", "mla_decode", "mla_bmm"))
    ops = operators(load_model("deepseek-ai/DeepSeek-V3"), "bfloat16", "bfloat16", 8, 1)
    times = measured_cost([tables], setting(tensor=8)).price(ops)
    inside = ("q_a_proj", "q_b_proj", "kv_a_proj", "q_absorb", "v_up_proj", "o_proj")
    module = tables.tables["mla_decode"].filter(
        (pl.col("heads") == 16) & (pl.col("kv_dtype") == "bfloat16") & (pl.col("gemm_dtype") == "bfloat16")
    )
    layers = 61
    for batch in (1, 16, 128):
        curve = times["attention"].decode(batch)  # type: ignore[union-attr]
        for context, seconds in (
            module.filter(pl.col("batch") == batch).select("context", "seconds").iter_rows()
        ):
            total = float(np.interp(context, curve.contexts, curve.seconds))
            total += sum(at(times[name], batch) for name in inside)
            assert total == pytest.approx(layers * seconds, rel=0.02)
    assert at(times["kv_a_norm"], 64) == 0.0
