"""Which measured shape of attention stands for an operator: the same heads, else the nearest."""

from __future__ import annotations

from dataclasses import dataclass
from math import log
from typing import TYPE_CHECKING, Literal

import numpy as np

from tokensim.model.operators import Attention
from tokensim.workload.base import Floats

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True, slots=True)
class Shape:
    """The rows of one measured shape; ``exact``: the very heads and window of the operator."""

    heads: int
    kv_heads: int
    window: int
    exact: bool
    rows: pl.DataFrame

    def columns(self, first: str, second: str, third: str) -> tuple[Floats, Floats, Floats]:
        """Three columns as arrays."""
        x, y, z = (np.asarray(self.rows[name].to_numpy(), float) for name in (first, second, third))
        return x, y, z


def shape_of(table: pl.DataFrame, op: Attention, by: Literal["heads", "kv_heads"]) -> Shape | None:
    """The measured shape for ``op``: its head size, its window (else full attention), the nearest ratio of
    query to key-value heads, and of those the nearest number ``by``. None if its head size is not there."""
    table = table.filter(table["head_dim"] == op.qk_dim)
    window = op.window or 0
    if window not in table["window"]:
        window = 0
    table = table.filter(table["window"] == window)
    shapes = list(table.select("heads", "kv_heads").unique().iter_rows())
    if not shapes:
        return None
    ratio = op.heads / op.kv_heads
    wanted = op.heads if by == "heads" else op.kv_heads

    def distance(shape: tuple[int, int]) -> tuple[float, float, tuple[int, int]]:
        heads, kv_heads = shape
        size = heads if by == "heads" else kv_heads
        return abs(log(heads / kv_heads / ratio)), abs(log(size / wanted)), shape

    heads, kv_heads = min(shapes, key=distance)
    exact = (heads, kv_heads, window) == (op.heads, op.kv_heads, op.window or 0)
    rows = table.filter((table["heads"] == heads) & (table["kv_heads"] == kv_heads))
    return Shape(heads, kv_heads, window, exact, rows)


def kv_rows(table: pl.DataFrame, kv_dtype: str) -> pl.DataFrame:
    """The rows of ``table`` for a KV cache dtype; every 16-bit format moves what every other does."""
    name = kv_dtype.lower()
    names = ("fp8",) if name.startswith("fp8") else SIXTEEN_BIT if name in SIXTEEN_BIT else (name,)
    for wanted in dict.fromkeys((name, *names)):
        rows = table.filter(table["kv_dtype"] == wanted)
        if not rows.is_empty():
            return rows
    return table.clear()


SIXTEEN_BIT = ("bfloat16", "float16", "auto")
