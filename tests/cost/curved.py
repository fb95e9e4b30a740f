"""Attention whose decode curve has knots, may fall, and costs more for unequal contexts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tokensim.cost import DecodeCurve, Origin
from tokensim.cost.base import Times
from tokensim.model.operators import Attention, Operator


def at(curve: DecodeCurve, context: float) -> float:
    """Seconds at a mean context, by looking for its piece from the left."""
    x, y = curve.contexts, curve.seconds
    piece = 0
    while piece < len(x) - 2 and context > x[piece + 1]:
        piece += 1
    return y[piece] + (y[piece + 1] - y[piece]) * (context - x[piece]) / (x[piece + 1] - x[piece])


@dataclass(frozen=True)
class CurvedTime:
    """``seconds`` at mean ``contexts``, a tenth more for each request; chunks cost by tokens and context."""

    contexts: tuple[float, ...]
    at_contexts: tuple[float, ...]
    skew: float = 0.0

    @property
    def needs_longest(self) -> bool:
        return self.skew > 0

    def decode(self, requests: int) -> DecodeCurve:
        seconds = tuple(value * (1 + requests / 10) for value in self.at_contexts)
        return DecodeCurve(self.contexts, seconds, self.skew)

    def decodes(self, requests: int, context: float, longest: float) -> float:
        if not requests:
            return 0.0
        curve = self.decode(requests)
        mean = at(curve, context / requests)
        return mean + self.skew * (at(curve, longest) - mean) if self.skew else mean

    def mixed(
        self, chunks: Sequence[tuple[int, int]], requests: int, context: float, longest: float
    ) -> float:
        own = sum(1e-6 * tokens * (1 + cached / 1000) for tokens, cached in chunks)
        return own + self.decodes(requests, context, longest)

    def origin(
        self, chunks: Sequence[tuple[int, int]], requests: int, context: float, longest: float
    ) -> Origin:
        return Origin("interpolated", "curved")


@dataclass(frozen=True)
class Curved:
    """A source that knows attention alone."""

    time: CurvedTime
    name: str = "curved"

    def price(self, operators: Sequence[Operator]) -> Times:
        return {op.name: self.time for op in operators if isinstance(op, Attention)}
