"""Length distributions: how many tokens a prompt and an answer have.

Each is a class under a name in ``register.length_distribution``, built from the keys beside ``distribution:``
in YAML, with ``sample(rng, n)``. ``min`` and ``max`` clip: a value beyond becomes the bound, so a clipped
mean moves.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from tokensim.registry import register
from tokensim.workload.base import Floats, Ints


class LengthDistribution(Protocol):
    """What a class in ``register.length_distribution`` can do."""

    def sample(self, rng: np.random.RandomState, n: int) -> Ints:
        """``n`` lengths in tokens, each ≥ 1."""
        ...


def _clip(values: Floats, low: int, high: int | None) -> Ints:
    """Nearest whole numbers, within [``low``, ``high``]."""
    top = float(high) if high is not None else 2.0**31  # no model has a context near 2**31 tokens
    return np.clip(np.rint(values), low, top).astype(np.int64)


@register.length_distribution("fixed")
@dataclass(frozen=True, slots=True)
class Fixed:
    """Always ``value`` tokens."""

    value: int

    def sample(self, rng: np.random.RandomState, n: int) -> Ints:
        """``n`` lengths, tokens."""
        return np.full(n, self.value, dtype=np.int64)


@register.length_distribution("uniform")
@dataclass(frozen=True, slots=True)
class Uniform:
    """Whole numbers from ``min`` to ``max``, both included."""

    min: int
    max: int

    def sample(self, rng: np.random.RandomState, n: int) -> Ints:
        """``n`` lengths, tokens."""
        return rng.randint(self.min, self.max + 1, n, dtype=np.int64)


@register.length_distribution("normal")
@dataclass(frozen=True, slots=True)
class Normal:
    """Normal of ``mean`` and ``std`` (or ``cv`` = std/mean), clipped."""

    mean: float
    std: float | None = None
    cv: float | None = None
    min: int = 1
    max: int | None = None

    def sample(self, rng: np.random.RandomState, n: int) -> Ints:
        """``n`` lengths, tokens."""
        std = self.mean * _cv(self.mean, self.std, self.cv)
        return _clip(self.mean + std * rng.standard_normal(n), self.min, self.max)


@register.length_distribution("lognormal")
@dataclass(frozen=True, slots=True)
class Lognormal:
    """Lognormal whose own mean is ``mean`` and standard deviation ``std`` (or ``cv`` = std/mean), clipped."""

    mean: float
    std: float | None = None
    cv: float | None = None
    min: int = 1
    max: int | None = None

    def sample(self, rng: np.random.RandomState, n: int) -> Ints:
        """``n`` lengths, tokens."""
        variance = math.log1p(_cv(self.mean, self.std, self.cv) ** 2)
        values = rng.lognormal(math.log(self.mean) - variance / 2, math.sqrt(variance), n)
        return _clip(values, self.min, self.max)


def _cv(mean: float, std: float | None, cv: float | None) -> float:
    if cv is not None:
        return cv
    if std is None:
        raise ValueError("give std or cv")
    return std / mean


@register.length_distribution("exponential")
@dataclass(frozen=True, slots=True)
class Exponential:
    """Exponential of ``mean``, clipped."""

    mean: float
    min: int = 1
    max: int | None = None

    def sample(self, rng: np.random.RandomState, n: int) -> Ints:
        """``n`` lengths, tokens."""
        return _clip(rng.standard_exponential(n) * self.mean, self.min, self.max)


@register.length_distribution("zipf")
@dataclass(frozen=True, slots=True)
class Zipf:
    """P(k) ∝ 1/k**``exponent`` for k from ``min`` to ``max``, by inverting the cumulative sum."""

    exponent: float
    max: int
    min: int = 1

    def sample(self, rng: np.random.RandomState, n: int) -> Ints:
        """``n`` lengths, tokens."""
        ranks = np.arange(self.min, self.max + 1, dtype=np.float64)
        cumulative = np.cumsum((ranks / self.min) ** -self.exponent)
        drawn = np.searchsorted(cumulative, rng.random_sample(n) * cumulative[-1], side="right")
        lengths: Ints = self.min + np.minimum(drawn, len(ranks) - 1)
        return lengths


@register.length_distribution("empirical")
@dataclass(frozen=True, slots=True)
class Empirical:
    """Drawn with replacement from the column ``column`` of the file ``path``, clipped."""

    path: Path
    column: str
    min: int = 1
    max: int | None = None

    def sample(self, rng: np.random.RandomState, n: int) -> Ints:
        """``n`` lengths, tokens; raises ``InputError`` where the file cannot give them."""
        from tokensim.workload.table import read_table

        table = read_table(self.path)
        values = table.tokens(self.column, least=0)
        return np.clip(values[rng.randint(0, len(values), n, dtype=np.int64)], self.min, self.max)


@dataclass(frozen=True, slots=True)
class Joint:
    """``input_tokens`` and ``output_tokens`` [k] drawn together, with replacement."""

    input_tokens: Ints
    output_tokens: Ints

    def sample(self, rng: np.random.RandomState, n: int) -> tuple[Ints, Ints]:
        """``n`` pairs of lengths, tokens."""
        rows = rng.randint(0, len(self.input_tokens), n, dtype=np.int64)
        return self.input_tokens[rows], self.output_tokens[rows]
