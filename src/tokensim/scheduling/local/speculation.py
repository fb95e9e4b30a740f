"""Speculative decoding as the scheduler sees it: how many drafts a step verifies, and how many it accepts.

A step gives a decoding request 1 + K tokens: the last known one and K drafts. The model accepts the first
``a`` of them and adds one token of its own, so that a step yields ``a + 1`` tokens (Leviathan et al., "Fast
Inference from Transformers via Speculative Decoding", arXiv:2211.17192).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from operator import mul
from typing import NamedTuple, Protocol

import numpy as np

from tokensim.workload.base import Floats, Ints

_MASK = (1 << 64) - 1


class Verify(NamedTuple):
    """``drafts`` drafts for ``request`` (its index) are verified after it has put out ``position`` tokens.
    ``padded``: they are not drafts of anything, only fill up the row."""

    request: int
    position: int
    drafts: int
    padded: bool


class Acceptance(Protocol):
    """How many drafts the target model accepts."""

    def accepted(self, rows: Sequence[Verify]) -> list[int]:
        """How many drafts of each of ``rows`` of a step are accepted."""
        ...


@dataclass(frozen=True, slots=True)
class Sampled:
    """Draft ``i`` is accepted with probability ``rates[i]`` (the last one for all further), given that those
    before it were.

    What is drawn depends on ``seed``, request and position alone, not on the order of events.
    """

    rates: tuple[float, ...]
    seed: int = 0

    def accepted(self, rows: Sequence[Verify]) -> list[int]:
        """See ``Acceptance.accepted``; a row that was only filled up has nothing to accept."""
        if not rows:
            return []
        table = np.array(rows, np.int64)
        draws = _uniform(self.seed, table[:, 0], table[:, 1])
        # The chance that at least i + 1 are accepted falls with i: count those above the draw.
        most = int(table[:, 2].max(initial=0))
        survival = np.cumprod([*self.rates, *self.rates[-1:] * most][:most])
        drafts = np.where(table[:, 3] != 0, 0, table[:, 2])
        counts: list[int] = np.minimum((survival > draws[:, None]).sum(axis=1), drafts).tolist()
        return counts


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a real run accepted: ``counts`` in turn, shifted by the request's index."""

    counts: tuple[int, ...]

    def accepted(self, rows: Sequence[Verify]) -> list[int]:
        """See ``Acceptance.accepted``."""
        counts = self.counts
        return [min(row.drafts, counts[(row.request + row.position) % len(counts)]) for row in rows]


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


def _uniform(seed: int, request: Ints, position: Ints) -> Floats:
    """A number in [0, 1) from three: two rounds of SplitMix64's finaliser (Steele et al., OOPSLA 2014)."""
    z = request.astype(np.uint64) * _word(0xD1342543DE82EF95) + position.astype(np.uint64) * _word(
        0xA0761D6478BD642F
    )
    z += _word(seed * 0x9E3779B97F4A7C15)
    for _ in range(2):
        z += _word(0x9E3779B97F4A7C15)
        z = (z ^ (z >> _word(30))) * _word(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> _word(27))) * _word(0x94D049BB133111EB)
        z ^= z >> _word(31)
    return (z >> _word(11)).astype(np.float64) / 9007199254740992.0  # 2^53


def _word(value: int) -> np.uint64:
    return np.uint64(value & _MASK)


def expected_tokens(rates: Sequence[float], drafts: int) -> float:
    """Mean tokens of a step that verifies ``drafts`` drafts: ``(1 - a^(K+1)) / (1 - a)`` for one rate a."""
    chances = [*rates[:drafts], *[rates[-1]] * (drafts - len(rates))]
    return 1.0 + float(sum(accumulate(chances, mul)))
