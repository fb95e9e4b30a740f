"""What can be measured: one shape of one operator, and the work that it is.

A shape is a row of the measured tables (``cost.tables.base.COLUMNS``) without its time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tokensim.model.dtypes import BYTES

Value = int | str

TABLE_BYTES = {**BYTES, "int8_wo": 1.0, "int8": 1.0}
"""Bytes of one weight or cached number, by the tables' names of formats."""

WEIGHT_ONLY = ("int8_wo",)
"""Formats whose activations stay in 16 bits."""


@dataclass(frozen=True, slots=True)
class Shape:
    """One shape of an operator: the ``kind`` of table and the (column, value) pairs of its row."""

    kind: str
    values: tuple[tuple[str, Value], ...]

    @staticmethod
    def of(kind: str, **values: Value) -> Shape:
        """The shape with these columns; their order does not matter."""
        return Shape(kind, tuple(sorted(values.items())))

    def __getitem__(self, name: str) -> Any:
        return dict(self.values)[name]

    def at(self, **changes: Value) -> Shape:
        """The same with other values in some columns."""
        return Shape.of(self.kind, **{**dict(self.values), **changes})

    def without(self, name: str) -> Shape:
        """The same without a column: what a line along it has in common."""
        return Shape(self.kind, tuple(pair for pair in self.values if pair[0] != name))

    def __str__(self) -> str:
        return f"{self.kind} " + " ".join(f"{name}={value}" for name, value in self.values)


@dataclass(frozen=True, slots=True)
class Work:
    """FLOPs of a call, bytes that it moves, and the bytes of its ``operands``: what must fit in memory."""

    flops: float
    bytes: float
    operands: float


def work(shape: Shape) -> Work:
    """The work of one call of ``shape``; activations count 16 bits, or 32 beside 32-bit weights."""
    match shape.kind:
        case "gemm":
            m, n, k = float(shape["m"]), float(shape["n"]), float(shape["k"])
            weight = TABLE_BYTES[shape["dtype"]]
            moved = n * k * weight + m * (n + k) * max(2.0, weight)
            return Work(2.0 * m * n * k, moved, moved)
        case "decode_attention":
            pairs = float(shape["batch"]) * shape["context"]
            return _attention(shape, pairs, pairs, float(shape["batch"]))
        case "prefill_attention":
            rows = float(shape["batch"]) * shape["tokens"]
            pairs = rows * (shape["cached"] + shape["tokens"] / 2)
            return _attention(shape, pairs, rows + shape["batch"] * shape["cached"], rows)
        case "mixed_attention":
            tokens, decodes = float(shape["tokens"]), float(shape["decodes"])
            read = tokens + shape["cached"] + decodes * shape["context"]
            pairs = tokens * (shape["cached"] + tokens / 2) + decodes * shape["context"]
            return _attention(shape, pairs, read, tokens + decodes)
        case "experts":
            return _experts(shape)
        case "elementwise":
            moved = float(shape["row_bytes"]) * shape["rows"]
            return Work(0.0, moved, moved)
        case "collective":
            return Work(0.0, 2.0 * shape["bytes"], float(shape["bytes"]))
    raise ValueError(f"no work is known of {shape}")


def _attention(shape: Shape, pairs: float, read: float, rows: float) -> Work:
    size = TABLE_BYTES[shape["kv_dtype"]]
    heads, kv_heads, dim = shape["heads"], shape["kv_heads"], shape["head_dim"]
    moved = (2.0 * read * kv_heads + 2.0 * rows * heads) * dim * size
    return Work(4.0 * pairs * heads * dim, moved, moved)


def _experts(shape: Shape) -> Work:
    """Of one rank: weights of the experts hit by tokens that choose independently, and their visits."""
    tokens = float(shape["tokens"])
    local = shape["experts"] / shape["expert"]
    weights = 3.0 * shape["hidden"] * shape["intermediate"] / shape["tensor"]
    size = TABLE_BYTES[shape["dtype"]]
    share = shape["top_k"] / shape["experts"]
    visits = tokens * shape["top_k"] / shape["expert"]
    hit = local * (1.0 - (1.0 - share) ** tokens)
    rows = visits * 2.0 * (2 * shape["hidden"] + 3 * shape["intermediate"] / shape["tensor"])
    return Work(2.0 * visits * weights, hit * weights * size + rows, local * weights * size + rows)
