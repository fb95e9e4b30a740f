"""Elementwise operators from measured tables: norms, activations, rotary, embeddings, sampling.

They are bound by memory, so a row of another size is looked up by its traffic: the line of ``row_bytes``
bytes a row says at ``rows`` rows what ``rows * row_bytes`` bytes take. Between two measured sizes of a row
both lines are weighed by the logarithm of the size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tokensim.cost.base import How, Setting
from tokensim.cost.tables.curves import RowCurve
from tokensim.model.operators import Elementwise
from tokensim.workload.base import Floats

if TYPE_CHECKING:
    import polars as pl

FAMILIES = {
    "embedding": "embedding",
    "norm": "norm",
    "final_norm": "norm",
    "rotary": "rotary",
    "ffn_activation": "activation",
    "shared_expert_activation": "activation",
    "sampling": "sampling",
}
"""Operators (``model.shards``) and what they are in the tables: ``norm`` is fused with the residual before it
(four numbers moved for each of the hidden size), ``activation`` multiplies by its gate."""

_SIXTEEN_BIT = ("bfloat16", "float16")


class ElementwiseTable:
    """The elementwise operators of one profile; ``table`` has the columns of ``elementwise``."""

    def __init__(self, table: pl.DataFrame, setting: Setting, source: str) -> None:
        wanted = setting.activation_dtype
        names = dict.fromkeys((wanted, *(_SIXTEEN_BIT if wanted in _SIXTEEN_BIT else ())))
        parts = (table.filter(table["dtype"] == name) for name in names)
        self._table = next((part for part in parts if not part.is_empty()), table.clear())
        self._source = source

    def price(self, op: Elementwise) -> RowCurve | None:
        """The time of ``op``; None where its family or dtype was not measured."""
        family = FAMILIES.get(op.name, "")
        table = self._table.filter(self._table["operator"] == family)
        if table.is_empty():
            return None
        sizes = np.unique(table["row_bytes"].to_numpy()).astype(float)
        size = float(op.bytes_per_row)
        at = int(np.argmin(np.abs(sizes - size)))
        if abs(sizes[at] - size) <= 1.0:  # as whole bytes
            rows, seconds = _line(table, sizes[at])
            return RowCurve(rows, seconds, self._source, float(op.count))
        i = int(np.searchsorted(sizes, size))
        inside = 0 < i < len(sizes)
        low, high = sizes[max(0, i - 1)], sizes[min(i, len(sizes) - 1)]
        share = float(np.log(size / low) / np.log(high / low)) if inside else 0.0
        lines = [_line(table, own) for own in (low, high)]
        rows = np.unique(
            np.concatenate([own * b / size for (own, _), b in zip(lines, (low, high), strict=True)])
        )
        curves = [
            RowCurve(own * b / size, seconds, "").seconds(rows)
            for (own, seconds), b in zip(lines, (low, high), strict=True)
        ]
        how: How = "interpolated" if inside else "extrapolated"
        seconds = np.asarray(curves[0] * (1.0 - share) + curves[1] * share, float)
        return RowCurve(rows, seconds, self._source, float(op.count), shape=how)


def _line(table: pl.DataFrame, row_bytes: float) -> tuple[Floats, Floats]:
    part = table.filter(table["row_bytes"] == row_bytes).sort("rows")
    return part["rows"].to_numpy().astype(float), part["seconds"].to_numpy()
