"""The operators of a model whose tokens do not spread evenly over its experts.

``spread_experts`` puts the load of the busiest rank into the operators of ``shards``: into the experts, and
into what goes over their visits beside them. The collectives of vLLM's default backend (all-gather, then
reduce-scatter) move all tokens to all ranks, whatever experts they go to, and stay as they are.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from tokensim.errors import InputError
from tokensim.model.base import ModelSpec, MoE
from tokensim.model.dtypes import BYTES, stored_as, weight_dtype
from tokensim.model.operators import Elementwise, Experts, Operator
from tokensim.model.routing import ExpertLoad, Floats

COLUMNS = ("layer", "expert", "tokens")


def spread_experts(operators: Sequence[Operator], load: ExpertLoad, activation_dtype: str) -> list[Operator]:
    """``operators`` with the experts under ``load``, and activation and weighted sum as long as the busiest
    rank has them."""
    hidden = next(op.hidden for op in operators if isinstance(op, Experts))
    spread: list[Operator] = []
    for op in operators:
        match op:
            case Experts():
                op = replace(op, load=load)
            case Elementwise(name="experts_activation"):
                op = replace(op, bytes_per_row=op.bytes_per_row * load.imbalance)
            case Elementwise(name="experts_combine"):
                own = hidden * BYTES[weight_dtype(activation_dtype)]  # the sum that leaves the layer
                op = replace(op, bytes_per_row=own + (op.bytes_per_row - own) * load.imbalance)
        spread.append(op)
    return spread


def redundant_bytes(model: ModelSpec, weights: str, ranks: int, redundant: int) -> float:
    """Bytes that ``redundant`` copies of experts in every expert layer take on each of ``ranks`` devices."""
    assert model.moe is not None
    one = 3 * model.hidden * model.moe.intermediate
    stored = BYTES[weight_dtype(stored_as(model.weight_dtype(weights), "expert"))]
    return model.moe.layers * redundant / ranks * one * stored


def recorded_popularity(file: Path, moe: MoE, where: str) -> Floats:
    """Tokens counted [layer, expert] in ``file``: a table with the columns ``COLUMNS`` (CSV or Parquet), or
    JSON, one list of counts a layer; one layer stands for all.

    Raises ``InputError`` for a file that cannot be read, or is not of this model.
    """
    try:
        counts = _counts(file)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"cannot read counts of experts from {file}: {error}",
            where=where,
            hint=f"a CSV or Parquet table with the columns {', '.join(COLUMNS)}, or JSON: [[…], …]",
        ) from None
    layers, experts = counts.shape
    if experts != moe.experts or layers not in (1, moe.layers):
        raise InputError(
            f"{file} counts {experts} experts in {layers} layers",
            where=where,
            hint=f"the model has {moe.experts} experts in {moe.layers} layers (or give one layer for all)",
        )
    if not (np.isfinite(counts).all() and (counts >= 0).all()):
        raise InputError(f"{file} has counts that are not numbers of 0 or more", where=where)
    few = np.flatnonzero((counts > 0).sum(axis=1) < moe.top_k)
    if len(few):
        raise InputError(
            f"{file}: tokens of layer {few[0]} went to fewer than {moe.top_k} experts",
            where=where,
            hint=f"every token goes to {moe.top_k} different ones: count more tokens",
        )
    return counts


def _counts(file: Path) -> Floats:
    if file.suffix.lower() == ".json":
        counts = np.array(json.loads(file.read_text(encoding="utf-8")), dtype=np.float64)
        return counts[np.newaxis] if counts.ndim == 1 else counts
    import polars as pl

    try:
        table = pl.read_parquet(file) if file.suffix.lower() == ".parquet" else pl.read_csv(file)
    except pl.exceptions.PolarsError as error:
        raise ValueError(str(error)) from error
    missing = [name for name in COLUMNS if name not in table.columns]
    if missing:
        raise KeyError("no column " + ", ".join(missing))
    layers, rank = np.unique(table["layer"].to_numpy(), return_inverse=True)
    experts = table["expert"].cast(pl.Int64).to_numpy()
    if len(experts) == 0 or experts.min() < 0:
        raise ValueError("experts are numbered from 0")
    counts = np.zeros((len(layers), int(experts.max()) + 1))
    np.add.at(counts, (rank, experts), table["tokens"].cast(pl.Float64).to_numpy())
    return counts
