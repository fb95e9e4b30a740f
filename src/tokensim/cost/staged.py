"""What a step takes over all stages of a pipeline, one after the other: what a lone request in it would see.

The engine asks the stages themselves, as they overlap; this is for whoever estimates, such as a router.
"""

from __future__ import annotations

from collections.abc import Sequence

from tokensim.cost.base import StepEstimate
from tokensim.cost.sends import Send


class StagedEstimate:
    """Implements ``StepEstimate`` as the sum of ``stages`` and the ``sends`` between them."""

    window: int | None

    def __init__(self, stages: Sequence[StepEstimate], sends: Sequence[Send]) -> None:
        self._stages = stages
        self._sends = sends
        self.window = next((stage.window for stage in stages if stage.window is not None), None)

    def decode_run(
        self, decode: int, context: float, window_context: float, window_growth: float, longest: float
    ) -> tuple[float, float, int]:
        """See ``StepCost.decode_run``."""
        runs = [
            stage.decode_run(decode, context, window_context, window_growth, longest)
            for stage in self._stages
        ]
        first = sum(run[0] for run in runs) + sum(send.seconds(decode) for send in self._sends)
        return first, sum(run[1] for run in runs), min(run[2] for run in runs)

    def step_time(
        self,
        decode: int,
        context: float,
        window_context: float,
        longest: float,
        chunks: Sequence[tuple[int, int]],
        samples: int,
    ) -> float:
        """See ``StepCost.step_time``."""
        tokens = decode + sum(new for new, _ in chunks)
        return sum(
            stage.step_time(decode, context, window_context, longest, chunks, samples)
            for stage in self._stages
        ) + sum(send.seconds(tokens) for send in self._sends)
