"""Elementwise operators from tables: exact where measured, by traffic elsewhere; GEMMs with own rows."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from tokensim.cost import Setting
from tokensim.cost.tables.base import Profile, checked
from tokensim.cost.tables.elementwise import ElementwiseTable
from tokensim.cost.tables.measured import measured_cost
from tokensim.hardware import load_device
from tokensim.model.operators import Elementwise, Gemm

SETTING = Setting(load_device("h100-sxm-80gb"), "a model")


def table(*rows: tuple[str, int, int, float]) -> pl.DataFrame:
    columns = ("operator", "row_bytes", "rows", "seconds")
    frame = pl.DataFrame(rows, schema=columns, orient="row").with_columns(dtype=pl.lit("bfloat16"))
    return checked("elementwise", frame, "test")[0]


def by_traffic(family: str, row_bytes: int, launch_s: float = 2e-6) -> list[tuple[str, int, int, float]]:
    return [(family, row_bytes, rows, launch_s + rows * row_bytes / 1e12) for rows in (1, 100, 10_000)]


def test_the_measured_size_is_exact_for_all_its_runs() -> None:
    source = ElementwiseTable(table(*by_traffic("norm", 32_768)), SETTING, "test")
    time = source.price(Elementwise("norm", 32_768.0, 64))
    assert time is not None
    assert time.seconds(np.array([100.0]))[0] == pytest.approx(64 * (2e-6 + 100 * 32_768 / 1e12))
    assert time.origin(100.0).how == "exact"
    assert time.origin(50.0).how == "interpolated"


def test_another_size_takes_what_its_traffic_takes() -> None:
    rows = by_traffic("activation", 10_000) + by_traffic("activation", 40_000)
    source = ElementwiseTable(table(*rows), SETTING, "test")
    time = source.price(Elementwise("ffn_activation", 20_000.0, 1))
    assert time is not None
    for count in (10.0, 500.0, 5_000.0):
        assert time.seconds(np.array([count]))[0] == pytest.approx(2e-6 + count * 20_000 / 1e12)
    assert time.origin(500.0).how == "interpolated"
    beyond = source.price(Elementwise("ffn_activation", 80_000.0, 1))
    assert beyond is not None
    assert beyond.seconds(np.array([500.0]))[0] == pytest.approx(2e-6 + 500 * 80_000 / 1e12)
    assert beyond.origin(500.0).how == "extrapolated"


def test_between_two_sizes_both_lines_count_by_the_logarithm() -> None:
    rows = [
        ("norm", 1000, 1, 1e-6),
        ("norm", 1000, 10, 1e-6),
        ("norm", 4000, 1, 3e-6),
        ("norm", 4000, 10, 3e-6),
    ]
    source = ElementwiseTable(table(*rows), SETTING, "test")
    time = source.price(Elementwise("norm", 2000.0, 1))
    assert time is not None
    assert time.seconds(np.array([2.0]))[0] == pytest.approx(2e-6)


def test_what_was_not_measured_is_left_to_the_next_source() -> None:
    source = ElementwiseTable(table(*by_traffic("norm", 4096)), SETTING, "test")
    assert source.price(Elementwise("rotary", 4096.0, 1)) is None
    assert source.price(Elementwise("router_top_k", 4096.0, 1)) is None
    other = Setting(SETTING.device, "a model", activation_dtype="float32")
    assert (
        ElementwiseTable(table(*by_traffic("norm", 4096)), other, "test").price(
            Elementwise("norm", 4096.0, 1)
        )
        is None
    )


def test_both_formats_of_16_bits_move_the_same() -> None:
    half = Setting(SETTING.device, "a model", activation_dtype="float16")
    source = ElementwiseTable(table(*by_traffic("norm", 4096)), half, "test")
    assert source.price(Elementwise("norm", 4096.0, 1)) is not None


def test_the_measured_source_has_them() -> None:
    profile = Profile("d", "torch", "2", "bench", {"elementwise": table(*by_traffic("norm", 4096))})
    times = measured_cost([profile], SETTING).price([Elementwise("final_norm", 4096.0, 1)])
    assert times["final_norm"].origin(1.0).how == "exact"


def test_gemms_refined_at_rows_of_their_own_still_make_a_grid() -> None:
    """A shape between two measured ones, whose lines bend, and were measured, at other rows."""
    flops, bandwidth = 989.4e12, 3.35e12

    def seconds(n: int, k: int, m: int) -> float:
        return 2e-6 + max(2.0 * n * k * m / flops, (n * k * 2 + (n + k) * m * 2) / bandwidth)

    lines = {2048: (1, 64, 300, 4096), 8192: (1, 100, 250, 700, 4096)}
    rows = [("bfloat16", n, 4096, m, seconds(n, 4096, m)) for n, ms in lines.items() for m in ms]
    frame = pl.DataFrame(rows, schema=("dtype", "n", "k", "m", "seconds"), orient="row")
    profile = Profile("d", "torch", "2", "bench", {"gemm": checked("gemm", frame, "test")[0]})
    time = measured_cost([profile], SETTING).price([Gemm("a", 4096, 4096, 1, "bfloat16")])["a"]
    for m in (1, 250, 300, 4096):
        assert time.seconds(np.array([float(m)]))[0] == pytest.approx(seconds(4096, 4096, m), rel=0.12)
    exact = measured_cost([profile], SETTING).price([Gemm("a", 2048, 4096, 1, "bfloat16")])["a"]
    assert exact.seconds(np.array([300.0]))[0] == seconds(2048, 4096, 300)
    assert exact.origin(250.0).how == "interpolated"  # measured there for the other shape only


def test_weights_of_32_bits_have_tables_of_their_own() -> None:
    frame = pl.DataFrame(
        {"dtype": ["float32"] * 2, "n": [64] * 2, "k": [64] * 2, "m": [1, 9], "seconds": [1e-6, 2e-6]}
    )
    profile = Profile("d", "torch", "2", "bench", {"gemm": checked("gemm", frame, "test")[0]})
    own = measured_cost([profile], SETTING).price([Gemm("a", 64, 64, 1, "float32")])
    assert own["a"].seconds(np.array([5.0]))[0] == pytest.approx(1.5e-6)
    assert not measured_cost([profile], SETTING).price([Gemm("a", 64, 64, 1, "bfloat16")])
