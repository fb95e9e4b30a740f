"""What a table must be, whatever it was read from."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from table_samples import row

from tokensim.cost.tables.base import AXES, COLUMNS, checked, holes, identity
from tokensim.cost.tables.native import MEANINGS
from tokensim.errors import InputError


def gemms(**changes: Any) -> pl.DataFrame:
    rows = [row("gemm", m=1), row("gemm", **{"m": 2, **changes})]
    return pl.DataFrame({name: [one[name] for one in rows] for name in rows[0]}, strict=False)


def test_every_kind_has_axes_that_are_columns_and_every_column_a_meaning() -> None:
    assert set(AXES) == set(COLUMNS)
    for kind, columns in COLUMNS.items():
        assert set(AXES[kind]) <= set(columns)
        assert set(columns) <= set(MEANINGS)
        assert set(identity(kind)).isdisjoint(AXES[kind])


def test_a_good_table_comes_out_sorted_in_canonical_columns_and_types() -> None:
    frame = pl.DataFrame([row("gemm", m=8), row("gemm", m=1)]).with_columns(
        pl.col("m").cast(pl.Float32), pl.lit("more").alias("other")
    )
    table, notes = checked("gemm", frame, "f.csv")
    assert table.columns == ["dtype", "n", "k", "m", "seconds"]
    assert table.schema["m"] == pl.Int64
    assert table["m"].to_list() == [1, 8]
    assert notes == []


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"seconds": -1e-5}, "column 'seconds' is -1e-05 in row 2"),
        ({"seconds": 0.0}, "column 'seconds' is 0.0 in row 2"),
        ({"seconds": float("nan")}, "column 'seconds' is nan in row 2"),
        ({"seconds": float("inf")}, "column 'seconds' is inf in row 2"),
        ({"seconds": None}, "column 'seconds' is empty in 1 of 2 rows"),
        ({"n": None}, "column 'n' is empty in 1 of 2 rows"),
        ({"dtype": None}, "column 'dtype' is empty in 1 of 2 rows"),
        ({"m": -2}, "column 'm' is -2 in row 2"),
        ({"m": 2.5}, "column 'm' holds Float64, not whole numbers"),
        ({"m": "two"}, "column 'm' holds String, not whole numbers"),
        ({"seconds": "quick"}, "column 'seconds' holds String, not numbers"),
    ],
)
def test_bad_rows_are_refused_with_file_and_column(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError) as refused:
        checked("gemm", gemms(**changes), "f.csv")
    assert refused.value.where == "f.csv"
    assert says in str(refused.value)


def test_text_where_numbers_are_is_refused() -> None:
    with pytest.raises(InputError, match="column 'dtype' holds Int64, not text"):
        checked("gemm", pl.DataFrame([row("gemm", dtype=1)]), "f.csv")


def test_missing_columns_are_all_named() -> None:
    with pytest.raises(InputError, match=r"f\.csv: gemm: missing columns 'k', 'seconds'"):
        checked("gemm", gemms().drop("k", "seconds"), "f.csv")


def test_an_empty_table_and_an_unknown_kind_are_refused() -> None:
    with pytest.raises(InputError, match="the table has no rows"):
        checked("gemm", gemms().clear(), "f.csv")
    with pytest.raises(InputError, match="did you mean 'gemm'"):
        checked("gem", gemms(), "f.csv")


@pytest.mark.parametrize("factor", [1e9, 1e-9])
def test_times_in_another_unit_are_refused(factor: float) -> None:
    wrong = gemms().with_columns(pl.col("seconds") * factor)
    with pytest.raises(InputError, match="another unit"):
        checked("gemm", wrong, "f.csv")


def test_repeats_of_a_shape_become_their_median_and_are_told() -> None:
    rows = [row("gemm", s) for s in (1e-5, 2e-5, 9e-5)] + [row("gemm", 4e-5, m=2)]
    table, notes = checked("gemm", pl.DataFrame(rows), "f.csv")
    assert table["seconds"].to_list() == [2e-5, 4e-5]
    assert notes == ["gemm: 3 rows share a shape; its median time is kept"]


def test_activated_experts_may_be_unknown() -> None:
    frame = pl.DataFrame([row("experts", activated=None)])
    assert checked("experts", frame, "f.csv")[0]["activated"].to_list() == [None]


def test_holes_of_a_grid_are_counted() -> None:
    full = [row("decode_attention", batch=b, context=c) for b in (1, 2) for c in (16, 32, 64)]
    assert holes("decode_attention", pl.DataFrame(full)) is None
    assert holes("decode_attention", pl.DataFrame(full[:-1])) == (
        "decode_attention: 1 of 6 points (17%) of the grids of batch, context are not measured"
    )


@given(st.lists(st.tuples(st.integers(1, 9), st.floats(1e-6, 1e-2)), min_size=1, max_size=40))
def test_nothing_is_lost_and_checking_twice_changes_nothing(rows: list[tuple[int, float]]) -> None:
    table, _ = checked("gemm", pl.DataFrame([row("gemm", s, m=m) for m, s in rows]), "f")
    assert table["m"].to_list() == sorted({m for m, _ in rows})
    for m, seconds in zip(table["m"], table["seconds"], strict=True):
        times = [s for one, s in rows if one == m]
        assert min(times) <= seconds <= max(times)
    assert checked("gemm", table, "f")[0].equals(table)
