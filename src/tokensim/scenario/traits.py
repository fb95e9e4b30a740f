"""What a workload may say of its requests beyond lengths: tenant, priority, deadline, prediction, adapter,
images, task. Schedulers and routers use them; most are ignored by policies that do not."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from tokensim.scenario.fields import NotNegative, Positive
from tokensim.scenario.lengths import Length
from tokensim.scenario.section import Count, Section
from tokensim.scenario.sessions import Share
from tokensim.scenario.units import Duration

Task = Literal["generate", "embed", "score"]


def _equal_weights(value: object) -> object:
    if isinstance(value, int) and not isinstance(value, bool):
        if not 1 <= value <= 100_000:
            raise ValueError(f"{value} of them; give 1 to 100,000, or a list of weights")
        return [1.0] * value
    return value


def _some_weight(value: list[float]) -> list[float]:
    if not sum(value) > 0:
        raise ValueError("at least one weight must be above 0")
    return value


Weights = Annotated[
    list[NotNegative], Field(min_length=1), AfterValidator(_some_weight), BeforeValidator(_equal_weights)
]
"""Relative weights of 0, 1, 2, …; a whole number: so many equal ones."""


class Deadline(Section):
    """When the last token is due, after the arrival: the sum of what is given. Short form: a duration."""

    fixed: Duration = 0.0
    """For every request."""
    per_input_token: Duration = 0.0
    """For each token of the prompt."""
    per_output_token: Duration = 0.0
    """For each token of the answer."""

    @model_validator(mode="after")
    def _some(self) -> Deadline:
        if not (self.fixed or self.per_input_token or self.per_output_token):
            raise ValueError(
                "a deadline of 0 s cannot be met; give fixed, per_input_token or per_output_token"
            )
        return self


class Oracle(Section):
    """The true length."""

    predictor: Literal["oracle"] = "oracle"


class ConstantPrediction(Section):
    """Always `value`."""

    predictor: Literal["constant"]
    value: Count


class LognormalPrediction(Section):
    """The true length times e^(`sigma`·z), z standard normal: right in the median."""

    predictor: Literal["lognormal"]
    sigma: Positive


class BucketPrediction(Section):
    """The true length rounded up to a multiple of `width`, as classifiers into length buckets give it."""

    predictor: Literal["bucket"]
    width: Count


def _prediction(value: object) -> object:
    return {"predictor": value} if isinstance(value, str) else value


Prediction = Annotated[
    Annotated[
        Oracle | ConstantPrediction | LognormalPrediction | BucketPrediction, Field(discriminator="predictor")
    ],
    BeforeValidator(_prediction),
]


class Adapters(Section):
    """LoRA adapters: which one a request (a session) needs."""

    count: Count
    """How many there are."""
    zipf: NotNegative = 0.0
    """Popularity: adapter k is asked for in proportion to 1/(k + 1)**zipf; 0: all alike."""
    share: Share = 1.0
    """Share of the requests that need one; the others run on the base model."""


class Images(Section):
    """Images in prompts: tokens that a vision encoder makes, at the end of the prompt."""

    tokens: Count
    """Tokens of one image in the prompt, which add to the prompt's length."""
    per_request: Length | None = None
    """Images of a request that has any. Null: one."""
    share: Share = 1.0
    """Share of the requests that have images."""


def _fixed_deadline(value: object) -> object:
    return {"fixed": value} if isinstance(value, int | float | str) else value


DeadlineOf = Annotated[Deadline, BeforeValidator(_fixed_deadline)]
