"""Layers that were measured by name in one model: projections, norms, activations, head and sampling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from tokensim.cost.base import RowTime, Setting
from tokensim.cost.tables.curves import RowCurve, Sum
from tokensim.cost.tables.formats import table_formats
from tokensim.model import dtypes
from tokensim.model.operators import Elementwise, Gemm, Operator

if TYPE_CHECKING:
    import polars as pl

LAYERS: dict[str, tuple[str, ...]] = {
    "embedding": ("embedding",),
    "norm": ("layernorm", "add"),
    "qkv_proj": ("qkv_proj",),
    "qk_norm": ("qk_norm",),
    "rotary": ("rotary_emb",),
    "o_proj": ("o_proj",),
    "ffn_gate_up": ("gate_up_proj",),
    "ffn_up": ("gate_up_proj",),
    "ffn_activation": ("act_fn",),
    "ffn_down": ("down_proj",),
    "router": ("gate",),
    "final_norm": ("final_layernorm",),
    "lm_head": ("lm_head",),
    "sampling": ("sampler",),
}
"""Operators (``model.shards``) and the layers of the tables that they are, under the names of vLLM's modules.
A norm is fused with the residual before it, in vLLM; where the addition was measured apart, both count."""


class LayerTable:
    """The layers of ``setting.model`` in ``table`` (columns of ``layer``), at its tensor parallelism. A
    projection needs the dtype of its weights; what has no weights to speak of takes any.

    A profile repeats one layer, whose smaller weights then stay in the device's cache, as they never do in a
    model of many layers (an RTX PRO 6000 holds 128 MB: a projection of 21 MB ran at 97 % of the memory's
    bandwidth). So no weights are read faster than those of the LM head, which no cache holds.
    """

    def __init__(self, table: pl.DataFrame, setting: Setting, source: str) -> None:
        mine = table.filter((table["model"] == setting.model) & (table["tensor"] == setting.tensor))
        self._layers = {
            (str(key[0]), str(key[1])): part
            for key, part in mine.partition_by("dtype", "layer", as_dict=True).items()
        }
        self._dtypes = sorted({dtype for dtype, _ in self._layers})
        self._source = source

    def price(self, operators: Sequence[Operator]) -> dict[str, RowTime]:
        """The times of those of ``operators`` that were measured."""
        times: dict[str, RowTime] = {}
        head = next((op for op in operators if isinstance(op, Gemm) and op.name == "lm_head"), None)
        weight_s = 0.0 if head is None else self._seconds_a_weight(head)
        for op in operators:
            if not isinstance(op, Gemm | Elementwise) or op.name not in LAYERS:
                continue
            alike = isinstance(op, Gemm) and head is not None and op.weight_dtype == head.weight_dtype
            least_s = weight_s * op.n * op.k if isinstance(op, Gemm) and alike and op is not head else 0.0
            wanted = table_formats(dtypes.weight_dtype(op.weight_dtype)) if isinstance(op, Gemm) else ()
            first, *more = LAYERS[op.name]
            for dtype in wanted or self._dtypes:
                if (dtype, first) in self._layers:
                    names = [name for name in (first, *more) if (dtype, name) in self._layers]
                    curves = [self._curve(dtype, name, op.count, least_s) for name in names]
                    times[op.name] = curves[0] if len(curves) == 1 else Sum(tuple(curves))
                    break
        return times

    def _seconds_a_weight(self, head: Gemm) -> float:
        """Seconds to read one weight of the LM head with as few rows as were measured; 0 if it was not."""
        for dtype in table_formats(dtypes.weight_dtype(head.weight_dtype)):
            if (dtype, head.name) in self._layers:
                return float(self._curve(dtype, head.name, 1).seconds_at[0]) / (head.n * head.k)
        return 0.0

    def _curve(self, dtype: str, name: str, count: int, least_s: float = 0.0) -> RowCurve:
        part = self._layers[dtype, name].sort("rows")
        rows, seconds = (np.asarray(part[column].to_numpy(), float) for column in ("rows", "seconds"))
        return RowCurve(rows, np.maximum(seconds, least_s), self._source, float(count))
