"""A source of operator times of one's own: elementwise kernels are fused into others and take no time.

    tokensim run examples/quickstart.yaml --plugin examples/plugins/free_elementwise.py \
        --set performance.operators=free-elementwise

``price`` answers for the operators that it knows; whoever knows the others is asked next.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tokensim import register
from tokensim.cost import Origin, RowTime, Setting
from tokensim.model.operators import Elementwise, Operator


class Nothing:
    """Takes no time, for any number of rows."""

    def seconds(self, rows: np.ndarray) -> np.ndarray:
        """A zero for each."""
        return np.zeros_like(rows)

    def origin(self, rows: float) -> Origin:
        """How it is known: it is assumed."""
        return Origin("roofline", "fused")


@register.operator_cost("free-elementwise")
class FreeElementwise:
    """``performance.operators: free-elementwise``."""

    name = "free-elementwise"

    def __init__(self, setting: Setting) -> None:
        self.setting = setting

    def price(self, operators: Sequence[Operator]) -> dict[str, RowTime]:
        """Nothing, for each elementwise operator."""
        return {operator.name: Nothing() for operator in operators if isinstance(operator, Elementwise)}
