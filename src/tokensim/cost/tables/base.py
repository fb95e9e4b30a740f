"""Measured operator times in one canonical form, whatever they were read from.

A ``Profile`` holds what was measured on one device under one engine: a polars table a kind of operator, in SI
units, times in seconds, with the columns below. Readers (one module a format) make them and pass every table
through ``checked``; ``measured.py`` interpolates in them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tokensim.errors import InputError, nearest

if TYPE_CHECKING:
    import polars as pl

COLUMNS: dict[str, dict[str, str]] = {
    # y[m, n] = x[m, k] @ w[k, n]; dtype: bfloat16 | float16 | fp8 | fp8_block | int8_wo | int4_wo | nvfp4 ...
    "gemm": {"dtype": "str", "n": "int", "k": "int", "m": "int"},
    # 16-bit GEMMs as measured under other engines, which hand them to the same vendor library
    "gemm_elsewhere": {"engine": "str", "dtype": "str", "n": "int", "k": "int", "m": "int"},
    # one call: `batch` sequences with `tokens` new tokens each after `cached` ones; window 0: full attention
    "prefill_attention": {
        "kv_dtype": "str", "heads": "int", "kv_heads": "int", "head_dim": "int", "window": "int",
        "batch": "int", "tokens": "int", "cached": "int",
    },
    # one call: `batch` sequences, one token each, attending to `context` tokens (the new one included)
    "decode_attention": {
        "kv_dtype": "str", "heads": "int", "kv_heads": "int", "head_dim": "int", "window": "int",
        "batch": "int", "context": "int",
    },
    # one call of both: chunks of `tokens` new tokens in all, `cached` tokens of theirs before, beside
    # `decodes` requests with a mean context of `context`
    "mixed_attention": {
        "kv_dtype": "str", "heads": "int", "kv_heads": "int", "head_dim": "int",
        "tokens": "int", "cached": "int", "decodes": "int", "context": "int",
    },
    # t(unequal contexts) for `decodes` requests, of mean context `context` and longest `longest`, beside
    # chunks as above; `mean_seconds`, `longest_seconds`: when all have the mean / the longest context
    "skewed_attention": {
        "kv_dtype": "str", "heads": "int", "kv_heads": "int", "head_dim": "int",
        "tokens": "int", "cached": "int", "decodes": "int", "context": "int", "longest": "int",
        "mean_seconds": "float", "longest_seconds": "float",
    },
    # a routed-experts layer of one rank of tensor x expert that share `tokens`; `activated`: experts hit,
    # where that was set (else null); `intermediate` before tensor slicing, `experts` before expert slicing;
    # distribution of the tokens over the experts: balanced | power_law_1.2 ... | given (by `activated`)
    "experts": {
        "dtype": "str", "hidden": "int", "intermediate": "int", "experts": "int", "top_k": "int",
        "tensor": "int", "expert": "int", "distribution": "str", "tokens": "int", "activated": "int",
    },
    # latent attention in the geometry of DeepSeek-V3 (latent 512 + 64, heads of 128 + 64 and 128, hidden
    # 7168), `heads` a rank. part: kernel (attention alone) | module (with its projections, in gemm_dtype;
    # empty for a kernel)
    "mla_prefill": {
        "part": "str", "kv_dtype": "str", "gemm_dtype": "str", "heads": "int",
        "batch": "int", "tokens": "int", "cached": "int",
    },
    "mla_decode": {
        "part": "str", "kv_dtype": "str", "gemm_dtype": "str", "heads": "int",
        "batch": "int", "context": "int",
    },
    # the batched GEMMs that absorb the up-projections of latent attention in decode. part: pre (queries into
    # the latent) | post (latent into values)
    "mla_bmm": {"part": "str", "dtype": "str", "heads": "int", "tokens": "int"},
    # collective: all_reduce | all_gather | reduce_scatter | all_to_all | send_recv; bytes: the whole buffer
    # (what is reduced, gathered from all, scattered to all, or sent by one rank); backend: custom_graph |
    # custom_eager (the engine's own kernels inside and outside a CUDA graph) | nccl | rccl | oneccl | gloo
    "collective": {"collective": "str", "backend": "str", "ranks": "int", "bytes": "int"},
    # an elementwise operator of `rows` rows (tokens, or samples) that each move `row_bytes`; operator: norm |
    # activation | rotary | embedding | sampling; dtype: of the activations
    "elementwise": {"operator": "str", "dtype": "str", "row_bytes": "int", "rows": "int"},
    # a layer measured under its own name in a model (norms, rotary, projections, LM head, sampling ...),
    # as `model`'s under `tensor` ranks, its weights in `dtype`; rows: tokens, or samples (sequences)
    "layer": {"model": "str", "dtype": "str", "tensor": "int", "layer": "str", "rows": "int"},
}  # fmt: skip
"""Columns of each kind (besides ``seconds``, and optionally those of ``OPTIONAL``)."""

OPTIONAL = {"spread": "float", "hot_seconds": "float"}
"""``spread``: the relative spread of repeats; ``hot_seconds``: the time with all operands in the device's
cache, where ``seconds`` is that with weights and KV from memory."""

AXES: dict[str, tuple[str, ...]] = {
    "gemm": ("n", "k", "m"),
    "gemm_elsewhere": ("n", "k", "m"),
    "prefill_attention": ("batch", "tokens", "cached"),
    "decode_attention": ("batch", "context"),
    "mixed_attention": ("tokens", "cached", "decodes", "context"),
    "skewed_attention": ("tokens", "cached", "decodes", "context", "longest"),
    "experts": ("tokens", "activated"),
    "mla_prefill": ("batch", "tokens", "cached"),
    "mla_decode": ("batch", "context"),
    "mla_bmm": ("tokens",),
    "collective": ("bytes",),
    "elementwise": ("rows",),
    "layer": ("rows",),
}
"""The columns along which a kind is interpolated; the others say what was measured."""

NULLABLE = {("experts", "activated")}

LONGEST_MEDIAN_S = 100.0
"""No operator's table has a median of 100 s (measured ones: below 10 ms): the unit is wrong."""
SHORTEST_MEDIAN_S = 1e-7
"""Nor one of 0.1 µs: launching an empty kernel takes longer (about 2 µs, catalog: ``kernel_overhead``)."""


@dataclass(frozen=True, slots=True)
class Profile:
    """Operator times of one device under one engine.

    ``device`` is a catalog id where it is known, else the name that the source gives; ``source`` says where
    the numbers come from (package and version, or folder), ``provenance`` what else is known (driver, date,
    licence...). ``tables`` maps a kind of ``COLUMNS`` to its table; kinds without measurements are absent.
    ``notes`` are what a reader should know: versions taken, rows merged or left out.
    """

    device: str
    engine: str
    version: str
    source: str
    tables: dict[str, pl.DataFrame]
    provenance: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def shape_of(kind: str) -> list[str]:
    """The columns that say which shape was measured, without the measured times."""
    return [name for name in COLUMNS[kind] if not name.endswith("_seconds")]


def identity(kind: str) -> list[str]:
    """The columns that say what was measured, without the axes along which it was."""
    return [name for name in shape_of(kind) if name not in AXES[kind]]


def checked(kind: str, frame: pl.DataFrame, where: str) -> tuple[pl.DataFrame, list[str]]:
    """The table in canonical columns, types and order (sorted by them), and notes on what was changed.

    Rows of equal shape become one with their median time. Raises ``InputError`` that names ``where`` (a file)
    and the column for: an unknown kind, missing columns, a wrong type, an empty table, a null, a time that is
    not finite and above 0, a negative size, and times in another unit (median under 0.1 µs or over 100 s).
    """
    import polars as pl

    if kind not in COLUMNS:
        raise InputError(f"unknown kind of operator '{kind}'", where=where, hint=nearest(kind, COLUMNS))
    wanted = {**COLUMNS[kind], "seconds": "float"}
    missing = [name for name in wanted if name not in frame.columns]
    if missing:
        raise InputError(
            f"{kind}: missing column" + ("s " if len(missing) > 1 else " ") + ", ".join(map(repr, missing)),
            where=where,
            hint=f"it has {', '.join(frame.columns) or 'no columns'}; needed: {', '.join(wanted)}",
        )
    present = {**wanted, **{name: type_ for name, type_ in OPTIONAL.items() if name in frame.columns}}
    frame = frame.select(_typed(frame[name], type_, kind, where) for name, type_ in present.items())
    if frame.is_empty():
        raise InputError(
            f"{kind}: the table has no rows", where=where, hint="leave out what was not measured"
        )
    for name, type_ in present.items():
        _refuse_values(frame, kind, name, type_, where)
    _refuse_units(frame, kind, where)
    shape = shape_of(kind)
    notes = []
    repeats = int(frame.select(shape).is_duplicated().sum())
    if repeats:
        notes.append(f"{kind}: {repeats:,} rows share a shape; its median time is kept")
        frame = frame.group_by(shape).agg(pl.exclude(shape).median()).select(frame.columns)
    return frame.sort(shape), notes


def holes(kind: str, frame: pl.DataFrame) -> str | None:
    """How much of the grid that the axes of each measured thing span is missing; None where nothing is.

    Holes are common where a shape did not fit in memory; interpolation goes on between what is there.
    """
    import polars as pl

    axes = [name for name in AXES[kind] if frame[name].null_count() == 0]
    if kind == "skewed_attention" or len(axes) < 2:
        return None  # scattered points by design; a line has no holes
    counts = frame.group_by(identity(kind) or [pl.lit(0).alias("all")]).agg(
        pl.len().alias("rows"), *(pl.col(name).n_unique().alias(name) for name in axes)
    )
    points = sum(_product(row) for row in counts.select(axes).iter_rows())
    if points <= frame.height:
        return None
    return (
        f"{kind}: {points - frame.height:,} of {points:,} points ({1 - frame.height / points:.0%}) of the "
        f"grids of {', '.join(axes)} are not measured"
    )


def _product(numbers: tuple[int, ...]) -> int:
    result = 1
    for number in numbers:
        result *= number
    return result


def _typed(column: pl.Series, type_: str, kind: str, where: str) -> pl.Series:
    """``column`` as text, whole numbers or floats; numbers written as floats may be whole."""
    import polars as pl

    target = {"str": pl.String(), "int": pl.Int64(), "float": pl.Float64()}[type_]
    right = {"str": "text", "int": "whole numbers", "float": "numbers"}[type_]
    refusal = InputError(
        f"{kind}: column '{column.name}' holds {column.dtype}, not {right}",
        where=where,
        hint=f"'{column.name}' must be {right}",
    )
    if column.dtype == target:
        return column
    if column.dtype == pl.Null and (kind, column.name) in NULLABLE:
        return column.cast(target)
    if type_ == "str":
        if column.dtype in (pl.Categorical, pl.Enum):
            return column.cast(target)
        raise refusal
    if not column.dtype.is_numeric():
        raise refusal
    if type_ == "int" and column.dtype.is_float():
        broken = column.filter(column.is_finite() & (column != column.round()))
        if not broken.is_empty() or not column.is_finite().fill_null(True).all():
            raise refusal
    return column.cast(target)


def _refuse_values(frame: pl.DataFrame, kind: str, name: str, type_: str, where: str) -> None:
    """Raise ``InputError`` for nulls, and numbers that a column cannot hold."""
    column = frame[name]
    nulls = column.null_count()
    if nulls and (kind, name) not in NULLABLE and name not in OPTIONAL:
        raise InputError(
            f"{kind}: column '{name}' is empty in {nulls} of {frame.height} rows",
            where=where,
            hint="leave out the rows that were not measured",
        )
    if type_ == "str":
        return
    time = name == "seconds" or name.endswith("_seconds")
    bad = (column <= 0) if time else (column < 0)
    if type_ == "float":
        bad = bad | ~column.is_finite()
    if bad.any():
        row = int(bad.fill_null(False).arg_max() or 0)
        raise InputError(
            f"{kind}: column '{name}' is {column[row]} in row {row + 1} ({int(bad.sum())} such rows)",
            where=where,
            hint=f"'{name}' must be finite and " + ("above 0" if time else "0 or more"),
        )


def _refuse_units(frame: pl.DataFrame, kind: str, where: str) -> None:
    """Raise ``InputError`` where the times cannot be seconds."""
    median = float(frame["seconds"].median())  # type: ignore[arg-type]  # a float: checked, not empty
    if not SHORTEST_MEDIAN_S <= median <= LONGEST_MEDIAN_S:
        raise InputError(
            f"{kind}: the median time is {median:.3g} s",
            where=where,
            hint="times are in seconds; these look like another unit (milliseconds, microseconds ...)",
        )
