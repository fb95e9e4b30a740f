"""How tokens spread over experts and ranks: the load of the busiest rank, by the number of tokens.

A step of ``T`` tokens makes ``T · top_k`` visits. A rank's visits are a sum of binomial counts, and the ranks
wait for the one with the most; its expectation follows from the mean and variance of each rank by Clark's
formulas for the greatest of normal variables (C. E. Clark, The greatest of a finite set of random variables,
Operations Research 9(2), 1961). So every step of ``T`` tokens costs the same, and a run of equal steps stays
a closed form: the spread of single steps around the expectation is left out.

Which experts share a rank: consecutive ones (vLLM's linear placement), or, with EPLB, heavy experts in
several copies, packed so that ranks are alike (``packed``).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from heapq import heappop, heappush
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

GRID = np.unique(np.round(np.geomspace(1, 1 << 20, 121)))
"""Tokens at which loads are computed, some six to a doubling; linear in the logarithm between."""


@dataclass(frozen=True, slots=True, eq=False)
class ExpertLoad:
    """What the busiest rank has to do, against the number of tokens of all data-parallel ranks (``GRID``).

    ``visits`` are expected (token, expert) pairs for each token, ``experts`` expected distinct experts; each
    is that of the rank with the most of it. ``imbalance`` is the busiest rank's share of endless tokens over
    the mean share.
    """

    visits: Floats
    experts: Floats
    imbalance: float

    def rows(self, tokens: Floats) -> Floats:
        """Visits on the busiest rank."""
        return np.asarray(tokens * np.interp(np.log(tokens), np.log(GRID), self.visits))

    def hits(self, tokens: Floats) -> Floats:
        """Experts hit on the rank with the most of them."""
        return np.asarray(np.interp(np.log(tokens), np.log(GRID), self.experts))


def zipf(experts: int, exponent: float, layers: int, seed: int = 0) -> Floats:
    """Popularity [layer, expert] by Zipf's law, ``rank^-exponent``; which expert has which rank is drawn anew
    for each layer (uniform for exponent 0: one layer says it all)."""
    law = np.arange(1, experts + 1, dtype=np.float64) ** -exponent
    if exponent == 0.0:
        return law[np.newaxis]
    draw = np.random.default_rng(seed)
    return np.array([draw.permutation(law) for _ in range(layers)])


def chances(popularity: Floats, top_k: int) -> Floats:
    """The probability [layer, expert] that a token goes to each expert: in proportion to ``popularity``, at
    most 1, ``top_k`` in all. The rule is that of sampling with probability proportional to size."""
    chance = np.zeros(popularity.shape)
    for layer, weights in enumerate(popularity):
        certain = np.zeros(len(weights), dtype=bool)
        while True:
            rest = np.where(certain, 0.0, weights)
            scaled = rest * (top_k - certain.sum()) / rest.sum() if rest.any() else rest
            if not (scaled > 1.0).any():
                chance[layer] = np.where(certain, 1.0, scaled)
                break
            certain |= scaled >= 1.0
    return chance


def linear(experts: int, ranks: int) -> npt.NDArray[np.int64]:
    """The rank of each expert: consecutive ones together, the first ranks one more if it does not divide
    (``determine_expert_map`` of vLLM)."""
    each, more = divmod(experts, ranks)
    sizes = [each + (rank < more) for rank in range(ranks)]
    return np.repeat(np.arange(ranks), sizes)


def packed(chance: Floats, ranks: int, redundant: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Placement of one layer's experts and ``redundant`` copies: (expert, rank) of each physical expert.

    As the expert-parallel load balancer of DeepSeek-V3 (arXiv:2412.19437, section 3.4; vLLM's EPLB): one
    after another, copies go to the expert with the most load a copy; then, heaviest first, each goes to the
    rank with the least load that has a slot left. Ranks have equally many slots.
    """
    copies = np.ones(len(chance), dtype=np.int64)
    for _ in range(redundant):
        copies[np.argmax(chance / copies)] += 1
    expert = np.repeat(np.arange(len(chance)), copies)
    load = chance[expert] / copies[expert]
    slots = len(expert) // ranks
    least = [(0.0, rank, slots) for rank in range(ranks)]  # a heap of (load, rank, slots left)
    place = np.empty(len(expert), dtype=np.int64)
    for physical in np.argsort(-load, kind="stable").tolist():
        total, rank, left = heappop(least)
        place[physical] = rank
        if left > 1:
            heappush(least, (total + float(load[physical]), rank, left - 1))
    return expert, place


def expert_load(
    popularity: Floats, top_k: int, ranks: int, *, eplb: bool = False, redundant: int = 0
) -> ExpertLoad:
    """The load of the busiest of ``ranks`` (1: every rank has a slice of every expert), a mean over layers.

    ``popularity`` [layer, expert] in any unit. With ``eplb`` experts and their ``redundant`` copies are
    packed by the load that they really have; copies share an expert's visits equally.
    """
    chance = chances(popularity, top_k)
    layers, experts = chance.shape
    visits, hits = np.zeros(len(GRID)), np.zeros(len(GRID))
    imbalance = 0.0
    place = linear(experts, ranks)
    for one in chance:
        rank, each = place, one
        if eplb:
            expert, rank = packed(one, ranks, redundant)
            each = one[expert] / np.bincount(expert)[expert]
        order = np.argsort(rank, kind="stable")
        each, slots = each[order], np.bincount(rank, minlength=ranks)
        by_rank = partial(np.add.reduceat, indices=np.cumsum(slots) - slots)
        mean = by_rank(each)
        # A token's visits exclude each other: as many as a hypergeometric number has less variance.
        variance = by_rank(each * (1.0 - each)) * (1.0 - mean / top_k) * experts / max(experts - 1, 1)
        most = np.minimum(slots, top_k)[:, np.newaxis] * GRID
        rows = greatest(mean[:, np.newaxis] * GRID, variance[:, np.newaxis] * GRID)
        visits += np.clip(rows, mean.max() * GRID, most.max(axis=0)) / GRID
        hit = -np.expm1(np.log1p(-np.minimum(each, 1.0 - 1e-12))[:, np.newaxis] * GRID)  # [expert, tokens]
        expected = by_rank(hit)
        found = greatest(expected, by_rank(hit * (1.0 - hit)))
        found = np.clip(found, expected.max(axis=0), np.minimum(slots.max(), most.max(axis=0)))
        hits += np.maximum.accumulate(found)  # the normal law may lose a little where chances are 0 or 1
        imbalance += float(mean.max() / mean.mean())
    return ExpertLoad(visits / layers, hits / layers, imbalance / layers)


def greatest(mean: Floats, variance: Floats) -> Floats:
    """The expectation of the greatest of independent normal variables, by Clark's formulas one after another.

    ``mean`` and ``variance`` [variable, ...] of any further shape, which the result has.
    """
    from scipy.special import ndtr

    top: Any = mean[0]
    spread: Any = variance[0]
    for other, its in zip(mean[1:], variance[1:], strict=True):
        a = np.sqrt(np.maximum(spread + its, 1e-300))
        x = (top - other) / a
        above, density = ndtr(x), np.exp(-0.5 * np.square(x)) / np.sqrt(2.0 * np.pi)
        first = top * above + other * (1.0 - above) + a * density
        second = (
            (np.square(top) + spread) * above
            + (np.square(other) + its) * (1.0 - above)
            + (top + other) * a * density
        )
        top, spread = first, np.maximum(second - np.square(first), 0.0)
    return np.asarray(top)
