"""What tables of other engines on the same device add: the same library or kernel, measured again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tokensim.cost.tables.base import COLUMNS, checked, shape_of
from tokensim.cost.tables.package import TABLES, files_of, rows_of
from tokensim.cost.tables.versions import by_nearness

if TYPE_CHECKING:
    import polars as pl

SAME_KERNELS = (("vllm_flash_attn_fa3", "fa3"), ("vllm_flashinfer_trtllmdecode", "trtllm_mha"))
"""Names (``kernel_source``) under which two engines' tables have one kernel of decode attention."""

SIXTEEN_BIT = ("bfloat16", "float16")
"""Formats whose GEMMs every engine leaves to the vendor's library."""


def library_gemms(folder: Path, system: str, engines: list[str]) -> tuple[pl.DataFrame | None, list[str]]:
    """The 16-bit GEMMs of ``engines``, each of its newest version (None: not measured), and notes."""
    import polars as pl

    table = TABLES[0]
    parts, used = [], []
    for engine in engines:
        files = files_of(folder, system, engine, table)
        for version in by_nearness("", files)[:1]:
            rows = rows_of(files[version], table, engine)
            rows = rows.filter(pl.col("dtype").is_in(SIXTEEN_BIT)).with_columns(engine=pl.lit(engine))
            if not rows.is_empty():
                parts.append(checked("gemm_elsewhere", rows, str(files[version]))[0])
                used.append(f"{engine} {version}")
    if not parts:
        return None, []
    frame = pl.concat(parts).sort(list(COLUMNS["gemm_elsewhere"]))
    return frame, [f"gemm_elsewhere (gemm): {', '.join(used)}"]


def with_same_kernels(
    folder: Path, system: str, engine: str, others: list[str], frame: pl.DataFrame
) -> tuple[pl.DataFrame, list[str]]:
    """``frame`` of decode attention, with the time of another engine where the same kernel took less there,
    and notes.

    The kernel is the same; what a harness adds to each call (metadata, launches) an engine pays once a step,
    or hides in a CUDA graph. On H100 vLLM's table is up to 20 % above SGLang's at 8 to 32 requests.
    """
    import polars as pl

    table = next(table for table in TABLES if table.kind == "decode_attention")
    own = files_of(folder, system, engine, table)
    kernels = set()
    for file in own.values():
        kernels |= set(pl.scan_parquet(file).select("kernel_source").unique().collect().to_series())
    families = [pair for pair in SAME_KERNELS if kernels & set(pair)]
    notes = []
    shape = shape_of("decode_attention")
    for other in others if families else ():
        files = files_of(folder, system, other, table)
        for version in by_nearness("", files)[:1]:
            rows = rows_of(files[version], table, other, kernels={n for pair in families for n in pair})
            if rows.is_empty():
                continue
            faster = checked("decode_attention", rows, str(files[version]))[0].select(
                *shape, pl.col("seconds").alias("elsewhere")
            )
            frame = (
                frame.join(faster, on=shape, how="left")
                .with_columns(seconds=pl.min_horizontal("seconds", "elsewhere"))
                .drop("elsewhere")
            )
            notes.append(
                f"decode_attention: the same kernel's times under {other} {version} where they are less"
            )
    return frame, notes
