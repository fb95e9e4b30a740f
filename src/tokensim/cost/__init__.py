"""How long one operator, one collective, one step takes, and why."""

from __future__ import annotations

from tokensim.cost.base import (
    AttentionTime,
    DecodeCurve,
    OperatorCost,
    OperatorTime,
    Origin,
    RowTime,
    Setting,
    StepColumns,
    StepCost,
)
from tokensim.cost.build import build_cost, operator_sources
from tokensim.cost.host import Host
from tokensim.cost.roofline import Roofline
from tokensim.cost.step import CompiledStepCost

__all__ = [
    "AttentionTime",
    "CompiledStepCost",
    "DecodeCurve",
    "Host",
    "OperatorCost",
    "OperatorTime",
    "Origin",
    "Roofline",
    "RowTime",
    "Setting",
    "StepColumns",
    "StepCost",
    "build_cost",
    "operator_sources",
]
