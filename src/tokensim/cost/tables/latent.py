"""Latent attention (MLA) from measured tables: of the kernel alone, or of the module with its projections.

A module's time is taken apart: less that of its projections at its number of rows, from the same tables. In
a step with chunks and decodes the projections then run once over all rows, as they do in the engine, and a
step of equal requests takes what the module took. Norms and rotary stay inside the attention.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from tokensim.cost.base import AttentionTime, RowTime, Setting
from tokensim.cost.tables.attention import TableAttention
from tokensim.cost.tables.curves import Covered, RowCurve
from tokensim.cost.tables.formats import table_formats
from tokensim.cost.tables.gemm import GemmTable
from tokensim.cost.tables.grids import DecodeGrid, PrefillGrid
from tokensim.cost.tables.heads import kv_rows
from tokensim.model import dtypes
from tokensim.model.operators import Attention, Gemm, Operator
from tokensim.workload.base import Floats

if TYPE_CHECKING:
    import polars as pl

GEOMETRY = ((576, 512), (192, 128))
"""(qk, v) sizes on latents and of expanded heads: DeepSeek-V3's, the only ones in the tables."""

HIDDEN, QUERY_RANK = 7168, 1536
"""Of the measured module: DeepSeek-V3's hidden size and rank of its queries."""

PROJECTIONS = ("q_a_proj", "q_b_proj", "kv_a_proj", "q_absorb", "v_up_proj", "o_proj")
"""GEMMs inside the module (names of ``model.shards``)."""

BATCHED = {"q_absorb": "pre", "v_up_proj": "post"}
"""Those that are batched over heads, and their part in ``mla_bmm``."""

INSIDE = ("q_a_norm", "kv_a_norm", "rotary")
"""Elementwise operators that stay in the module's time."""

LEAST_SHARE = 0.05
"""Of a module, what is left to attention at least: projections measured apart may, by noise, exceed it."""


class LatentTables:
    """Latent attention of one profile: ``mla_decode``, ``mla_prefill`` and, if there, ``mla_bmm``."""

    def __init__(
        self, tables: Mapping[str, pl.DataFrame], gemm: GemmTable | None, setting: Setting, source: str
    ) -> None:
        self._decode = kv_rows(tables["mla_decode"], setting.kv_dtype)
        self._prefill = kv_rows(tables["mla_prefill"], setting.kv_dtype)
        self._bmm = tables.get("mla_bmm")
        self._gemm = gemm
        self._source = source

    def price(self, operators: Sequence[Operator]) -> dict[str, RowTime | AttentionTime]:
        """The times of latent attention and of what its measurement includes; empty if it was not
        measured."""
        named = {op.name: op for op in operators}
        op = named.get("attention")
        if not isinstance(op, Attention) or ((op.qk_dim, op.v_dim), op.prefill_dims) != GEOMETRY:
            return {}
        bmms: dict[str, RowCurve] = {
            name: curve for name in BATCHED if (curve := self._batched(named.get(name), op.heads)) is not None
        }
        kernel = self._attention(op, "kernel", ("",), {})
        if kernel is not None:
            return {**bmms, op.name: kernel}
        o_proj, q_a_proj = named.get("o_proj"), named.get("q_a_proj")
        if not (isinstance(o_proj, Gemm) and isinstance(q_a_proj, Gemm)) or self._gemm is None:
            return {}
        if (o_proj.n, q_a_proj.n) != (HIDDEN, QUERY_RANK):
            return {}
        projections: dict[str, RowCurve] = {}
        for name in PROJECTIONS:
            projection = named.get(name)
            curve = bmms.get(name)
            if curve is None and isinstance(projection, Gemm):
                curve = self._gemm.price(projection)
            if not isinstance(curve, RowCurve):
                return {}
            projections[name] = curve
        formats = table_formats(dtypes.weight_dtype(o_proj.weight_dtype))
        module = self._attention(op, "module", formats, projections)
        if module is None:
            return {}
        covered = {name: Covered(self._source) for name in INSIDE if name in named}
        return {**projections, **covered, op.name: module}

    def _attention(
        self, op: Attention, part: str, formats: Sequence[str], projections: Mapping[str, RowCurve]
    ) -> TableAttention | None:
        """The time of ``op``, without that of ``projections``; None if it was not measured."""
        decode, prefill = (
            table.filter((table["part"] == part) & (table["heads"] == op.heads))
            for table in (self._decode, self._prefill)
        )
        prefill = prefill.filter(prefill["cached"] == 0)
        known = set(decode["gemm_dtype"]) & set(prefill["gemm_dtype"])
        name = next((name for name in formats if name in known), None)
        if name is None:
            return None
        decode, prefill = (table.filter(table["gemm_dtype"] == name) for table in (decode, prefill))
        if decode["context"].n_unique() < 2:
            return None
        batch, context, seconds = _columns(decode, "batch", "context")
        grid = DecodeGrid((batch, context, _less(seconds, batch, projections, op.count)))
        batch, tokens, seconds = _columns(prefill, "batch", "tokens")
        work = PrefillGrid((batch, tokens, _less(seconds, batch * tokens, projections, op.count)))
        return TableAttention(op, grid, work, None, self._source, not projections)

    def _batched(self, op: Operator | None, heads: int) -> RowCurve | None:
        """The time of an absorbed up-projection; None if it was not measured for these heads."""
        if self._bmm is None or not isinstance(op, Gemm):
            return None
        table = self._bmm
        formats = table_formats(dtypes.weight_dtype(op.weight_dtype))
        table = table.filter((table["part"] == BATCHED[op.name]) & (table["heads"] == heads))
        table = table.filter(table["dtype"].is_in(formats)).sort("tokens")
        if table.is_empty():
            return None
        tokens, seconds = table["tokens"].to_numpy().astype(float), table["seconds"].to_numpy()
        return RowCurve(tokens, seconds, self._source, float(op.count))


def _columns(table: pl.DataFrame, first: str, second: str) -> tuple[Floats, Floats, Floats]:
    x, y, z = (np.asarray(table[name].to_numpy(), float) for name in (first, second, "seconds"))
    return x, y, z


def _less(seconds: Floats, rows: Floats, projections: Mapping[str, RowCurve], count: int) -> Floats:
    """``seconds`` of a module less those of its projections (of one layer) at ``rows``."""
    inside = sum((curve.seconds(rows) / count for curve in projections.values()), np.zeros(len(rows)))
    return np.asarray(np.maximum(seconds - inside, LEAST_SHARE * seconds), float)
