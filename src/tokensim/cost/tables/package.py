"""The files of aiconfigurator-core's tables: which there are, and what their columns mean in canonical form.

``systems/data/<system>/<family>/<engine>/<version>/<table>_perf.parquet``, times in milliseconds, one row a
shape and kernel. What the columns mean was checked against the data of version 0.12: ``message_size`` counts
elements (NCCL's 268,435,456 halves take as long as 536,870,912 bytes), of the whole buffer (an all-gather
over 8 would else beat NVLink eight times); heads of latent attention are those of one rank; ``num_tokens`` of
experts are those of all ranks together; ``step`` is the number of tokens cached before.

Where several kernels were measured for one shape, the fastest is kept: engines choose by shape. Repeats of a
kernel become their median.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tokensim.cost.tables.base import COLUMNS
from tokensim.cost.tables.files import refuse_missing
from tokensim.errors import InputError

if TYPE_CHECKING:
    import polars as pl

_ATTENTION = {
    "kv_dtype": "kv_cache_dtype",
    "heads": "num_heads",
    "kv_heads": "num_key_value_heads",
    "head_dim": "head_dim",
    "window": "window_size",
    "batch": "batch_size",
}
_MLA = {"kv_dtype": "kv_cache_dtype", "heads": "num_heads", "batch": "batch_size"}
_PREFILL = {"tokens": "isl", "cached": "step"}
_DECODE = {"context": "step + isl"}  # `isl` new tokens (1) after `step` cached ones


@dataclass(frozen=True, slots=True)
class Table:
    """One kind's table in one file: which source column (or sum of two) or constant each column is."""

    kind: str
    family: str
    file: str
    columns: Mapping[str, str]
    constants: Mapping[str, str] = field(default_factory=dict)
    library: str | None = None  # a folder of a library's versions in place of the engine's

    @property
    def name(self) -> str:
        """The file's name."""
        return f"{self.file}_perf.parquet"


TABLES = (
    Table("gemm", "gemm", "gemm", {"dtype": "gemm_dtype", "n": "n", "k": "k", "m": "m"}),
    Table("prefill_attention", "attention", "context_attention", {**_ATTENTION, **_PREFILL}),
    Table("decode_attention", "attention", "generation_attention", {**_ATTENTION, **_DECODE}),
    Table(
        "experts",
        "moe",
        "moe",
        {
            "dtype": "moe_dtype",
            "hidden": "hidden_size",
            "intermediate": "inter_size",
            "experts": "num_experts",
            "top_k": "topk",
            "tensor": "moe_tp_size",
            "expert": "moe_ep_size",
            "distribution": "distribution",
            "tokens": "num_tokens",
        },
    ),
    Table(
        "mla_prefill",
        "mla",
        "mla_context_module",
        {**_MLA, **_PREFILL, "gemm_dtype": "gemm_type"},
        {"part": "module"},
    ),
    Table("mla_prefill", "mla", "context_mla", {**_MLA, **_PREFILL}, {"part": "kernel", "gemm_dtype": ""}),
    Table(
        "mla_decode",
        "mla",
        "mla_generation_module",
        {**_MLA, **_DECODE, "gemm_dtype": "gemm_type"},
        {"part": "module"},
    ),
    Table("mla_decode", "mla", "generation_mla", {**_MLA, **_DECODE}, {"part": "kernel", "gemm_dtype": ""}),
    Table(
        "mla_bmm",
        "mla_bmm",
        "mla_bmm",
        {"part": "op_name", "dtype": "bmm_dtype", "heads": "num_heads", "tokens": "num_tokens"},
    ),
    Table(
        "collective",
        "comm",
        "custom_allreduce",
        {"collective": "op_name", "backend": "kernel_source", "ranks": "num_gpus", "bytes": "message_size"},
    ),
    *(
        Table(
            "collective",
            "comm",
            library,
            {"collective": "op_name", "ranks": "num_gpus", "bytes": "message_size"},
            {"backend": library},
            library=library,
        )
        for library in ("nccl", "oneccl")
    ),
)

_NAMES = {
    "alltoall": "all_to_all",
    "mla_gen_pre": "pre",
    "mla_gen_post": "post",
    "sq": "int8",  # SmoothQuant: 8-bit weights and activations
}
_ELEMENT_BYTES = (
    2  # the rows in `half` and `bfloat16`; NCCL's in int8 repeat them byte for byte, and are left
)
_MODULE_ARCHITECTURE = "DeepseekV3ForCausalLM"  # the others have other projections


def files_of(folder: Path, system: str, engine: str, table: Table) -> dict[str, Path]:
    """The files of one table, by version."""
    place = folder / system / table.family / (table.library or engine)
    return {file.parent.name: file for file in sorted(place.glob(f"*/{table.name}"))}


def rows_of(file: Path, table: Table, engine: str, kernels: Collection[str] | None = None) -> pl.DataFrame:
    """The rows of ``file`` in canonical columns, in seconds, one a shape; of ``kernels`` alone if given."""
    import polars as pl

    try:
        rows = pl.scan_parquet(file)
        present = rows.collect_schema().names()
    except (OSError, pl.exceptions.PolarsError) as error:
        raise InputError(f"cannot be read: {error}", where=str(file)) from None
    sources = dict(table.columns)
    if sources.get("window") not in (*present, None):
        rows = rows.with_columns(window_size=pl.lit(0, pl.Int64))  # older files: full attention only
        present.append("window_size")
    needed = [name for source in sources.values() for name in source.split(" + ")]
    refuse_missing(file, (*needed, "latency", "kernel_source"), present)
    rows = _wanted(rows, present, table, engine)
    if kernels is not None:
        rows = rows.filter(pl.col("kernel_source").is_in(list(kernels)))
    shape = list(COLUMNS[table.kind])
    given = {
        name: pl.sum_horizontal(source.split(" + ")) if " + " in source else pl.col(source)
        for name, source in sources.items()
    }
    constants = {name: pl.lit(value) for name, value in table.constants.items()}
    if table.kind == "experts":
        constants["activated"] = pl.lit(None, pl.Int64)
    rows = rows.select(
        **given, **constants, kernel=pl.col("kernel_source"), seconds=pl.col("latency") / 1e3
    ).with_columns(pl.col(name).replace(_NAMES) for name in ("collective", "part", "dtype") if name in shape)
    try:
        frame = rows.collect()
    except (OSError, pl.exceptions.PolarsError) as error:  # a wrong type, or half a file
        raise InputError(f"cannot be read: {str(error).splitlines()[0]}", where=str(file)) from None
    repeated = frame.select(shape).is_duplicated()
    if not repeated.any():  # as in most files: grouping takes ten times longer than looking
        return frame
    medians = frame.filter(repeated).group_by(*shape, "kernel").agg(pl.col("seconds").median())
    fastest = medians.group_by(shape).agg(pl.col("seconds").min())
    return pl.concat([frame.filter(~repeated).select(*shape, "seconds"), fastest])


def _wanted(rows: pl.LazyFrame, present: list[str], table: Table, engine: str) -> pl.LazyFrame:
    """The rows of ``table`` that mean what its columns say."""
    import polars as pl

    if "architecture" in present:
        rows = rows.filter(pl.col("architecture") == _MODULE_ARCHITECTURE)
    if table.kind != "collective":
        return rows
    rows = rows.with_columns(pl.col("message_size") * _ELEMENT_BYTES)
    if table.library:
        return rows.filter(pl.col("nccl_dtype") == "half")
    kernel = pl.col("kernel_source")
    # TensorRT-LLM's takes 2.6 µs at 256 bytes: it was launched by a graph; one found in the folder of
    # another engine stands in for it there, and is left out
    backend = (
        pl.when(kernel.str.ends_with("_graph"))
        .then(pl.lit("custom_graph"))
        .when(kernel.str.ends_with("_eager"))
        .then(pl.lit("custom_eager"))
        .when(kernel.str.starts_with("TRTLLM") & pl.lit(engine == "trtllm"))
        .then(pl.lit("custom_graph"))
    )
    return rows.with_columns(kernel_source=backend).filter(pl.col("kernel_source").is_not_null())
