"""The space of a search: the parameters of a study as coordinates that a sampler can draw.

A place says for each parameter the number of its choice; of a range without steps, the value itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise, product
from math import prod
from typing import TYPE_CHECKING

from tokensim.explore.parameters import Choice, Parameter
from tokensim.explore.study import Study

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

Place = Mapping[str, int | float]
"""Where a configuration lies, by the parameter's name."""


def size(study: Study) -> int | None:
    """How many places there are; None: endless many."""
    if any(not parameter.choices for parameter in study.parameters):
        return None
    return prod(len(parameter.choices) for parameter in study.parameters)


def every(study: Study) -> Iterator[Place]:
    """All places, the last parameter fastest; there must be an end of them."""
    names = [parameter.name for parameter in study.parameters]
    for numbers in product(*(range(len(parameter.choices)) for parameter in study.parameters)):
        yield dict(zip(names, numbers, strict=True))


def choices_at(study: Study, place: Place) -> tuple[Choice, ...]:
    """What each parameter is at ``place``."""
    return tuple(
        parameter.choices[int(place[parameter.name])]
        if parameter.choices
        else parameter.choice(place[parameter.name])
        for parameter in study.parameters
    )


def distributions(study: Study) -> dict[str, BaseDistribution]:
    """The space as optuna's distributions: numbers in a sampler's eyes only where they are in order."""
    return {parameter.name: _distribution(parameter) for parameter in study.parameters}


def _distribution(parameter: Parameter) -> BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if parameter.choices:
        last = len(parameter.choices) - 1
        return IntDistribution(0, last) if _ordered(parameter) else CategoricalDistribution(range(last + 1))
    spread = parameter.range
    assert spread is not None
    if spread.whole:
        return IntDistribution(int(spread.low), int(spread.high), log=spread.log)
    return FloatDistribution(spread.low, spread.high, log=spread.log)


def _ordered(parameter: Parameter) -> bool:
    """Whether the choices are numbers, in ascending order."""
    labels = [choice.label for choice in parameter.choices]
    numbers = [label for label in labels if isinstance(label, int | float) and not isinstance(label, bool)]
    return len(numbers) == len(labels) and all(a < b for a, b in pairwise(numbers))
