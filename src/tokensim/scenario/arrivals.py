"""The arrival processes that ``workload.arrivals`` may name, and their keys."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from tokensim.registry import register
from tokensim.scenario.fields import CustomPart, NotNegative, Positive, PositiveDuration, Rate, named, tagged
from tokensim.scenario.section import Count, Number, Section
from tokensim.scenario.units import Duration


class PoissonArrivals(Section):
    """Independent users: exponential gaps; ``rate`` in requests/s."""

    process: Literal["poisson"] = "poisson"
    rate: Rate


class ConstantArrivals(Section):
    """One request every 1/``rate`` seconds, the first at once."""

    process: Literal["constant"] = "constant"
    rate: Rate


class GammaArrivals(Section):
    """Gamma gaps. ``burstiness`` is the shape, as in ``vllm bench serve``: 1 is Poisson, below 1 is burstier.

    ``cv`` says the same as the coefficient of variation of the gaps, 1/√burstiness.
    """

    process: Literal["gamma"] = "gamma"
    rate: Rate
    burstiness: Positive | None = None
    cv: Positive | None = None

    @model_validator(mode="after")
    def _one_shape(self) -> GammaArrivals:
        if (self.burstiness is None) == (self.cv is None):
            raise ValueError("give exactly one of burstiness and cv (burstiness = 1/cv²)")
        return self


class WeibullArrivals(Section):
    """Weibull gaps of mean 1/``rate``; ``shape`` 1 is Poisson, below 1 is burstier."""

    process: Literal["weibull"] = "weibull"
    rate: Rate
    shape: Annotated[Number, Field(ge=0.1)]  # at 0.1 the gaps' cv is already 430


class OnOffArrivals(Section):
    """Bursts: Poisson at ``rate_on`` and ``rate_off`` in turn, for exponential times of the given means."""

    process: Literal["on-off"] = "on-off"
    rate_on: Rate
    rate_off: NotNegative = 0.0
    mean_on: PositiveDuration
    mean_off: PositiveDuration


class DiurnalArrivals(Section):
    """Poisson whose rate repeats every ``period``.

    Either ``points`` ``[[time, rate], ...]``, joined by straight lines (the last to the first), or
    ``mean``·(1 + ``amplitude``·sin(2πt/``period``)).
    """

    process: Literal["diurnal"] = "diurnal"
    period: PositiveDuration = 86400.0
    points: list[tuple[Duration, NotNegative]] | None = None
    mean: Rate | None = None
    amplitude: Annotated[Number, Field(ge=0, le=1)] | None = None

    @model_validator(mode="after")
    def _one_curve(self) -> DiurnalArrivals:
        if self.points is None:
            if self.mean is None or self.amplitude is None:
                raise ValueError("give points, or mean and amplitude")
            return self
        if self.mean is not None or self.amplitude is not None:
            raise ValueError("give points, or mean and amplitude, not both")
        times = [time for time, _ in self.points]
        if not times or any(b <= a for a, b in itertools.pairwise(times)):
            raise ValueError("points must have increasing times")
        if times[-1] >= self.period:
            raise ValueError(f"the last point is at {times[-1]:g} s, beyond the period of {self.period:g} s")
        if not any(rate > 0 for _, rate in self.points):
            raise ValueError("at least one point must have a rate above 0")
        return self


class ExponentialThink(Section):
    """Exponential pauses of the given ``mean``."""

    distribution: Literal["exponential"]
    mean: PositiveDuration


class LognormalThink(Section):
    """Lognormal pauses of the given ``mean`` and coefficient of variation ``cv``."""

    distribution: Literal["lognormal"]
    mean: PositiveDuration
    cv: Positive


class UniformThink(Section):
    """Pauses between ``min`` and ``max``."""

    distribution: Literal["uniform"]
    min: Duration
    max: Duration

    @model_validator(mode="after")
    def _ordered(self) -> UniformThink:
        if self.max < self.min:
            raise ValueError("max is below min")
        return self


ThinkSpec = Annotated[ExponentialThink | LognormalThink | UniformThink, Field(discriminator="distribution")]


def _think(value: object) -> object:
    if isinstance(value, Mapping) and "distribution" not in value:
        raise ValueError("'distribution' is missing; known: exponential, lognormal, uniform")
    return value


def _think_kind(value: object) -> str:
    return "distribution" if isinstance(value, Mapping | Section) else "duration"


ThinkTime = Annotated[
    Annotated[ThinkSpec, Tag("distribution")] | Annotated[Duration, Tag("duration")],
    Discriminator(_think_kind),
    BeforeValidator(_think),
]


class ClosedLoopArrivals(Section):
    """``concurrency`` users: each sends its next request ``think_time`` after its last answer ended."""

    process: Literal["closed-loop"] = "closed-loop"
    concurrency: Count
    think_time: ThinkTime = 0.0


class AllAtOnce(Section):
    """Every request at time zero: a batch job."""

    process: Literal["all-at-once"] = "all-at-once"


class CustomArrivals(CustomPart):
    """An arrival process of a plug-in, with its own keys."""

    process: str

    @model_validator(mode="after")
    def _checked(self) -> CustomArrivals:
        self.check(register.arrival_process, self.process)
        return self


ARRIVAL_PROCESSES = (
    "poisson",
    "constant",
    "gamma",
    "weibull",
    "on-off",
    "diurnal",
    "closed-loop",
    "all-at-once",
)

Arrivals = Annotated[
    Annotated[PoissonArrivals, Tag("poisson")]
    | Annotated[ConstantArrivals, Tag("constant")]
    | Annotated[GammaArrivals, Tag("gamma")]
    | Annotated[WeibullArrivals, Tag("weibull")]
    | Annotated[OnOffArrivals, Tag("on-off")]
    | Annotated[DiurnalArrivals, Tag("diurnal")]
    | Annotated[ClosedLoopArrivals, Tag("closed-loop")]
    | Annotated[AllAtOnce, Tag("all-at-once")]
    | Annotated[CustomArrivals, Tag("plug-in")],
    Discriminator(tagged("process", ARRIVAL_PROCESSES)),
    BeforeValidator(
        named("process", ARRIVAL_PROCESSES, register.arrival_process, "{process: poisson, rate: 20}")
    ),
]
