"""GEMMs of one library that several engines measured: their median, and the rate that a device sustains."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from measured_samples import US, at, installed_tables, profile, setting, table

from tokensim.cost.base import How
from tokensim.cost.tables.gemm import GemmTable
from tokensim.cost.tables.library import LONG_S, Curve, Library, sustained_rate
from tokensim.cost.tables.measured import measured_cost
from tokensim.model.operators import Gemm

N, K = 64, 32


class Line:
    """A grid with one curve for every shape."""

    def __init__(
        self, rows: list[float], us: list[float], how: How = "exact", error: float | None = None
    ) -> None:
        self.answer: Curve = (np.array(rows), np.array(us) * US, how, error)

    def curve(self, n: int, k: int) -> Curve:
        return self.answer


def long(*rates: float, seconds: float = 1.0) -> pl.DataFrame:
    """Kernels that take ``seconds`` each, at these FLOP/s."""
    rows = [(1, 1, int(rate * seconds / 2), seconds) for rate in rates]
    return pl.DataFrame(rows, schema=["n", "k", "m", "seconds"], orient="row")


EMPTY = long(1.0).clear()


class TestMedian:
    def test_for_each_number_of_rows_the_median_is_taken(self) -> None:
        grids = {
            "a": Line([1, 8, 16], [10, 20, 30]),
            "b": Line([1, 8, 16], [12, 16, 50]),
            "c": Line([1, 8, 16], [90, 18, 29]),
        }
        rows, seconds, how, error = Library(grids, {}).curve(N, K)
        assert rows.tolist() == [1, 8, 16]
        assert seconds == pytest.approx([12 * US, 18 * US, 30 * US])
        assert (how, error) == ("exact", None)

    def test_of_two_it_is_the_middle(self) -> None:
        grids = {"a": Line([1, 8], [10, 20]), "b": Line([1, 8], [20, 40])}
        assert Library(grids, {}).curve(N, K)[1] == pytest.approx([15 * US, 30 * US])

    def test_rows_that_one_has_alone_are_interpolated_in_the_others_up_to_where_all_end(self) -> None:
        grids = {"a": Line([1, 9], [10, 18]), "b": Line([1, 5, 17], [10, 30, 90])}
        rows, seconds, *_ = Library(grids, {}).curve(N, K)
        assert rows.tolist() == [1, 5, 9]
        assert seconds == pytest.approx([10 * US, (14 + 30) / 2 * US, (18 + 50) / 2 * US])

    def test_a_lone_measurement_is_taken_as_it_is(self) -> None:
        alone = Line([1, 8], [10, 20], "interpolated", 0.05)
        library = Library({"a": alone}, {"a": long(1e12)})
        assert library.curve(N, K) == alone.answer
        assert library.rate is None

    def test_the_median_is_known_as_the_middle_of_them_is(self) -> None:
        def how(*each: How) -> How:
            return Library({str(i): Line([1], [1], h) for i, h in enumerate(each)}, {}).curve(N, K)[2]

        assert how("exact", "exact", "extrapolated") == "exact"
        assert how("exact", "interpolated", "extrapolated") == "interpolated"
        assert how("exact", "interpolated") == "interpolated"

    def test_its_error_is_the_median_error(self) -> None:
        grids = {str(e): Line([1], [1], "interpolated", e) for e in (0.01, 0.03, 0.08)}
        assert Library(grids, {}).curve(N, K)[3] == 0.03


class TestSustainedRate:
    def test_is_the_median_rate_of_long_kernels(self) -> None:
        assert sustained_rate(long(1e12, 2e12, 6e12)) == pytest.approx(2e12)

    def test_short_kernels_do_not_count(self) -> None:
        short = long(9e15, seconds=LONG_S / 2)
        assert sustained_rate(short) is None
        assert sustained_rate(pl.concat([short, long(1e12)])) == pytest.approx(1e12)
        assert sustained_rate(long(4e12, seconds=LONG_S)) == pytest.approx(4e12)

    def test_of_several_engines_it_is_the_median(self) -> None:
        tables = {"a": long(1e12), "b": long(2e12), "c": long(5e12), "d": EMPTY}
        assert Library({}, tables).rate == pytest.approx(2e12)

    def test_one_engine_alone_does_not_tell(self) -> None:
        assert Library({}, {"a": long(1e12), "b": EMPTY}).rate is None

    def test_no_kernel_is_faster_than_the_device_sustains(self) -> None:
        """2·64·32 = 4096 FLOPs a row at 1 GFLOP/s: 4.096 µs a row at least."""
        grids = {"a": Line([1, 8, 16], [10, 20, 30]), "b": Line([1, 8, 16], [10, 20, 30])}
        _, seconds, *_ = Library(grids, {"a": long(1e9), "b": long(1e9)}).curve(N, K)
        assert seconds == pytest.approx([10 * US, 8 * 4.096 * US, 16 * 4.096 * US])


def test_the_other_engines_gemms_are_joined_by_the_16_bit_ones_alone() -> None:
    own = table("gemm", [("bfloat16", N, K, 1, 10 * US), ("fp8", N, K, 1, 6 * US)])
    elsewhere = table(
        "gemm_elsewhere",
        [
            ("sglang", "bfloat16", N, K, 1, 20 * US),
            ("trtllm", "float16", N, K, 1, 16 * US),
            ("trtllm", "fp8", N, K, 1, 90 * US),
        ],
    )
    times = measured_cost([profile(gemm=own, gemm_elsewhere=elsewhere)], setting()).price(
        [Gemm("wide", N, K, 1, "bfloat16"), Gemm("narrow", N, K, 1, "fp8")]
    )
    assert at(times["wide"], 1) == pytest.approx(16 * US)
    assert at(times["narrow"], 1) == pytest.approx(6 * US)


def test_on_an_h100_long_gemms_run_at_one_rate_under_all_engines() -> None:
    """What the module says: the three tables sustain 0.71 to 0.84 of the peak; their median is 0.74."""
    both = installed_tables("h100_sxm", ("gemm", "gemm_elsewhere"))
    peak = setting().device.flops["bfloat16"]
    own = both.tables["gemm"].filter(dtype="bfloat16")
    elsewhere = both.tables["gemm_elsewhere"]
    assert set(elsewhere["engine"]) == {"sglang", "trtllm"}
    parts = {"vllm": own, **{str(k[0]): v for k, v in elsewhere.partition_by("engine", as_dict=True).items()}}
    rates = sorted(rate / peak for rate in map(sustained_rate, parts.values()) if rate is not None)
    assert rates == pytest.approx([0.71, 0.74, 0.84], abs=0.02)
    time = GemmTable(own, setting(), "s", elsewhere).price(Gemm("g", 8192, 8192, 1, "bfloat16"))
    assert time is not None
    for rows in (512, 4096, 16384):
        assert 2 * 8192 * 8192 * rows / at(time, rows) <= rates[1] * peak * (1 + 1e-9)
