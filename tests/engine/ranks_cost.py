"""Costs of steps made of straight lines, for groups of data-parallel ranks."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from tokensim.cost.base import DecodeCurve, Origin
from tokensim.cost.host import Host
from tokensim.cost.step import AttentionPart, CompiledStepCost, RowPart
from tokensim.cost.work import attention_work, row_work
from tokensim.model.operators import Attention, Collective, Elementwise, Experts, Gemm
from tokensim.workload.base import Floats


@dataclass(frozen=True)
class Straight:
    """``base + slope · rows`` seconds."""

    base: float
    slope: float

    def seconds(self, rows: Floats) -> Floats:
        return self.base + self.slope * rows

    def origin(self, rows: float) -> Origin:
        return Origin("exact", "made up")


@dataclass(frozen=True)
class Contexts:
    """A second a token of context up to a mean of ``knot``, ``bend`` seconds beyond; chunks like decodes."""

    unit: float = 1.0
    knot: float = 1e9
    bend: float = 1.0
    skew: float = 0.0

    @property
    def needs_longest(self) -> bool:
        return self.skew > 0.0

    def _of_mean(self, mean: float) -> float:
        return self.unit * (min(mean, self.knot) + self.bend * max(0.0, mean - self.knot))

    def decode(self, requests: int) -> DecodeCurve:
        x = (0.0, self.knot, 2 * self.knot)
        # The longest context counts on a curve of its own, the same whatever the number of requests.
        return DecodeCurve(x, tuple(requests * self._of_mean(mean) for mean in x), self.skew)

    def mixed(
        self, chunks: Sequence[tuple[int, int]], requests: int, context: float, longest: float
    ) -> float:
        seconds = self.unit * sum(new + before / 8 for new, before in chunks)
        if requests:
            mean, rest = self._of_mean(context / requests), self._of_mean(longest)
            seconds += requests * (mean * (1 - self.skew) + rest * self.skew)
        return seconds

    def origin(
        self, chunks: Sequence[tuple[int, int]], requests: int, context: float, longest: float
    ) -> Origin:
        return Origin("exact", "made up")


def compiled(
    *,
    own: tuple[float, float] = (0.0, 0.0),
    pooled: tuple[float, float] = (0.0, 0.0),
    exchange: tuple[float, float] = (0.0, 0.0),
    attention: Contexts | None = None,
    window: int | None = None,
    host: Host | None = None,
    graph_sizes: Sequence[int] = (),
) -> CompiledStepCost:
    """A cost with (seconds, seconds a row) of a rank's own operators, of the experts, and of the exchange."""
    operators: list[tuple[Gemm | Experts | Elementwise | Collective, str, tuple[float, float]]] = [
        (Gemm("own", 8, 8, 1, "bfloat16"), "gemm", own),
        (Experts("experts", 2, 4, 1, 8, 8, 3, 1, "bfloat16", replicas=2), "moe", pooled),
        (Collective("exchange", "all_gather", 8, 2, 1, pooled=True), "collective", exchange),
        (Elementwise("sampling", 8, 1, "samples"), "elementwise", (0.0, 0.0)),
    ]
    rows = [
        RowPart(op, kind, Straight(*line), row_work(op, "bfloat16"), 1.0, 1e-9)
        for op, kind, line in operators
    ]
    op = Attention("attention", 1, 1, 8, 8, 8.0, 1, window=window)
    time = Contexts() if attention is None else attention
    parts = [AttentionPart(op, time, attention_work(op, "bfloat16"), 1.0, 1.0)]
    return CompiledStepCost(rows, parts, host or Host(0.0, 0.0, 0.0, True), graph_sizes=graph_sizes)


def draw_cost(
    rng: random.Random, asynchronous: bool, window: int | None = None, skewed: bool = True
) -> CompiledStepCost:
    """A cost with random lines, a knot, a host that is sometimes slower than the device, and padding."""
    return compiled(
        own=(rng.uniform(0.3, 1.0), rng.uniform(0.0, 0.05)),
        pooled=(rng.uniform(0.0, 1.0), rng.uniform(0.0, 0.05)),
        exchange=(0.0, rng.uniform(0.0, 0.02)),
        attention=Contexts(
            rng.uniform(0.0, 0.02),
            rng.choice([1e9, 30.0]),
            rng.uniform(1.0, 3.0),
            rng.choice([0.0, rng.uniform(0.0, 0.5)]) if skewed and window is None else 0.0,
        ),
        window=window,
        host=Host(
            rng.uniform(0, 0.1),
            rng.choice([0.0, rng.uniform(0.5, 2.5)]),
            rng.choice([0.0, 0.05]),
            asynchronous,
        ),
        graph_sizes=rng.choice([(), (1, 2, 4, 8, 16)]),
    )
