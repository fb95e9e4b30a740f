"""Routed experts from measured tables: by tokens for a spread over the experts, or by tokens and experts hit.

Tables made by a kernel benchmark have times for one or more spreads of tokens over experts. Default:
``power_law_1.01``. Routers of trained models are neither balanced to the token (which would hit every expert
from a handful of tokens on) nor as steep as 1.2; of the measured spreads it comes nearest to tokens that
choose independently (Qwen3-30B-A3B's layer on an RTX PRO 6000: with 8, 16, 32 and 64 tokens 6, 18, 6 and 7 %
below the times for as many experts as those hit; balanced 25, 54, 45 and 2 % above). Where the number of
experts hit was set, the expected number for independent tokens is looked up.

A layer that was not measured takes the efficiency (share of the roofline) of the nearest that was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from tokensim.cost.base import How, RowTime, Setting
from tokensim.cost.tables.curves import Covered, RowCurve
from tokensim.cost.tables.formats import expert_formats
from tokensim.cost.work import compute_dtype
from tokensim.errors import InputError, nearest
from tokensim.model import dtypes
from tokensim.model.operators import Experts, Operator
from tokensim.workload.base import Floats

if TYPE_CHECKING:
    import polars as pl

SPREADS = ("power_law_1.01", "power_law_1.2", "balanced")
"""Spreads over the experts, the most realistic first."""

GIVEN = "given"
"""The spread of tables that set the number of experts hit."""

KERNEL_COVERS = ("experts_activation", "experts_combine")
"""Operators inside a fused-experts kernel call (vLLM ``fused_experts``: alignment, both GEMMs, activation
between them, weighted sum)."""

LAYER_COVERS = ("router", *KERNEL_COVERS)
"""Operators inside a whole expert layer, measured in a running engine whose choice of experts was replaced by
a set one (``profiler/core/hooks/moe_hook.py`` of LLMServingSim)."""

SHAPE = ("hidden", "intermediate", "experts", "top_k", "tensor", "expert")


class ExpertsTable:
    """The expert layers of one profile; ``table`` has the columns of ``experts``."""

    def __init__(self, table: pl.DataFrame, setting: Setting, source: str, spread: str | None = None) -> None:
        self._table = table
        self._setting = setting
        self._source = source
        known = sorted(set(table["distribution"]) - {GIVEN})
        if spread is not None and known and spread not in known:
            raise InputError(
                f"no expert layer was measured with tokens spread as '{spread}'",
                where="performance.operators",
                hint=nearest(spread, known),
            )
        self._spread = spread

    def price(self, op: Experts) -> tuple[RowCurve, tuple[str, ...]] | None:
        """The time of ``op`` and the names of other operators that it covers; None if its dtype is absent, or
        only spreads were measured and ``op`` has a load of its own (the fitted model then tells experts hit
        from rows)."""
        dtype = dtypes.weight_dtype(op.weight_dtype)
        parts = [
            part
            for name in expert_formats(dtype)
            if not (part := self._table.filter(self._table["dtype"] == name)).is_empty()
        ]
        parts.sort(key=lambda part: _of(part, op) is None)  # the very layer in another kernel before others
        for part in parts:
            given = self._given(op, part.filter(part["distribution"] == GIVEN))
            if given is not None:
                return given, LAYER_COVERS
            spread = self._spread_over(op, part.filter(part["distribution"] != GIVEN), dtype)
            if spread is not None and op.load is None:
                return spread, KERNEL_COVERS
        return None

    def _given(self, op: Experts, table: pl.DataFrame) -> RowCurve | None:
        """From times by tokens and experts hit, of this very layer; None if it was not measured.

        A rank that holds a part of the experts multiplies that part of the tokens' visits, as the whole layer
        does with that part of the tokens and as many experts hit; activation and weighted sum go over the
        visits to other ranks too, which are zeros (``fused_experts`` under an ``expert_map``). The ranks wait
        for the one of them with the most experts hit.
        """
        part = _of(table, op)
        if part is None:
            part = _of(table, replace(op, experts=op.total_experts))
        if part is None:
            return None
        local = op.experts
        held = int(part["experts"][0]) // int(part["expert"][0])  # where it was measured
        miss = 1.0 - op.top_k / op.total_experts
        tokens = np.unique(part["tokens"].to_numpy()).astype(float)
        lines = _cold_lines(part, tokens)
        share = local / held
        rows = np.unique(np.concatenate([np.arange(1.0, min(DENSE_ROWS, tokens[-1]) + 1), tokens / share]))
        chance = 1.0 - miss**rows
        spread = np.sqrt(local * chance * (1.0 - chance))
        hit = np.minimum(local * chance + _most(op.total_experts // local) * spread, local)
        here = rows * share  # tokens that bring as many visits to the rank where it was measured
        if op.load is not None:
            here = op.load.rows(rows) * op.total_experts / (op.top_k * held)
            rows, here = rows[here <= tokens[-1]], here[here <= tokens[-1]]
            hit = op.load.hits(rows)
        at = np.empty((len(tokens), len(rows)))
        for i, (activated, seconds) in enumerate(lines):
            at[i] = np.interp(hit, activated, seconds) + _beyond(activated, seconds, hit)
        seconds = np.array([np.interp(here[j], tokens, at[:, j]) for j in range(len(rows))])
        elsewhere = rows * (1.0 - share) * op.top_k  # visits; 16-bit activations
        traffic = elsewhere * 2.0 * (3 * op.intermediate + 2 * op.hidden)
        seconds = seconds + traffic / self._setting.device.memory_bandwidth_bytes_per_s
        return self._curve(op, rows, seconds, "interpolated", None)

    def _spread_over(self, op: Experts, table: pl.DataFrame, dtype: str) -> RowCurve | None:
        """From times by tokens alone: of this very layer, else by the efficiency of the nearest."""
        names = set(table["distribution"])
        if table.is_empty():
            return None
        spread = self._spread or next((name for name in SPREADS if name in names), min(names, default=None))
        table = table.filter(table["distribution"] == spread)
        if table.is_empty():
            return None
        part = _of(table, op)
        if part is not None:
            return self._curve(op, *_line(part), "exact", None)
        shapes = list(table.select(SHAPE).unique().iter_rows())
        near = min(shapes, key=lambda shape: (_distance(shape, op), shape))
        part = table
        for column, value in zip(SHAPE, near, strict=True):
            part = part.filter(part[column] == value)
        tokens, seconds = _line(part)
        hidden, intermediate, experts, top_k, tensor, expert = near
        launch = float(table["seconds"].min())  # type: ignore[arg-type]  # a float: not empty
        there = self._ideal(
            Experts("", experts // expert, experts, top_k, hidden, intermediate // tensor, 3, 1, dtype),
            tokens,
        )
        here = self._ideal(op, tokens)
        return self._curve(
            op, tokens, seconds * (here + launch) / (there + launch), "extrapolated", NEAREST_ERROR
        )

    def _ideal(self, op: Experts, tokens: Floats) -> Floats:
        """Seconds at the device's peaks for ``tokens`` of all replicas that choose experts independently."""
        device = self._setting.device
        dtype = dtypes.weight_dtype(op.weight_dtype)
        flops = device.flops[compute_dtype(device, dtype, self._setting.activation_dtype)]
        weights = float(op.gemms * op.hidden * op.intermediate)
        rows = tokens * op.top_k * op.experts / op.total_experts
        hit = op.experts * (1.0 - (1.0 - op.top_k / op.total_experts) ** tokens)
        traffic = hit * weights * dtypes.BYTES[dtype] + rows * 2.0 * (2 * op.hidden + 3 * op.intermediate)
        return np.asarray(
            np.maximum(traffic / device.memory_bandwidth_bytes_per_s, 2.0 * rows * weights / flops), float
        )

    def _curve(self, op: Experts, tokens: Floats, seconds: Floats, how: How, error: float | None) -> RowCurve:
        return RowCurve(tokens, seconds, self._source, float(op.count), float(op.replicas), how, error)


DENSE_ROWS = 256
"""Rows up to which the number of experts hit bends the curve and every row gets a point."""

NEAREST_ERROR = 0.08
"""Median error of a layer predicted from the nearest of another model (H100's tables, bfloat16: a test
measures it)."""


def expert_times(table: ExpertsTable, op: Experts, operators: Sequence[Operator]) -> dict[str, RowTime]:
    """The time of ``op``, and zero for those of ``operators`` that its measurement includes."""
    priced = table.price(op)
    if priced is None:
        return {}
    curve, covers = priced
    covered = Covered(curve.source)
    return {op.name: curve, **{other.name: covered for other in operators if other.name in covers}}


def _of(table: pl.DataFrame, op: Experts) -> pl.DataFrame | None:
    """The rows of this very layer on one rank; None if there are none."""
    if op.gemms != 3:
        return None
    part = table.filter(
        (table["hidden"] == op.hidden)
        & (table["intermediate"] == op.intermediate * table["tensor"])
        & (table["experts"] == op.total_experts)
        & (table["top_k"] == op.top_k)
        & (op.experts == (table["experts"] + table["expert"] - 1) // table["expert"])
    )
    return None if part.is_empty() else part


def _line(part: pl.DataFrame) -> tuple[Floats, Floats]:
    """Tokens and seconds, ascending; the fastest kernel where there are several."""
    best = part.group_by("tokens").min().sort("tokens")
    return best["tokens"].to_numpy().astype(float), best["seconds"].to_numpy()


def _cold_lines(part: pl.DataFrame, tokens: Floats) -> list[tuple[Floats, Floats]]:
    """Experts hit and seconds for each number of ``tokens``, as with weights that come from memory.

    A benchmark that runs one layer again and again finds the weights of a few experts in the cache (the first
    8 of Qwen3-30B-A3B's took 50 µs on an RTX PRO 6000, the next 8 another 85), a model with many layers does
    not: a time below the line through the next two is put on it. Where too few were measured for a line, that
    of the next number of tokens holds.
    """
    lines: list[tuple[Floats, Floats]] = []
    line: tuple[float, float] | None = None
    for m in tokens[::-1]:
        own = part.filter(part["tokens"] == m).sort("activated")
        hit, seconds = own["activated"].to_numpy().astype(float), own["seconds"].to_numpy().copy()
        if len(hit) >= 3:
            slope = float((seconds[2] - seconds[1]) / (hit[2] - hit[1]))
            line = float(seconds[1] - slope * hit[1]), slope
        if line is not None:
            seconds[0] = max(seconds[0], line[0] + line[1] * hit[0])
        lines.append((hit, seconds))
    return lines[::-1]


def _most(ranks: int) -> float:
    """How many standard deviations the largest of ``ranks`` normal numbers lies above the mean (Blom,
    1958)."""
    return NormalDist().inv_cdf((ranks - 0.375) / (ranks + 0.25)) if ranks > 1 else 0.0


def _beyond(x: Floats, y: Floats, at: Floats) -> Floats:
    """What the last piece adds beyond the last point, and what proportion takes off before the first."""
    if len(x) < 2:
        return np.zeros(np.shape(at))
    slope = (y[-1] - y[-2]) / (x[-1] - x[-2])
    return np.asarray(np.maximum(at - x[-1], 0.0) * slope, float)


def _distance(shape: Sequence[int], op: Experts) -> float:
    """How unlike two layers are: doublings of an expert's weights, of the hidden size (by half), of the
    experts on the rank, and of the share of them that a token goes to."""
    hidden, intermediate, experts, top_k, tensor, expert = shape
    weights = np.log2(hidden * intermediate / tensor / (op.hidden * op.intermediate))
    return float(
        abs(weights)
        + 0.5 * abs(np.log2(hidden / op.hidden))
        + abs(np.log2(max(1.0, experts / expert) / op.experts))
        + abs(np.log2(top_k / experts * op.total_experts / op.top_k))
    )
