"""Speculative decoding as the scheduler sees it: how many drafts a step verifies, and how many it accepts.

A step gives a decoding request 1 + K tokens: the last known one and K drafts. The model accepts the first
``a`` of them and adds one token of its own, so that a step yields ``a + 1`` tokens (Leviathan et al., "Fast
Inference from Transformers via Speculative Decoding", arXiv:2211.17192).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from operator import mul
from typing import Protocol

_MASK = (1 << 64) - 1


class Acceptance(Protocol):
    """How many drafts the target model accepts."""

    def accepted(self, request: int, position: int, drafts: int, padded: bool) -> int:
        """How many of ``drafts`` drafts for ``request`` (its index) are accepted after it has put out
        ``position`` tokens. ``padded``: they are not drafts of anything, only fill up the row."""
        ...


@dataclass(frozen=True, slots=True)
class Sampled:
    """Draft ``i`` is accepted with probability ``rates[i]`` (the last one for all further), given that those
    before it were.

    What is drawn depends on ``seed``, request and position alone, not on the order of events.
    """

    rates: tuple[float, ...]
    seed: int = 0

    def accepted(self, request: int, position: int, drafts: int, padded: bool) -> int:
        """See ``Acceptance.accepted``; a row that was only filled up has nothing to accept."""
        if padded or not drafts:
            return 0
        rates = self.rates
        chances = rates if len(rates) >= drafts else rates + rates[-1:] * (drafts - len(rates))
        draw = _uniform(self.seed, request, position)
        # The chance that at least i + 1 are accepted falls with i: count those above the draw.
        survival = [-chance for chance in accumulate(chances[:drafts], mul)]
        return bisect_right(survival, -draw) if draw > 0.0 else sum(chance < 0.0 for chance in survival)


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a real run accepted: ``counts`` in turn, shifted by the request's index."""

    counts: tuple[int, ...]

    def accepted(self, request: int, position: int, drafts: int, padded: bool) -> int:
        """See ``Acceptance.accepted``."""
        return min(drafts, self.counts[(request + position) % len(self.counts)])


@dataclass(frozen=True, slots=True)
class Speculation:
    """Speculative decoding in one instance, as vLLM's scheduler counts it.

    ``tokens`` drafts for each request and step; ``lookahead`` slots that each allocation has ready beyond
    (K where the drafts' own KV is written ahead: EAGLE, MTP, draft models); ``slots`` of the input budget
    that every scheduled request takes besides its tokens (1 for a draft model). ``drops_last_block``: a
    prefix hit leaves out its last block (EAGLE-like drafts need the hidden states of what comes before).
    """

    tokens: int
    acceptance: Acceptance
    lookahead: int = 0
    slots: int = 0
    drops_last_block: bool = False


def _uniform(seed: int, request: int, position: int) -> float:
    """A number in [0, 1) from three: two rounds of SplitMix64's finaliser (Steele et al., OOPSLA 2014)."""
    z = (seed * 0x9E3779B97F4A7C15 + request * 0xD1342543DE82EF95 + position * 0xA0761D6478BD642F) & _MASK
    for _ in range(2):
        z = (z + 0x9E3779B97F4A7C15) & _MASK
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
        z ^= z >> 31
    return (z >> 11) / 9007199254740992.0  # 2^53


def expected_tokens(rates: Sequence[float], drafts: int) -> float:
    """Mean tokens of a step that verifies ``drafts`` drafts: ``(1 - a^(K+1)) / (1 - a)`` for one rate a."""
    chances = [*rates[:drafts], *[rates[-1]] * (drafts - len(rates))]
    return 1.0 + float(sum(accumulate(chances, mul)))
