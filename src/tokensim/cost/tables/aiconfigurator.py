"""Reader of the operator times in aiconfigurator-core (extra ``measured``): parquet files inside its wheel.

``systems/data/<system>/<family>/<engine>/<version>/<table>_perf.parquet``, times in milliseconds, one row a
shape and kernel. The files are read where they are; the package's own code is not imported. What its columns
mean was checked against the data of version 0.12: ``message_size`` counts elements (NCCL's 268,435,456 halves
take as long as 536,870,912 bytes), of the whole buffer (an all-gather over 8 would else beat NVLink eight
times); heads of latent attention are those of one rank; ``num_tokens`` of experts are those of all ranks
together; ``step`` is the number of tokens cached before.

Where several kernels were measured for one shape, the fastest is kept: engines choose by shape. Repeats of a
kernel become their median.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tokensim.cost.tables.base import COLUMNS, Profile, checked, identity, shape_of
from tokensim.cost.tables.files import refuse_missing
from tokensim.cost.tables.versions import by_nearness
from tokensim.errors import InputError, nearest

if TYPE_CHECKING:
    import polars as pl

PACKAGE = "aiconfigurator_core"
INSTALL = "pip install 'tokensim[measured]' (it brings aiconfigurator-core 0.12)"

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
class _Table:
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


_TABLES = (
    _Table("gemm", "gemm", "gemm", {"dtype": "gemm_dtype", "n": "n", "k": "k", "m": "m"}),
    _Table("prefill_attention", "attention", "context_attention", {**_ATTENTION, **_PREFILL}),
    _Table("decode_attention", "attention", "generation_attention", {**_ATTENTION, **_DECODE}),
    _Table(
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
    _Table(
        "mla_prefill",
        "mla",
        "mla_context_module",
        {**_MLA, **_PREFILL, "gemm_dtype": "gemm_type"},
        {"part": "module"},
    ),
    _Table("mla_prefill", "mla", "context_mla", {**_MLA, **_PREFILL}, {"part": "kernel", "gemm_dtype": ""}),
    _Table(
        "mla_decode",
        "mla",
        "mla_generation_module",
        {**_MLA, **_DECODE, "gemm_dtype": "gemm_type"},
        {"part": "module"},
    ),
    _Table("mla_decode", "mla", "generation_mla", {**_MLA, **_DECODE}, {"part": "kernel", "gemm_dtype": ""}),
    _Table(
        "mla_bmm",
        "mla_bmm",
        "mla_bmm",
        {"part": "op_name", "dtype": "bmm_dtype", "heads": "num_heads", "tokens": "num_tokens"},
    ),
    _Table(
        "collective",
        "comm",
        "custom_allreduce",
        {"collective": "op_name", "backend": "kernel_source", "ranks": "num_gpus", "bytes": "message_size"},
    ),
    *(
        _Table(
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

KINDS = tuple(dict.fromkeys([*(table.kind for table in _TABLES), "gemm_elsewhere"]))
"""The kinds that can be read. Left out: encoder, sparse and linear attention, quantisation kernels, and the
tables of DeepEP deployments (``wideep_*``, ``moe_a2a``), whose scope differs from layer to layer."""

SAME_KERNELS = (("vllm_flash_attn_fa3", "fa3"), ("vllm_flashinfer_trtllmdecode", "trtllm_mha"))
"""Names (``kernel_source``) under which two engines' tables have one kernel of decode attention."""

SIXTEEN_BIT = ("bfloat16", "float16")
"""Formats whose GEMMs every engine leaves to the vendor's library."""

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


def data_folder(root: Path | None = None) -> Path:
    """The folder with a folder a system: of the installed package, or at ``root`` or below it.

    ``root`` may be the wheel unpacked, the package, its ``systems`` or ``systems/data``. Raises
    ``InputError``.
    """
    if root is None:
        spec = importlib.util.find_spec(PACKAGE)
        locations = list(spec.submodule_search_locations or []) if spec else []
        if not locations:
            raise InputError("aiconfigurator-core is not installed", where="aiconfigurator", hint=INSTALL)
        root = Path(locations[0])
    folder = find_data(root)
    if folder is None:
        raise InputError(
            "no tables of aiconfigurator-core here",
            where=str(root),
            hint="expected systems/data/<system>/gemm/<engine>/<version>/gemm_perf.parquet",
        )
    return folder


def find_data(root: Path) -> Path | None:
    """The folder with a folder a system at ``root`` or below it; None if there is none."""
    for below in ("", "data", "systems/data", f"{PACKAGE}/systems/data"):
        if any((root / below).glob("*/gemm/*/*/gemm_perf.parquet")):
            return root / below
    return None


def systems(root: Path | None = None) -> dict[str, list[str]]:
    """The systems (devices) that have measurements, by the names of the package, with their engines."""
    found: dict[str, set[str]] = {}
    for file in data_folder(root).glob("*/gemm/*/*/gemm_perf.parquet"):
        found.setdefault(file.parents[3].name, set()).add(file.parents[1].name)
    return {system: sorted(found[system]) for system in sorted(found)}


def versions(system: str, engine: str, root: Path | None = None) -> dict[str, list[str]]:
    """The measured versions of each kind for one engine, the newest first; absent kinds are left out."""
    known: dict[str, set[str]] = {}
    for table in _TABLES:
        known.setdefault(table.kind, set()).update(_files(data_folder(root), system, engine, table))
    return {kind: by_nearness("", found) for kind, found in known.items() if found}


def read_aiconfigurator(
    system: str,
    engine: str,
    version: str = "",
    *,
    kinds: Collection[str] | None = None,
    root: Path | None = None,
    device: str | None = None,
) -> Profile:
    """The tables of one system and engine, of the measured versions nearest to ``version`` (empty: newest).

    Only the files of the wanted ``kinds`` (default: all of ``KINDS``) are opened. What the nearest version
    lacks (another dtype, another model's experts) is taken from the next nearest; ``notes`` say which version
    each kind is. NCCL and oneCCL are of their newest version. ``device`` is the name for the profile
    (default: the system's). Raises ``InputError`` for a system or engine without measurements.
    """
    folder = data_folder(root)
    where = f"aiconfigurator ({folder})"
    known = systems(root)
    if system not in known:
        raise InputError(f"no measurements of '{system}'", where=where, hint=nearest(system, known))
    if engine not in known[system]:
        raise InputError(
            f"no measurements of '{system}' under the engine '{engine}'",
            where=where,
            hint="measured there: " + ", ".join(known[system]),
        )
    tables: dict[str, pl.DataFrame] = {}
    notes: list[str] = []
    used: list[str] = []
    for kind in KINDS if kinds is None else [kind for kind in KINDS if kind in kinds]:
        if kind == "gemm_elsewhere":
            frame, said = _read_elsewhere(folder, system, [e for e in known[system] if e != engine])
            taken: list[str] = []
        else:
            frame, taken, said = _read_kind(folder, system, engine, version, kind)
        if kind == "decode_attention" and frame is not None:
            others = [e for e in known[system] if e != engine]
            frame, more = _with_same_kernels(folder, system, engine, others, frame)
            said += more
        notes += said
        if frame is not None:
            tables[kind] = frame
            used += [name for name in taken if name not in used]
    return Profile(
        device=device or system,
        engine=engine,
        version=used[0] if used else "",
        source=f"{_release(folder)}, {system}",
        tables=tables,
        provenance={"licence": "Apache-2.0", "system": system, "kernels": "the fastest of each shape"},
        notes=tuple(notes),
    )


def _release(folder: Path) -> str:
    """The name and version of the package that holds ``folder``."""
    for parent in folder.resolve().parents[:3]:
        for info in parent.glob(f"{PACKAGE}-*.dist-info"):
            return "aiconfigurator-core " + info.name.removesuffix(".dist-info").split("-")[1]
    return "aiconfigurator-core"


def _files(folder: Path, system: str, engine: str, table: _Table) -> dict[str, Path]:
    """The files of one table, by version."""
    place = folder / system / table.family / (table.library or engine)
    return {file.parent.name: file for file in sorted(place.glob(f"*/{table.name}"))}


def _read_kind(
    folder: Path, system: str, engine: str, version: str, kind: str
) -> tuple[pl.DataFrame | None, list[str], list[str]]:
    """One kind's table (None: not measured), the engine's versions in it, and notes."""
    import polars as pl

    parts: list[pl.DataFrame] = []
    taken: list[str] = []
    notes: list[str] = []
    for table in (table for table in _TABLES if table.kind == kind):
        files = _files(folder, system, engine, table)
        frame: pl.DataFrame | None = None
        used: list[str] = []
        for name in by_nearness("" if table.library else version, files):
            more = _rows(files[name], table, engine)
            if frame is not None:
                more = more.join(frame, on=identity(kind), how="anti")
            if not more.is_empty():
                more = checked(kind, more, str(files[name]))[0]
                frame = more if frame is None else pl.concat([frame, more])
                used.append(name)
        if frame is None:
            continue
        parts.append(frame)
        if not table.library:
            taken += used
        others = f"; from {', '.join(used[1:])} what it lacks" if len(used) > 1 else ""
        notes.append(f"{kind} ({table.file}): version {used[0]}{others}")
    return (pl.concat(parts).sort(list(COLUMNS[kind])) if parts else None), taken, notes


def _read_elsewhere(folder: Path, system: str, engines: list[str]) -> tuple[pl.DataFrame | None, list[str]]:
    """The 16-bit GEMMs of ``engines``, each of its newest version (None: not measured), and notes."""
    import polars as pl

    table = _TABLES[0]
    parts, used = [], []
    for engine in engines:
        files = _files(folder, system, engine, table)
        for version in by_nearness("", files)[:1]:
            rows = _rows(files[version], table, engine)
            rows = rows.filter(pl.col("dtype").is_in(SIXTEEN_BIT)).with_columns(engine=pl.lit(engine))
            if not rows.is_empty():
                parts.append(checked("gemm_elsewhere", rows, str(files[version]))[0])
                used.append(f"{engine} {version}")
    if not parts:
        return None, []
    frame = pl.concat(parts).sort(list(COLUMNS["gemm_elsewhere"]))
    return frame, [f"gemm_elsewhere (gemm): {', '.join(used)}"]


def _with_same_kernels(
    folder: Path, system: str, engine: str, others: list[str], frame: pl.DataFrame
) -> tuple[pl.DataFrame, list[str]]:
    """``frame`` of decode attention, with the time of another engine where the same kernel took less there,
    and notes.

    The kernel is the same; what a harness adds to each call (metadata, launches) an engine pays once a step,
    or hides in a CUDA graph. On H100 vLLM's table is up to 20 % above SGLang's at 8 to 32 requests.
    """
    import polars as pl

    table = next(table for table in _TABLES if table.kind == "decode_attention")
    own = _files(folder, system, engine, table)
    kernels = set()
    for file in own.values():
        kernels |= set(pl.scan_parquet(file).select("kernel_source").unique().collect().to_series())
    families = [pair for pair in SAME_KERNELS if kernels & set(pair)]
    notes = []
    shape = shape_of("decode_attention")
    for other in others if families else ():
        files = _files(folder, system, other, table)
        for version in by_nearness("", files)[:1]:
            rows = _rows(files[version], table, other, kernels={n for pair in families for n in pair})
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


def _rows(file: Path, table: _Table, engine: str, kernels: Collection[str] | None = None) -> pl.DataFrame:
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


def _wanted(rows: pl.LazyFrame, present: list[str], table: _Table, engine: str) -> pl.LazyFrame:
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
