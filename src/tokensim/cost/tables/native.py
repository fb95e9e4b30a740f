"""Our own format of measured tables: one self-describing parquet file a device, engine and dtype.

One long table: a column ``kind``, the columns of every kind in it (null where a kind has no such column),
``seconds`` and, where known, ``spread``; sorted by kind and shape, compressed with zstd, times in 32-bit
floats (their 7 digits outlast any clock). The file's key-value metadata says what it is: ``tokensim.format``
(name and version), ``device``, ``engine``, ``version``, ``dtype``, ``source``, ``provenance``, ``notes`` and
``columns`` (what each means, with its unit). The same tables give the same bytes.

A table's rows are dealt to the files by their dtype (``dtype``, ``gemm_dtype``, else ``kv_dtype``); kinds
without one (collectives, layers) are in the file of the engine's main dtype.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokensim.cost.tables.base import COLUMNS, OPTIONAL, Profile, checked, shape_of
from tokensim.errors import InputError

if TYPE_CHECKING:
    import polars as pl

FORMAT = "tokensim-operator-times"
FORMAT_VERSION = 1
_KEY = "tokensim."
_DTYPE_COLUMNS = ("dtype", "gemm_dtype", "kv_dtype")
_SIXTEEN_BIT = ("bfloat16", "float16")
_ZSTD_LEVEL = 9  # 2 % smaller than 3 and as fast; 15 is no smaller (H100 under vLLM: 0.96 MB in 0.4 s)

MEANINGS = {
    "kind": "what was measured: " + ", ".join(COLUMNS),
    "seconds": "time of one call, in seconds",
    "spread": "relative spread of repeated measurements",
    "hot_seconds": "the time with all operands in the device's cache, in seconds",
    "operator": "norm, activation, rotary, embedding or sampling",
    "row_bytes": "bytes that a row moves",
    "dtype": "format of the weights (and of the activations, unless it ends in _wo or is w4a16_...)",
    "kv_dtype": "format of the KV cache",
    "gemm_dtype": "format of the projections' weights; empty: attention alone",
    "engine": "engine under which a GEMM of the vendor's library was measured too",
    "n": "columns of a GEMM's result",
    "k": "summed dimension of a GEMM",
    "m": "rows of a GEMM: tokens",
    "heads": "query heads of one rank",
    "kv_heads": "KV heads of one rank",
    "head_dim": "size of a head",
    "window": "sliding window in tokens; 0: full attention",
    "batch": "sequences",
    "tokens": "new tokens: of each sequence, or in all where there is no batch",
    "cached": "tokens in the cache before, of each sequence (mixed_attention: of all chunks)",
    "context": "tokens attended to by a decoding sequence, its new one included (their mean)",
    "decodes": "sequences that decode beside the chunks",
    "longest": "the longest context among the decoding sequences, in tokens",
    "mean_seconds": "the time if all decoding sequences had the mean context, in seconds",
    "longest_seconds": "the time if all decoding sequences had the longest context, in seconds",
    "hidden": "hidden size of the model",
    "intermediate": "width of an expert, before tensor slicing",
    "experts": "routed experts of the layer, before they are dealt to ranks",
    "top_k": "experts that a token goes to",
    "tensor": "tensor-parallel ranks",
    "expert": "expert-parallel ranks",
    "distribution": "how tokens spread over experts: balanced, power_law_<alpha>, given (by activated)",
    "activated": "experts that the tokens hit, where that was set",
    "part": "mla_*: kernel or module (with projections); mla_bmm: pre or post",
    "collective": "all_reduce, all_gather, reduce_scatter, all_to_all or send_recv",
    "backend": "custom_graph, custom_eager, nccl, rccl, oneccl or gloo",
    "ranks": "devices that take part",
    "bytes": "size of the whole buffer, in bytes",
    "model": "model whose layer it is",
    "layer": "name of the layer",
    "rows": "tokens of the step (or samples: LM head, sampler)",
}
"""What each column means, as written into the files."""


def merged(profiles: Sequence[Profile]) -> Profile:
    """One profile of several of the same device and engine; rows of one shape become their median."""
    import polars as pl

    first = profiles[0]
    if len(profiles) == 1:
        return first
    tables: dict[str, pl.DataFrame] = {}
    notes = [note for profile in profiles for note in profile.notes]
    for kind in COLUMNS:
        parts = [profile.tables[kind] for profile in profiles if kind in profile.tables]
        if parts:
            tables[kind], said = checked(kind, pl.concat(parts, how="diagonal"), first.source)
            notes += said
    facts = {
        key: "; ".join(dict.fromkeys(p.provenance[key] for p in profiles if key in p.provenance))
        for key in dict.fromkeys(key for profile in profiles for key in profile.provenance)
    }
    return Profile(
        device=first.device,
        engine=first.engine,
        version=_joined(profile.version for profile in profiles),
        source=_joined(profile.source for profile in profiles),
        tables=tables,
        provenance=facts,
        notes=tuple(dict.fromkeys(notes)),
    )


def write_profile(profile: Profile, folder: Path) -> list[Path]:
    """Write ``<device>-<engine>-<dtype>.parquet`` for each dtype of ``profile`` into ``folder``.

    The folder is made if absent; existing files of these names are replaced, each in one step. Returns the
    paths. Raises ``InputError`` for a folder that cannot be written, and for a profile without tables.
    """
    if not profile.tables:
        raise InputError(f"no operator times of {profile.device}", where=profile.source)
    paths = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for dtype, frame in _by_dtype(profile).items():
            name = f"{profile.device}-{profile.engine}-{dtype}".replace("/", "_").replace(" ", "_")
            path = folder / f"{name}.parquet"
            partial = path.with_name(f".{path.name}.partial")
            frame.write_parquet(
                partial,
                compression="zstd",
                compression_level=_ZSTD_LEVEL,
                statistics=False,
                metadata=_metadata(profile, dtype, frame.columns),
            )
            partial.replace(path)
            paths.append(path)
    except OSError as error:
        raise InputError(f"cannot be written: {error.strerror or error}", where=str(folder)) from None
    return paths


def read_profile(path: Path, kinds: Collection[str] | None = None) -> Profile:
    """The tables of one file, of the wanted ``kinds`` (default: all).

    Raises ``InputError`` for a file that is not of this format or version, or whose rows are bad.
    """
    import polars as pl

    facts = facts_of(path)
    try:
        frame = pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise InputError(f"cannot be read: {error}", where=str(path)) from None
    if "kind" not in frame.columns:
        raise InputError("missing column 'kind'", where=str(path), hint="it has " + ", ".join(frame.columns))
    tables: dict[str, pl.DataFrame] = {}
    notes = list(_json(path, facts, "notes", "[]"))
    for kind in frame["kind"].unique().sort():
        if kinds is None or kind in kinds:
            rows = frame.filter(pl.col("kind") == kind)
            empty = [
                name for name in OPTIONAL if name in rows.columns and rows[name].null_count() == len(rows)
            ]
            tables[kind], said = checked(str(kind), rows.drop(empty), str(path))
            notes += said
    return Profile(
        device=facts["device"],
        engine=facts["engine"],
        version=facts.get("version", ""),
        source=facts.get("source", str(path)),
        tables=tables,
        provenance=dict(_json(path, facts, "provenance", "{}")),
        notes=tuple(notes),
    )


def is_native(path: Path) -> bool:
    """Whether ``path`` is a parquet file that says to be of this format."""
    return path.suffix == ".parquet" and path.is_file() and "format" in _read_metadata(path)


def facts_of(path: Path) -> dict[str, str]:
    """What a file says of itself, without reading its table; raises ``InputError``."""
    facts = _read_metadata(path)
    known = f"{FORMAT} {FORMAT_VERSION}"
    if facts.get("format") != known:
        raise InputError(
            f"says to be '{facts['format']}'" if "format" in facts else "is not a file of measured tables",
            where=str(path),
            hint=f"expected a parquet file with the metadata '{_KEY}format' = '{known}'",
        )
    missing = [key for key in ("device", "engine", "dtype") if key not in facts]
    if missing:
        raise InputError(
            "the metadata lacks " + ", ".join(f"'{_KEY}{key}'" for key in missing), where=str(path)
        )
    return facts


def _read_metadata(path: Path) -> dict[str, str]:
    import polars as pl

    try:
        metadata = pl.read_parquet_metadata(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise InputError(f"cannot be read as parquet: {error}", where=str(path)) from None
    return {key.removeprefix(_KEY): value for key, value in metadata.items() if key.startswith(_KEY)}


def _json(path: Path, facts: dict[str, str], key: str, default: str) -> Any:
    """The value of one of the metadata's keys that are JSON."""
    try:
        value = json.loads(facts.get(key, default))
    except json.JSONDecodeError as error:
        raise InputError(f"the metadata '{_KEY}{key}' is not JSON: {error}", where=str(path)) from None
    if not isinstance(value, type(json.loads(default))):
        raise InputError(f"the metadata '{_KEY}{key}' is {value!r}", where=str(path))
    return value


def _metadata(profile: Profile, dtype: str, columns: Iterable[str]) -> dict[str, str]:
    """The key-value metadata of one file."""
    facts = {
        "format": f"{FORMAT} {FORMAT_VERSION}",
        "device": profile.device,
        "engine": profile.engine,
        "version": profile.version,
        "dtype": dtype,
        "source": profile.source,
        "provenance": json.dumps(profile.provenance, sort_keys=True),
        "notes": json.dumps(profile.notes),
        "columns": json.dumps({name: MEANINGS[name] for name in columns}),
    }
    return {f"{_KEY}{key}": value for key, value in facts.items()}


def _by_dtype(profile: Profile) -> dict[str, pl.DataFrame]:
    """The long table of each dtype, in order of the dtype's name."""
    import polars as pl

    columns = [
        "kind",
        *dict.fromkeys(name for kind in COLUMNS for name in COLUMNS[kind]),
        "seconds",
        *OPTIONAL,
    ]
    parts: dict[str, list[pl.DataFrame]] = {}
    undealt: list[pl.DataFrame] = []
    for kind in sorted(profile.tables):
        frame = profile.tables[kind].sort(shape_of(kind)).with_columns(pl.lit(kind).alias("kind"))
        named = [name for name in _DTYPE_COLUMNS if name in frame.columns]
        if not named:
            undealt.append(frame)
            continue
        dtypes = pl.coalesce(pl.when(pl.col(name) != "").then(pl.col(name)) for name in named)
        for (dtype,), rows in frame.with_columns(_dtype=dtypes).partition_by("_dtype", as_dict=True).items():
            parts.setdefault(str(dtype), []).append(rows.drop("_dtype"))
    if undealt:
        sixteen = [dtype for dtype in _SIXTEEN_BIT if dtype in parts]
        main = (sixteen or sorted(parts) or [_SIXTEEN_BIT[0]])[0]
        parts.setdefault(main, []).extend(undealt)
    tables = {}
    for dtype in sorted(parts):
        frame = pl.concat(sorted(parts[dtype], key=lambda rows: str(rows["kind"][0])), how="diagonal")
        frame = frame.select(name for name in columns if name in frame.columns)
        times = [name for name, type_ in frame.schema.items() if type_ == pl.Float64]
        tables[dtype] = frame.with_columns(pl.col(times).cast(pl.Float32))
    return tables


def _joined(texts: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(text for text in texts if text))
