"""Attention from a grid of mixed calls, and its skew."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from measured_samples import llmservingsim_tables, setting, table

from tokensim.cost.tables.mixed import MixedAttention, MixedTables
from tokensim.cost.tables.ragged import Ragged
from tokensim.cost.tables.skew import Skew
from tokensim.model.operators import Attention

SHAPE = {"kv_dtype": "bfloat16", "heads": 8, "kv_heads": 2, "head_dim": 64}
OP = Attention("attention", 8, 2, 64, 64, 512.0, 2)


def plane(tokens: float, cached: float, decodes: float, context: float) -> float:
    """Something linear in every axis."""
    return 1e-5 + 1e-7 * tokens + 1e-8 * cached + decodes * (1e-6 + 1e-9 * context)


def rows() -> list[tuple[int, int, int, int, float]]:
    grid = [(0, 0, n, x) for n in (1, 4, 8) for x in (16, 1024)]
    grid += [(t, c, 0, 0) for t in (16, 512) for c in (0, 256)]
    grid += [(t, c, n, x) for t in (16, 512) for c in (0, 256) for n in (1, 4) for x in (16, 1024)]
    return [(*point, plane(*point)) for point in grid]


def mixed(skewed: pl.DataFrame | None = None) -> MixedAttention:
    time = MixedTables(table("mixed_attention", rows(), **SHAPE), skewed, setting(), "s").price(OP)
    assert time is not None
    return time


@given(st.integers(16, 512), st.integers(0, 256), st.integers(0, 8), st.floats(16, 1024))
def test_what_is_linear_in_every_axis_is_met_between_the_points(
    tokens: int, cached: int, decodes: int, context: float
) -> None:
    answer = mixed().mixed([(tokens, cached)], decodes, decodes * context, 0.0)
    assert answer == pytest.approx(2 * plane(tokens, cached, decodes, context))


def test_pure_decodes_have_a_curve_of_their_own() -> None:
    time = mixed()
    curve = time.decode(2)
    assert curve.contexts == (16.0, 1024.0)
    assert curve.seconds == pytest.approx([2 * plane(0, 0, 2, x) for x in (16, 1024)])
    assert curve.skew == 0.0
    assert time.decode(16).seconds == pytest.approx([2 * plane(0, 0, 16, x) for x in (16, 1024)])
    assert time.origin((), 4, 4096.0, 0.0).how == "exact"
    assert time.origin((), 3, 3072.0, 0.0).how == "interpolated"
    assert time.origin((), 9, 9.0, 0.0).how == "extrapolated"
    assert time.origin([(513, 0)], 0, 0.0, 0.0).how == "extrapolated"


def test_several_chunks_are_one_of_equal_tokens_and_pairs() -> None:
    time = mixed()
    # 100 tokens after 120 and 100 after 20: 200 tokens, as many pairs as 200 after 20
    assert time.mixed([(100, 120), (100, 20)], 0, 0.0, 0.0) == pytest.approx(2 * plane(200, 20, 0, 0))
    # two fresh chunks have the pairs of one of 141 tokens
    assert time.mixed([(100, 0), (100, 0)], 0, 0.0, 0.0) == pytest.approx(2 * plane(100 * 2**0.5, 0, 0, 0))


def test_a_chunk_longer_than_any_measured_is_taken_in_pieces() -> None:
    launch = min(seconds for *_, seconds in rows())
    pieces = plane(512, 0, 0, 0) - launch + plane(188, 512, 0, 0)
    assert mixed().mixed([(700, 0)], 0, 0.0, 0.0) == pytest.approx(2 * pieces)


def test_a_level_without_decodes_takes_what_they_add_from_its_neighbour() -> None:
    grid = Ragged(
        [*((t, c, n, x, s) for t, c, n, x, s in rows() if t), (512, 128, 0, 0, plane(512, 128, 0, 0))]
    )
    assert grid.completed == 1
    assert grid.at(512, 128, 4, 1024) == pytest.approx(plane(512, 128, 4, 1024))


def test_unequal_contexts_take_part_of_the_way_to_the_longest() -> None:
    skewed = table(
        "skewed_attention",
        [
            (0, 0, 4, 100, 400, 10e-6, 20e-6, 13e-6),
            (16, 0, 4, 100, 400, 10e-6, 20e-6, 19e-6),
        ],
        **SHAPE,
    )
    time = mixed(skewed)
    assert time.decode(4).skew == pytest.approx(0.3)
    even = time.mixed([(16, 0)], 4, 400.0, 100.0)
    longest = time.mixed([(16, 0)], 4, 1600.0, 400.0)
    assert time.mixed([(16, 0)], 4, 400.0, 400.0) == pytest.approx(even + 0.9 * (longest - even))
    assert time.decode(1).skew == 0.0


def test_other_heads_or_a_window_are_left_to_other_tables() -> None:
    source = MixedTables(table("mixed_attention", rows(), **SHAPE), None, setting(), "s")
    assert source.price(Attention("attention", 16, 2, 64, 64, 512.0, 2)) is None
    assert source.price(Attention("attention", 8, 2, 64, 64, 512.0, 2, window=128)) is None
    no_cache = MixedTables(table("mixed_attention", rows(), **SHAPE), None, setting(kv_dtype="fp8"), "s")
    assert no_cache.price(OP) is None


PROFILES = (
    "RTX4090/meta-llama/Llama-3.1-8B",
    "RTXPRO6000/meta-llama/Llama-3.1-8B",
    "RTXPRO6000/Qwen/Qwen3-30B-A3B-Instruct-2507",
)


def test_a_profile_without_skew_correction_has_none(shared: Path) -> None:
    """The RTX 4090's was measured with it switched off (``skew_fit: {enabled: false}``)."""
    profile = llmservingsim_tables(shared, PROFILES[0])
    assert "skewed_attention" not in profile.tables
    assert "mixed_attention" in profile.tables


@pytest.mark.parametrize("path", PROFILES[1:])
def test_the_skew_of_measured_batches_is_met(shared: Path, path: str) -> None:
    skewed = llmservingsim_tables(shared, path).tables["skewed_attention"]
    pure, beside = Skew.fit(skewed, mixed=False), Skew.fit(skewed, mixed=True)
    assert pure.error is not None and pure.uncorrected is not None
    assert beside.error is not None and beside.uncorrected is not None
    assert pure.error < min(0.025, pure.uncorrected)
    assert beside.error < 0.035 < beside.uncorrected
    assert beside.alpha(2) > 0.9  # two requests wait for the longer
    assert max(pure.alphas) < 0.2


@pytest.mark.parametrize("path", PROFILES[:2])
def test_measured_chunks_left_out_of_the_grid_are_met(shared: Path, path: str) -> None:
    """Chunks of 256 tokens are left out and interpolated from those of 128 (182) and 512 (273)."""
    measured = llmservingsim_tables(shared, path).tables["mixed_attention"]
    columns = ("tokens", "cached", "decodes", "context", "seconds")
    points = measured.filter(pl.col("tokens") > 0).select(columns)
    grid = Ragged(points.filter(pl.col("tokens") != 256).iter_rows())
    errors = [
        abs(grid.at(t, c, n, x) / s - 1)
        for t, c, n, x, s in points.filter(pl.col("tokens") == 256).iter_rows()
    ]
    assert np.median(errors) < 0.045
