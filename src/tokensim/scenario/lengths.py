"""The length distributions that ``workload.input_tokens`` and ``output_tokens`` may name, and their keys."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from tokensim.registry import register
from tokensim.scenario.fields import CustomPart, Positive, named, tagged
from tokensim.scenario.section import Count, Section


class _Clipped(Section):
    """Values outside [``min``, ``max``] become the bound."""

    min: Count = 1
    max: Count | None = None

    @model_validator(mode="after")
    def _ordered(self) -> _Clipped:
        if self.max is not None and self.max < self.min:
            raise ValueError(f"max {self.max} is below min {self.min}")
        return self


class FixedLength(Section):
    """Every request has ``value`` tokens."""

    distribution: Literal["fixed"] = "fixed"
    value: Count


class UniformLength(Section):
    """A whole number from ``min`` to ``max``, both included."""

    distribution: Literal["uniform"]
    min: Count
    max: Count

    @model_validator(mode="after")
    def _ordered(self) -> UniformLength:
        if self.max < self.min:
            raise ValueError(f"max {self.max} is below min {self.min}")
        return self


class _Spread(_Clipped):
    mean: Positive
    std: Positive | None = None
    cv: Positive | None = None

    @model_validator(mode="after")
    def _one_spread(self) -> _Spread:
        if (self.std is None) == (self.cv is None):
            raise ValueError("give exactly one of std and cv (cv = std/mean)")
        return self


class NormalLength(_Spread):
    """Normal, before clipping."""

    distribution: Literal["normal"]


class LognormalLength(_Spread):
    """Lognormal, before clipping; ``mean``, ``std``, ``cv`` are of the lengths, not of their logarithm."""

    distribution: Literal["lognormal"]


class ExponentialLength(_Clipped):
    """Exponential, before clipping."""

    distribution: Literal["exponential"]
    mean: Positive


class ZipfLength(Section):
    """P(k) ∝ 1/k**``exponent`` for k from ``min`` to ``max``."""

    distribution: Literal["zipf"]
    exponent: Positive
    min: Count = 1
    max: Annotated[int, Field(gt=0, le=10_000_000)]

    @model_validator(mode="after")
    def _ordered(self) -> ZipfLength:
        if self.max < self.min:
            raise ValueError(f"max {self.max} is below min {self.min}")
        return self


class EmpiricalLength(_Clipped):
    """Drawn with replacement from the column ``column`` of a CSV, JSONL or Parquet file."""

    distribution: Literal["empirical"]
    path: str
    column: str


class JointLengths(Section):
    """Input and output length drawn together, with replacement, so that they keep their correlation.

    From two columns of a CSV, JSONL or Parquet file (``path``), or from ``pairs`` ``[[input, output], ...]``.
    """

    path: str | None = None
    input_column: str = "input_tokens"
    output_column: str = "output_tokens"
    pairs: list[tuple[Count, Count]] | None = None

    @model_validator(mode="after")
    def _one_source(self) -> JointLengths:
        if (self.path is None) == (self.pairs is None):
            raise ValueError("give exactly one of path and pairs")
        if self.pairs is not None:
            if not self.pairs:
                raise ValueError("pairs is empty; give at least one [input, output]")
            named = {"input_column", "output_column"} & self.model_fields_set
            if named:
                raise ValueError(f"{sorted(named)[0]} names a column of a file, and pairs are not a file")
        return self


class CustomLength(CustomPart):
    """A length distribution of a plug-in, with its own keys."""

    distribution: str

    @model_validator(mode="after")
    def _checked(self) -> CustomLength:
        self.check(register.length_distribution, self.distribution)
        return self


LENGTH_DISTRIBUTIONS = ("fixed", "uniform", "normal", "lognormal", "exponential", "zipf", "empirical")


def _length_shorthand(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError(f"{value} is not a number of tokens")
    if isinstance(value, int | float):
        return {"distribution": "fixed", "value": value}
    return value


Length = Annotated[
    Annotated[FixedLength, Tag("fixed")]
    | Annotated[UniformLength, Tag("uniform")]
    | Annotated[NormalLength, Tag("normal")]
    | Annotated[LognormalLength, Tag("lognormal")]
    | Annotated[ExponentialLength, Tag("exponential")]
    | Annotated[ZipfLength, Tag("zipf")]
    | Annotated[EmpiricalLength, Tag("empirical")]
    | Annotated[CustomLength, Tag("plug-in")],
    Discriminator(tagged("distribution", LENGTH_DISTRIBUTIONS)),
    BeforeValidator(
        named(
            "distribution",
            LENGTH_DISTRIBUTIONS,
            register.length_distribution,
            "{distribution: lognormal, mean: 512, cv: 1.0}, or a number",
        )
    ),
    BeforeValidator(_length_shorthand),
]
