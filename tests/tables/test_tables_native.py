"""Our own format: compact, self-describing, the same bytes for the same tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from table_samples import profile, row

from tokensim.cost.tables.base import COLUMNS
from tokensim.cost.tables.native import merged, read_profile, write_profile
from tokensim.errors import InputError


def test_a_file_a_dtype_and_what_has_none_goes_with_the_sixteen_bits(tmp_path: Path) -> None:
    written = write_profile(
        profile(
            gemm=[row("gemm", dtype="fp8"), row("gemm", dtype="bfloat16")],
            decode_attention=[row("decode_attention", kv_dtype="fp8")],
            mla_decode=[
                row("mla_decode", gemm_dtype="", kv_dtype="bfloat16"),
                row("mla_decode", gemm_dtype="fp8_block", kv_dtype="bfloat16"),
            ],
            collective=[row("collective")],
        ),
        tmp_path,
    )
    kinds = {file.name: sorted(read_profile(file).tables) for file in written}
    assert kinds == {
        "h100-sxm-80gb-vllm-bfloat16.parquet": ["collective", "gemm", "mla_decode"],
        "h100-sxm-80gb-vllm-fp8.parquet": ["decode_attention", "gemm"],
        "h100-sxm-80gb-vllm-fp8_block.parquet": ["mla_decode"],
    }


def test_a_file_says_what_it_is_and_what_each_column_means(tmp_path: Path) -> None:
    (file,) = write_profile(profile(gemm=[row("gemm", dtype="bfloat16")]), tmp_path)
    facts = pl.read_parquet_metadata(file)
    assert facts["tokensim.format"] == "tokensim-operator-times 1"
    assert (facts["tokensim.device"], facts["tokensim.engine"], facts["tokensim.dtype"]) == (
        "h100-sxm-80gb",
        "vllm",
        "bfloat16",
    )
    assert list(json.loads(facts["tokensim.columns"])) == pl.read_parquet(file).columns
    assert "in seconds" in json.loads(facts["tokensim.columns"])["seconds"]
    back = read_profile(file)
    assert (back.version, back.source, back.provenance, back.notes) == (
        "0.24.0",
        "by hand",
        {"licence": "none"},
        ("noted",),
    )


SHAPES = st.lists(
    st.tuples(st.integers(1, 5), st.integers(1, 5), st.floats(1e-6, 1e-1)), min_size=1, max_size=30
)


@given(rows=SHAPES, seed=st.randoms(use_true_random=False))
def test_the_same_tables_give_the_same_bytes_and_come_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[int, int, float]], seed: Any
) -> None:
    unique = {(n, m): s for n, m, s in rows}
    gemms = [row("gemm", s, dtype="bfloat16", n=n, m=m) for (n, m), s in unique.items()]
    folder = tmp_path_factory.mktemp("native")
    (first,) = write_profile(profile(gemm=gemms), folder / "a")
    seed.shuffle(gemms)
    (second,) = write_profile(profile(gemm=gemms), folder / "b")
    assert first.read_bytes() == second.read_bytes()
    table = read_profile(first).tables["gemm"]
    assert dict(zip(table.select("n", "m").rows(), table["seconds"], strict=True)) == pytest.approx(unique)
    (again,) = write_profile(read_profile(first), folder / "c")
    assert again.read_bytes() == first.read_bytes()


@pytest.mark.parametrize("kind", COLUMNS)
def test_every_kind_survives(tmp_path: Path, kind: str) -> None:
    before = profile(**{kind: [row(kind)]})
    (file,) = write_profile(before, tmp_path)
    after = read_profile(file).tables[kind]
    assert after.drop(pl.selectors.float()).equals(before.tables[kind].drop(pl.selectors.float()))
    assert after["seconds"][0] == pytest.approx(1e-5, rel=1e-7)


def test_unknown_numbers_of_experts_stay_unknown(tmp_path: Path) -> None:
    (file,) = write_profile(profile(experts=[row("experts", activated=None)]), tmp_path)
    assert read_profile(file).tables["experts"]["activated"].to_list() == [None]


def test_merging_keeps_all_shapes_and_the_median_of_common_ones() -> None:
    one = profile(gemm=[row("gemm", 1e-5), row("gemm", 2e-5, m=2)])
    two = profile(gemm=[row("gemm", 3e-5)], collective=[row("collective")])
    both = merged([one, two])
    assert both.tables["gemm"]["seconds"].to_list() == pytest.approx([2e-5, 2e-5])
    assert set(both.tables) == {"gemm", "collective"}
    assert "gemm: 2 rows share a shape; its median time is kept" in both.notes


def rewritten(file: Path, frame: pl.DataFrame | None = None, **facts: str) -> None:
    """The file again, with another table or other metadata; an empty fact is left out."""
    known = {k: v for k, v in pl.read_parquet_metadata(file).items() if k.startswith("tokensim.")}
    known |= {f"tokensim.{key}": value for key, value in facts.items()}
    table = pl.read_parquet(file) if frame is None else frame
    table.write_parquet(file, metadata={key: value for key, value in known.items() if value})


@pytest.mark.parametrize(
    ("facts", "says"),
    [
        ({"format": "tokensim-operator-times 99"}, "says to be 'tokensim-operator-times 99'"),
        ({"format": ""}, "is not a file of measured tables"),
        ({"device": ""}, "the metadata lacks 'tokensim.device'"),
        ({"provenance": "{"}, "'tokensim.provenance' is not JSON"),
        ({"notes": "{}"}, "'tokensim.notes' is {}"),
    ],
)
def test_other_files_and_versions_are_refused(tmp_path: Path, facts: dict[str, str], says: str) -> None:
    (file,) = write_profile(profile(gemm=[row("gemm")]), tmp_path)
    rewritten(file, **facts)
    with pytest.raises(InputError, match=says) as refused:
        read_profile(file)
    assert refused.value.where == str(file)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (pl.col("seconds") * -1, "column 'seconds' is -"),
        (pl.col("seconds") * 1e12, "another unit"),
        (pl.lit("gems").alias("kind"), "did you mean 'gemm'"),
        (pl.lit(None, pl.Int64).alias("n"), "column 'n' is empty"),
    ],
)
def test_bad_rows_in_our_own_files_are_refused(tmp_path: Path, change: pl.Expr, says: str) -> None:
    (file,) = write_profile(profile(gemm=[row("gemm")]), tmp_path)
    rewritten(file, pl.read_parquet(file).with_columns(change))
    with pytest.raises(InputError, match=says):
        read_profile(file)


def test_a_broken_file_is_refused(tmp_path: Path) -> None:
    (file,) = write_profile(profile(gemm=[row("gemm")]), tmp_path)
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(InputError, match="cannot be read as parquet"):
        read_profile(file)


def test_a_profile_without_tables_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no operator times"):
        write_profile(profile(), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(InputError, match="cannot be written"):
        write_profile(profile(gemm=[row("gemm")]), tmp_path / "file")
