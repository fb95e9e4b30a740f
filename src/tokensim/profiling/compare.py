"""Two sets of measured tables, operator by operator: what the second says at the shapes of the first.

Tables of different tools have few shapes in common, so the second is asked as the simulator asks it:
interpolated, but nowhere beyond what was measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tokensim.cost.base import AttentionTime, OperatorCost, RowTime, Setting
from tokensim.cost.tables.base import Profile, identity
from tokensim.cost.tables.collectives import BACKENDS
from tokensim.cost.tables.elementwise import FAMILIES
from tokensim.cost.tables.experts import SPREADS
from tokensim.cost.tables.find import NATIVE, list_tables, open_tables
from tokensim.cost.tables.formats import expert_formats, table_formats
from tokensim.cost.tables.measured import measured_cost
from tokensim.cost.tables.native import merged
from tokensim.errors import InputError
from tokensim.hardware import Device, catalog_names, load_device
from tokensim.model.dtypes import BYTES, FULL_PRECISION
from tokensim.model.operators import Attention, Collective, Elementwise, Experts, Gemm, Operator
from tokensim.profiling.output import DEVICE_FILE

if TYPE_CHECKING:
    import polars as pl

SURE = ("exact", "interpolated")


@dataclass(frozen=True, slots=True)
class Difference:
    """How much longer the second set says that operators take: the relative difference at the ``compared`` of
    ``shapes`` shapes, its median and its 10th and 90th percentiles (NaN where nothing could be compared)."""

    kind: str
    what: str
    shapes: int
    compared: int
    median: float
    low: float
    high: float


def profiles_of(source: str, setting: Setting) -> list[Profile]:
    """The tables of ``source`` (as in ``list_tables``): all files of our own, of others those of the
    setting's device and engine. Raises ``InputError``."""
    entries = list_tables(source)
    if all(entry.format == NATIVE for entry in entries):
        return [merged([entry.read() for entry in entries])]
    return open_tables(source, setting)


def device_of(sources: Sequence[str], hardware: str | None) -> Device:
    """The device that tables are compared on: ``hardware``, else the device file of the first source that
    has one, else that of the catalog under which the tables are filed; raises ``InputError``."""
    if hardware is not None:
        return load_device(hardware, "--hardware")
    for source in sources:
        file = Path(source) / DEVICE_FILE
        if file.is_file():
            return load_device(file)
    for source in sources:
        for entry in list_tables(source):
            if entry.format == NATIVE and entry.device in catalog_names():
                return load_device(entry.device)
    raise InputError(
        "the tables do not say on which device they are compared",
        hint="--hardware h100-sxm-80gb, or the path of a device file",
    )


def compare(first: Sequence[Profile], second: Sequence[Profile], setting: Setting) -> list[Difference]:
    """The differences, a row for each kind of table and format in ``first``."""
    asked = _Asked(second, setting)
    rows: list[Difference] = []
    for profile in first:
        for kind, make in _MAKERS.items():
            table = profile.tables.get(kind)
            if table is not None:
                rows += _of_kind(kind, _preferred(kind, table), make, asked)
    return rows


def _preferred(kind: str, table: pl.DataFrame) -> pl.DataFrame:
    """Of several spreads over experts and of several libraries of collectives, the one that is used."""
    column, order = _CHOICES.get(kind, ("", ()))
    names = set(table[column]) if column else set()
    best = next((name for name in order if name in names), None)
    return table if best is None else table.filter(table[column] == best)


_CHOICES: dict[str, tuple[str, tuple[str, ...]]] = {
    "experts": ("distribution", SPREADS),
    "collective": ("backend", BACKENDS),
}


class _Asked:
    """The second set as a source of times, made once for each pair of formats."""

    def __init__(self, profiles: Sequence[Profile], setting: Setting) -> None:
        self.setting = setting
        self._profiles = profiles
        self._costs: dict[tuple[str, str], OperatorCost] = {}

    def time(self, op: Operator, setting: Setting) -> Any:
        """The time of ``op``; None where the tables do not know it."""
        key = setting.kv_dtype, setting.activation_dtype
        if key not in self._costs:
            self._costs[key] = measured_cost(self._profiles, setting)
        return self._costs[key].price([op]).get(op.name)


def _of_kind(kind: str, table: pl.DataFrame, make: _Maker, second: _Asked) -> Iterator[Difference]:
    found: dict[str, list[float]] = {}
    shapes: dict[str, int] = {}
    for _, part in table.group_by([*identity(kind), *_ALSO.get(kind, ())], maintain_order=True):
        first_row = part.row(0, named=True)
        what = str(first_row[_WHAT[kind]])
        shapes[what] = shapes.get(what, 0) + part.height
        own = found.setdefault(what, [])
        asked = make(first_row, second.setting)
        time = None if asked is None else second.time(*asked)
        if time is None:
            continue
        for row in part.iter_rows(named=True):
            seconds = _ASKERS[kind](time, row)
            if seconds is not None:
                own.append(seconds / row["seconds"] - 1.0)
    for what, values in found.items():
        low, middle, high = np.percentile(values, (10, 50, 90)) if values else (np.nan,) * 3
        yield Difference(kind, what, shapes[what], len(values), float(middle), float(low), float(high))


_Maker = Callable[[dict[str, Any], Setting], tuple[Operator, Setting] | None]


def _weights(name: str, formats: Callable[[str], tuple[str, ...]]) -> str | None:
    """The format of weights that runs by the kernel that tables call ``name``; None: they prefer another."""
    if name in FULL_PRECISION:
        return name
    return next((dtype for dtype in BYTES if formats(dtype)[:1] == (name,)), None)


def _gemm(row: dict[str, Any], setting: Setting) -> tuple[Operator, Setting] | None:
    dtype = _weights(row["dtype"], table_formats)
    return None if dtype is None else (Gemm("gemm", row["n"], row["k"], 1, dtype), setting)


def _attention(row: dict[str, Any], setting: Setting) -> tuple[Operator, Setting]:
    heads, kv_heads, dim, kv_dtype = (row[name] for name in ("heads", "kv_heads", "head_dim", "kv_dtype"))
    op = Attention("attention", heads, kv_heads, dim, dim, 4.0 * kv_heads * dim, 1, row["window"] or None)
    return op, replace(setting, kv_dtype=kv_dtype)


def _experts(row: dict[str, Any], setting: Setting) -> tuple[Operator, Setting] | None:
    dtype = _weights(row["dtype"], expert_formats)
    if dtype is None:
        return None
    local = -(-row["experts"] // row["expert"])
    op = Experts(
        name="experts",
        experts=local,
        total_experts=row["experts"],
        top_k=row["top_k"],
        hidden=row["hidden"],
        intermediate=row["intermediate"] // row["tensor"],
        gemms=3,
        count=1,
        weight_dtype=dtype,
    )
    return op, setting


def _elementwise(row: dict[str, Any], setting: Setting) -> tuple[Operator, Setting]:
    name = next(name for name, family in FAMILIES.items() if family == row["operator"])
    return Elementwise(name, float(row["row_bytes"]), 1), replace(setting, activation_dtype=row["dtype"])


def _collective(row: dict[str, Any], setting: Setting) -> tuple[Operator, Setting] | None:
    kind = row["collective"]
    if kind not in ("all_reduce", "all_gather", "reduce_scatter", "all_to_all"):
        return None
    each = 1.0 / row["ranks"] if kind == "all_gather" else 1.0  # so that a row is a byte of the buffer
    return Collective("collective", kind, each, row["ranks"], 1), setting


_MAKERS: dict[str, _Maker] = {
    "gemm": _gemm,
    "prefill_attention": _attention,
    "decode_attention": _attention,
    "experts": _experts,
    "elementwise": _elementwise,
    "collective": _collective,
}
_ALSO = {"gemm": ("n", "k")}
"""Axes that are part of an operator's shape, not of a step's load."""
_WHAT = {
    "gemm": "dtype",
    "prefill_attention": "kv_dtype",
    "decode_attention": "kv_dtype",
    "experts": "dtype",
    "elementwise": "operator",
    "collective": "collective",
}


def _by_rows(axis: str) -> Callable[[Any, dict[str, Any]], float | None]:
    def ask(time: RowTime, row: dict[str, Any]) -> float | None:
        rows = float(row[axis])
        if time.origin(rows).how not in SURE:
            return None
        return float(time.seconds(np.array([rows]))[0])

    return ask


def _decode(time: AttentionTime, row: dict[str, Any]) -> float | None:
    batch, context = row["batch"], float(row["context"])
    if time.origin((), batch, batch * context, context).how not in SURE:
        return None
    return time.decode(batch).at(context)


def _prefill(time: AttentionTime, row: dict[str, Any]) -> float | None:
    chunks = [(row["tokens"], row["cached"])] * row["batch"]
    if time.origin(chunks, 0, 0.0, 0.0).how not in SURE:
        return None
    return time.mixed(chunks, 0, 0.0, 0.0)


_ASKERS: dict[str, Callable[[Any, dict[str, Any]], float | None]] = {
    "gemm": _by_rows("m"),
    "prefill_attention": _prefill,
    "decode_attention": _decode,
    "experts": _by_rows("tokens"),
    "elementwise": _by_rows("rows"),
    "collective": _by_rows("bytes"),
}
