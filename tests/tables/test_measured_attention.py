"""Attention from measured tables of decodes and full prefills."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from measured_samples import US, installed_tables, llmservingsim_tables, setting, table

from tokensim.cost.base import DecodeCurve
from tokensim.cost.tables.attention import MIXED_ERROR, AttentionTables, TableAttention
from tokensim.cost.tables.grids import PrefillGrid
from tokensim.model.operators import Attention

SHAPE = {"kv_dtype": "bfloat16", "heads": 8, "kv_heads": 2, "head_dim": 64, "window": 0}


def op(
    heads: int = 8, kv_heads: int = 2, dim: int = 64, count: int = 1, window: int | None = None
) -> Attention:
    return Attention("attention", heads, kv_heads, dim, dim, 4.0 * kv_heads * dim, count, window)


def tables(device: str = "h100-sxm-80gb") -> AttentionTables:
    """Decode: 10 µs + 0.01 µs a token of context; prefill: 10 µs + pairs / 1000 µs."""
    decode = [(b, x, (10 + 0.01 * b * x) * US) for b in (1, 2, 4, 8) for x in (100, 1000, 10_000)]
    prefill = [(b, t, 0, (10 + b * t * t / 1000) * US) for b in (1, 4) for t in (1, 128, 1024, 4096)]
    return AttentionTables(
        table("decode_attention", decode, **SHAPE),
        table("prefill_attention", prefill, **SHAPE),
        setting(device),
        "s",
    )


def priced(source: AttentionTables, attention: Attention) -> TableAttention:
    time = source.price(attention)
    assert time is not None
    return time


def value(curve: DecodeCurve, context: float) -> float:
    return float(np.interp(context, curve.contexts, curve.seconds))


def test_decodes_are_linear_in_requests_and_in_context() -> None:
    time = priced(tables(), op(count=3))
    assert value(time.decode(2), 1000) == pytest.approx(3 * 30 * US)
    assert value(time.decode(3), 550) == pytest.approx(3 * (10 + 0.01 * 3 * 550) * US)
    assert value(time.decode(16), 1000) == pytest.approx(3 * 170 * US)  # beyond the largest batch
    assert time.origin((), 2, 2000.0, 0.0).how == "exact"
    assert time.origin((), 3, 2000.0, 0.0).how == "interpolated"
    assert time.origin((), 16, 2000.0, 0.0).how == "extrapolated"
    assert time.origin((), 2, 40_000.0, 0.0).how == "extrapolated"


def test_a_context_that_did_not_fit_in_memory_goes_on_in_a_line() -> None:
    rows = [(1, x, (10 + 0.01 * x) * US) for x in (100, 1000, 10_000)]
    rows += [(2, x, (10 + 0.02 * x) * US) for x in (100, 1000)]
    prefill = [(1, t, 0, (10 + t) * US) for t in (1, 128)]
    source = AttentionTables(
        table("decode_attention", rows, **SHAPE), table("prefill_attention", prefill, **SHAPE), setting(), "s"
    )
    assert value(priced(source, op()).decode(2), 10_000) == pytest.approx(210 * US)


def test_a_measured_prefill_is_met_and_its_launch_is_paid_once() -> None:
    time = priced(tables(), op())
    one = time.mixed([(1024, 0)], 0, 0.0, 0.0)
    assert one == pytest.approx((10 + 1024**2 / 1000) * US)
    assert time.origin([(1024, 0)], 0, 0.0, 0.0).how == "exact"
    assert time.origin([(1000, 0)], 0, 0.0, 0.0).how == "interpolated"
    assert time.origin([(4096, 4096)], 0, 0.0, 0.0).how == "extrapolated"
    four = time.mixed([(1024, 0)] * 4, 0, 0.0, 0.0)
    assert four == pytest.approx((10 + 4 * 1024**2 / 1000) * US, rel=2e-3)
    assert four < 4 * one
    beside = time.mixed([(1024, 0)], 2, 2000.0, 0.0)
    assert beside == pytest.approx(one + 20 * US, rel=2e-3)


def test_a_chunk_after_a_cached_prefix_pays_for_its_own_pairs() -> None:
    time = priced(tables(), op())
    first = time.mixed([(1024, 0)], 0, 0.0, 0.0)
    second = time.mixed([(1024, 1024)], 0, 0.0, 0.0)
    whole = time.mixed([(2048, 0)], 0, 0.0, 0.0)
    launch = 9 * US  # nine tenths of the shortest call
    assert first + second - launch == pytest.approx(whole, rel=1e-3)
    assert second == pytest.approx((10 + (2048**2 - 1024**2) / 1000) * US, rel=1e-2)


def test_a_short_chunk_is_not_faster_than_reading_its_context() -> None:
    time = priced(tables(), op())
    assert time.mixed([(1, 99_999)], 0, 0.0, 0.0) >= 1000 * US  # what a decode of that context takes


def test_heads_that_were_not_measured_take_the_work_of_those_that_were() -> None:
    measured, twice = priced(tables(), op()), priced(tables(), op(heads=16, kv_heads=4))
    assert value(twice.decode(2), 1000) == pytest.approx(value(measured.decode(4), 1000))
    assert twice.mixed([(2048, 0)], 0, 0.0, 0.0) == pytest.approx((10 + 2 * 2048**2 / 1000) * US, rel=0.01)
    assert twice.origin((), 2, 2000.0, 0.0).how == "interpolated"
    assert tables().price(op(dim=96)) is None


def test_a_window_that_was_not_measured_caps_what_a_query_sees() -> None:
    full, capped = priced(tables(), op()), priced(tables(), op(window=1024))
    assert capped.mixed([(1024, 0)], 0, 0.0, 0.0) == pytest.approx(full.mixed([(1024, 0)], 0, 0.0, 0.0))
    each = 2 * 1024 / 1000 * US  # seconds of a query at position 1024
    assert capped.mixed([(1024, 4096)], 0, 0.0, 0.0) == pytest.approx(10 * US + 1024 * each, rel=0.02)


@given(
    st.lists(st.tuples(st.integers(1, 4096), st.integers(0, 20_000)), min_size=1, max_size=6),
    st.integers(0, 64),
    st.floats(1, 5000),
)
def test_more_chunks_and_decodes_never_take_less(
    chunks: list[tuple[int, int]], requests: int, mean: float
) -> None:
    time = priced(tables(), op())
    alone = time.mixed(chunks, 0, 0.0, 0.0)
    beside = time.mixed(chunks, requests, requests * mean, mean)
    assert 0 < alone <= beside * (1 + 1e-9)
    assert beside <= alone + value(time.decode(max(1, requests)), mean) + 1e-3


def test_work_that_grows_quadratically_is_interpolated_without_error() -> None:
    lengths = np.array([1.0, 100, 1000, 5000])
    grid = PrefillGrid((np.ones(4), lengths, 1e-5 + 1e-8 * lengths + 1e-11 * lengths**2))
    assert grid.work(3000) - grid.work(2000) == pytest.approx(
        1e-8 * 1000 + 1e-11 * (3000**2 - 2000**2), rel=0.01
    )


@cache
def h100(kind: str) -> pl.DataFrame:
    both = ("prefill_attention", "decode_attention")
    rows = installed_tables("h100_sxm", both).tables[kind]
    return rows.filter((rows["kv_dtype"] == "bfloat16") & (rows["head_dim"] == 128) & (rows["window"] == 0))


def test_h100_prefills_of_every_batch_are_met() -> None:
    """The decomposition (launch, work, filling of the device), on every shape with head size 128."""
    source = AttentionTables(h100("decode_attention"), h100("prefill_attention"), setting(), "s")
    errors = []
    for (heads, kv_heads), part in (
        h100("prefill_attention").partition_by("heads", "kv_heads", as_dict=True).items()
    ):
        time = source.price(op(int(heads), int(kv_heads), 128))
        if time is None:
            continue
        for batch, tokens, seconds in part.select("batch", "tokens", "seconds").iter_rows():
            if tokens > 1 and batch * tokens <= 32768:
                guess = time.mixed([(tokens, 0)] * batch, 0, 0.0, 0.0) if batch <= 32 else None
                if guess is not None:
                    errors.append(abs(guess / seconds - 1))
    assert np.median(errors) < 1.2 * MIXED_ERROR


def test_h100_decodes_left_out_of_the_grid_are_met() -> None:
    """Every inner batch is left out and interpolated from those beside it."""
    rows = h100("decode_attention").filter(pl.col("heads").is_in([8, 32, 40, 64]) & (pl.col("kv_heads") == 8))
    errors = []
    for batch in (4, 16, 64, 128):
        source = AttentionTables(
            rows.filter(pl.col("batch") != batch), h100("prefill_attention"), setting(), "s"
        )
        for (heads,), part in (
            rows.filter(pl.col("batch") == batch).partition_by("heads", as_dict=True).items()
        ):
            curve = priced(source, op(int(heads), 8, 128)).decode(batch)
            errors += [abs(value(curve, x) / s - 1) for x, s in part.select("context", "seconds").iter_rows()]
    assert np.median(errors) < 0.04


def test_kernels_that_do_not_split_contexts_walk_them(shared: Path) -> None:
    """Tables of pure decodes and full prefills, against mixed calls that somebody else measured on such a
    device: chunks after a prefix, and decodes beside chunks, of which the tables know nothing."""
    both = ("prefill_attention", "decode_attention")
    source = installed_tables("rtx_pro_6000_server", both).tables
    found = AttentionTables(
        source["decode_attention"], source["prefill_attention"], setting("rtx-pro-6000-96gb"), "s"
    )
    time = priced(found, op(32, 8, 128))
    measured = llmservingsim_tables(shared, "RTXPRO6000/meta-llama/Llama-3.1-8B").tables["mixed_attention"]
    chunks: list[float] = []
    mixed: list[float] = []
    columns = ("tokens", "cached", "decodes", "context", "seconds")
    for tokens, cached, decodes, context, seconds in (
        measured.filter(pl.col("tokens") > 0).select(columns).iter_rows()
    ):
        guess = time.mixed([(tokens, cached)], decodes, float(decodes * context), float(context))
        (mixed if decodes else chunks).append(abs(guess / seconds - 1))
    assert np.median(chunks) < 0.08
    assert np.median(mixed) < 0.12
