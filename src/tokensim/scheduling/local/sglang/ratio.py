"""The new-token ratio: which share of its declared output a request is expected to need.

It falls by a constant at every decode step, down to a floor, and starts anew when the engine is idle; a
retraction shows that it was too low and sets it from what the requests have left. The values are those of
repeated subtraction, bit by bit, so they stand in a list that is filled as far as anybody has asked, once for
each start: falling by any number of steps costs nothing.
"""

from __future__ import annotations

from tokensim.scheduling.local.sglang.options import Options


class NewTokenRatio:
    """``NewTokenRatioTracker`` of SGLang."""

    def __init__(self, options: Options) -> None:
        self.initial = min(options.init_new_token_ratio * options.schedule_conservativeness, 1.0)
        self.least = min(self.initial * options.min_new_token_ratio_factor, 1.0)
        self.decay = (self.initial - self.least) / options.new_token_ratio_decay_steps
        self._from_initial = [self.initial]
        self._values = self._from_initial
        self._steps = 0

    @property
    def value(self) -> float:
        """The ratio now."""
        values = self._values
        while len(values) <= self._steps and (len(values) == 1 or (values[-1] > self.least and self.decay)):
            values.append(max(values[-1] - self.decay, self.least))
        return values[min(self._steps, len(values) - 1)]

    def fall(self, steps: int = 1) -> None:
        """So many decode steps were decided."""
        self._steps += steps

    def reset(self) -> None:
        """The engine is idle."""
        self._values, self._steps = self._from_initial, 0

    def retracted(self, value: float) -> None:
        """A retraction sets the ratio; it may lie below the floor."""
        self._values, self._steps = [min(1.0, value)], 0
