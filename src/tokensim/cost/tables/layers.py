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
    projection needs the dtype of its weights; what has no weights to speak of takes any."""

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
        for op in operators:
            if not isinstance(op, Gemm | Elementwise) or op.name not in LAYERS:
                continue
            wanted = table_formats(dtypes.weight_dtype(op.weight_dtype)) if isinstance(op, Gemm) else ()
            first, *more = LAYERS[op.name]
            for dtype in wanted or self._dtypes:
                if (dtype, first) in self._layers:
                    names = [name for name in (first, *more) if (dtype, name) in self._layers]
                    curves = [self._curve(dtype, name, op.count) for name in names]
                    times[op.name] = curves[0] if len(curves) == 1 else Sum(tuple(curves))
                    break
        return times

    def _curve(self, dtype: str, name: str, count: int) -> RowCurve:
        part = self._layers[dtype, name].sort("rows")
        rows, seconds = (np.asarray(part[column].to_numpy(), float) for column in ("rows", "seconds"))
        return RowCurve(rows, seconds, self._source, float(count))
