"""A source's times, corrected: compute-bound work and memory-bound work each by a factor (a calibration's).

Collectives stay as they are. In attention, decodes count as memory-bound and prefill chunks as compute-bound.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from tokensim.cost.base import AttentionTime, DecodeCurve, Origin, RowTime
from tokensim.cost.work import RowWork
from tokensim.workload.base import Floats


@dataclass(frozen=True, slots=True)
class ScaledRows:
    """``time`` times ``compute`` where arithmetic at the peak takes longer than traffic, else times
    ``memory``."""

    time: RowTime
    work: RowWork
    ideal_s_per_flop: float
    ideal_s_per_byte: float
    compute: float
    memory: float

    def seconds(self, rows: Floats) -> Floats:
        """See ``RowTime.seconds``."""
        bound = self.work.flops(rows) * self.ideal_s_per_flop > self.work.bytes(rows) * self.ideal_s_per_byte
        return self.time.seconds(rows) * np.where(bound, self.compute, self.memory)

    def origin(self, rows: float) -> Origin:
        """See ``RowTime.origin``."""
        return self.time.origin(rows)


@dataclass(frozen=True, slots=True)
class ScaledAttention:
    """``time`` with its decodes times ``memory``, the rest of a mixed step times ``compute``."""

    time: AttentionTime
    compute: float
    memory: float
    curves: dict[int, DecodeCurve] = field(default_factory=dict)
    """Of ``time``, by the number of requests: kept, as a mixed step asks for one each time."""

    @property
    def needs_longest(self) -> bool:
        """See ``AttentionTime.needs_longest``."""
        return self.time.needs_longest

    def decode(self, requests: int) -> DecodeCurve:
        """See ``AttentionTime.decode``."""
        curve = self.time.decode(requests)
        return DecodeCurve(curve.contexts, tuple(s * self.memory for s in curve.seconds), curve.skew)

    def mixed(
        self, chunks: Sequence[tuple[int, int]], requests: int, context: float, longest: float
    ) -> float:
        """See ``AttentionTime.mixed``."""
        total = self.time.mixed(chunks, requests, context, longest)
        if not requests:
            return total * self.compute
        curve = self.curves.get(requests)
        if curve is None:
            curve = self.curves[requests] = self.time.decode(requests)
        decodes = curve.at(context / requests)
        if curve.skew:
            decodes += curve.skew * (curve.at(longest) - decodes)
        decodes = min(decodes, total)
        return decodes * self.memory + (total - decodes) * self.compute

    def origin(
        self, chunks: Sequence[tuple[int, int]], requests: int, context: float, longest: float
    ) -> Origin:
        """See ``AttentionTime.origin``."""
        return self.time.origin(chunks, requests, context, longest)
