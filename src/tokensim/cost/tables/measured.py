"""Times from measured tables: the source that answers first, for what was measured on this device.

A module a kind of table (``gemm``, ``attention``, ``mixed``, ``layers``, ``experts``, ``latent``,
``elementwise``, ``collectives``) knows how to interpolate it. An operator is answered by the first kind and
profile that covers it; measured layers of this very model come before kernels of any shape.
"""

from __future__ import annotations

from collections.abc import Sequence

from tokensim.cost.base import AttentionTime, OperatorCost, RowTime, Setting, Times
from tokensim.cost.tables.attention import AttentionTables
from tokensim.cost.tables.base import Profile
from tokensim.cost.tables.collectives import CollectiveTable
from tokensim.cost.tables.elementwise import ElementwiseTable
from tokensim.cost.tables.experts import ExpertsTable, expert_times
from tokensim.cost.tables.gemm import GemmTable
from tokensim.cost.tables.latent import LatentTables
from tokensim.cost.tables.layers import LayerTable
from tokensim.cost.tables.mixed import MixedTables
from tokensim.errors import InputError
from tokensim.model.operators import Attention, Collective, Elementwise, Experts, Gemm, Operator


def measured_cost(
    profiles: Sequence[Profile], setting: Setting, *, distribution: str | None = None
) -> OperatorCost:
    """A source of times from ``profiles``, the preferred one first.

    ``distribution`` names the spread of tokens over experts to take from tables that have several (see
    ``experts``); default: the most realistic one measured. Raises ``InputError`` if there is no profile, or
    no expert layer with that distribution.
    """
    if not profiles:
        raise InputError("there are no measured tables to read", where="performance.operators")
    return Measured(profiles, setting, distribution)


class Measured:
    """An ``OperatorCost`` from ``profiles`` (see ``measured_cost``)."""

    def __init__(
        self, profiles: Sequence[Profile], setting: Setting, distribution: str | None = None
    ) -> None:
        self.name = ", ".join(dict.fromkeys(profile.source for profile in profiles))
        self._profiles = [_Tables(profile, setting, distribution) for profile in profiles]

    def price(self, operators: Sequence[Operator]) -> Times:
        """See ``OperatorCost.price``."""
        times: dict[str, RowTime | AttentionTime] = {}
        for tables in self._profiles:
            left = [op for op in operators if op.name not in times]
            times.update(tables.price(left))
        return times


class _Tables:
    """What one profile has, kind by kind."""

    def __init__(self, profile: Profile, setting: Setting, distribution: str | None) -> None:
        tables, source = profile.tables, f"{profile.source} ({profile.engine} {profile.version})".strip()
        self._layers = LayerTable(tables["layer"], setting, source) if "layer" in tables else None
        self._gemm = (
            GemmTable(tables["gemm"], setting, source, tables.get("gemm_elsewhere"))
            if "gemm" in tables
            else None
        )
        self._experts = (
            ExpertsTable(tables["experts"], setting, source, distribution) if "experts" in tables else None
        )
        self._collectives = (
            CollectiveTable(tables["collective"], setting, source) if "collective" in tables else None
        )
        self._elementwise = (
            ElementwiseTable(tables["elementwise"], setting, source) if "elementwise" in tables else None
        )
        self._mixed = (
            MixedTables(tables["mixed_attention"], tables.get("skewed_attention"), setting, source)
            if "mixed_attention" in tables
            else None
        )
        self._attention = (
            AttentionTables(tables["decode_attention"], tables["prefill_attention"], setting, source)
            if "decode_attention" in tables and "prefill_attention" in tables
            else None
        )
        self._latent = (
            LatentTables(tables, self._gemm, setting, source)
            if "mla_decode" in tables and "mla_prefill" in tables
            else None
        )

    def price(self, operators: Sequence[Operator]) -> Times:
        """What this profile knows of ``operators``."""
        times: dict[str, RowTime | AttentionTime] = {}
        if self._layers is not None:
            times.update(self._layers.price(operators))
        if self._latent is not None:
            times.update(self._latent.price(operators))
        for op in operators:
            if op.name in times:
                continue
            time: RowTime | AttentionTime | None = None
            if isinstance(op, Gemm) and self._gemm is not None:
                time = self._gemm.price(op)
            elif isinstance(op, Attention):
                time = self._mixed.price(op) if self._mixed is not None else None
                if time is None and self._attention is not None:
                    time = self._attention.price(op)
            elif isinstance(op, Collective) and self._collectives is not None:
                time = self._collectives.price(op)
            elif isinstance(op, Elementwise) and self._elementwise is not None:
                time = self._elementwise.price(op)
            elif isinstance(op, Experts) and self._experts is not None:
                times.update(expert_times(self._experts, op, operators))
            if time is not None:
                times[op.name] = time
        return times
