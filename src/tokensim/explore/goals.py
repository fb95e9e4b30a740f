"""What a study wants: goals, and what every answer must keep to.

goals: [{minimize: cost}, {maximize: throughput}]    # one: the best; several: the Pareto front
subject_to:
  slo: true                                          # every bound of the scenario's SLO, at its percentile
  latency.e2e_s.p99: {max: 20s}
  slo.goodput_per_s: {min: 8}

``slo: true`` is the default where the scenario has an SLO. A run that rejects or loses more requests than the
SLO's percentile leaves room for does not meet it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tokensim.errors import InputError
from tokensim.explore.figures import figure, in_seconds
from tokensim.explore.task import Figure
from tokensim.scenario.units import parse_duration

Figures = Mapping[str, Figure]
UNKNOWN = 1e3
"""By how much a figure that is not there misses its limit."""


@dataclass(frozen=True, slots=True)
class Goal:
    """The figure to be made small (``sign`` 1) or large (−1); ``name`` as the study gives it."""

    name: str
    figure: str
    sign: int

    def loss(self, figures: Figures) -> float:
        """The smaller, the better; infinite without the figure."""
        value = number(figures.get(self.figure))
        return math.inf if value is None else self.sign * value


@dataclass(frozen=True, slots=True)
class Requirement:
    """``figure`` stays within ``low`` … ``high``."""

    figure: str
    low: float = -math.inf
    high: float = math.inf

    def miss(self, figures: Figures) -> float:
        """By what share the figure is beyond the limit; up to 0 where it keeps to it, −1 where it is 0."""
        value = number(figures.get(self.figure))
        if value is None:
            return UNKNOWN
        return max(_beyond(value, self.high), _beyond(-value, -self.low))

    def told(self, figures: Figures) -> list[tuple[str, float]]:
        """What is bounded and its miss, for the table of what binds."""
        return [(self.figure, self.miss(figures))]


@dataclass(frozen=True, slots=True)
class SloKept:
    """Every bound of the SLO holds at its percentile, and no more requests are lost than that allows."""

    def miss(self, figures: Figures) -> float:
        """By what share the worst bound is missed; up to 0 where all are kept."""
        return max((miss for _, miss in self.told(figures)), default=UNKNOWN)

    def told(self, figures: Figures) -> list[tuple[str, float]]:
        """Each bound of the SLO and its miss."""
        told = []
        for name, value in figures.items():
            if (
                name.startswith("slo.bounds.")
                and name.endswith(".bound_s")
                and isinstance(value, float | int)
            ):
                metric = name.split(".")[2]
                reached = number(figures.get(f"slo.bounds.{metric}.value_s"))
                told.append((f"slo.{metric}", UNKNOWN if reached is None else _beyond(reached, float(value))))
        percentile, total = number(figures.get("slo.percentile")), number(figures.get("requests.total"))
        if told and percentile is not None and total:
            ends = (
                number(figures.get(f"requests.{end}")) or 0.0 for end in ("rejected", "failed", "cancelled")
            )
            lost = sum(ends) / total
            room = 1 - percentile / 100
            told.append(("requests lost", lost - room if lost > room else -1.0))
        return told


Kept = Requirement | SloKept


def number(value: Figure) -> float | None:
    """``value`` if it is a number."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _beyond(value: float, limit: float) -> float:
    """(value − limit) / |limit|: 0 at the limit, above 0 beyond it."""
    if math.isinf(limit):
        return -1.0
    return (value - limit) / abs(limit) if limit else value


def dominated(losses: Sequence[float], front: Mapping[int, Sequence[float]]) -> int | None:
    """The trial of ``front`` that is nowhere worse than ``losses`` and better in one; None: there is none."""
    for trial, other in front.items():
        if all(a <= b for a, b in zip(other, losses, strict=True)) and any(
            a < b for a, b in zip(other, losses, strict=True)
        ):
            return trial
    return None


def read_goals(given: Sequence[Mapping[Any, str]], where: str) -> tuple[Goal, ...]:
    """The goals as a study gives them; raises ``InputError``."""
    goals = []
    for index, entry in enumerate(given):
        at = f"{where}[{index}]"
        if len(entry) != 1:
            raise InputError(f"{dict(entry)} is not one goal", where=at, hint="e.g. {minimize: cost}")
        ((way, name),) = entry.items()
        goals.append(Goal(name, figure(name, f"{at}.{way}"), 1 if way == "minimize" else -1))
    if len({goal.figure for goal in goals}) < len(goals):
        raise InputError("the same figure twice", where=where, hint="give each goal once")
    return tuple(goals)


def read_requirements(given: Mapping[str, Any], slo: bool, where: str) -> tuple[Kept, ...]:
    """What every answer keeps to; ``slo``: the scenario has one. Raises ``InputError``."""
    kept: list[Kept] = []
    asked = given.get("slo", slo)
    if not isinstance(asked, bool):
        raise InputError(f"{asked!r} is neither true nor false", where=f"{where}.slo", hint="e.g. slo: true")
    if asked and not slo:
        raise InputError(
            "the scenario has no SLO", where=f"{where}.slo", hint="e.g. slo: {ttft: 500ms, tpot: 50ms}"
        )
    if asked:
        kept.append(SloKept())
    for name, limits in given.items():
        if name == "slo":
            continue
        at = f"{where}.{name}"
        full = figure(name, at)
        if not isinstance(limits, dict) or not limits or set(limits) - {"max", "min"}:
            raise InputError(f"{limits!r} is no limit", where=at, hint="e.g. {max: 0.5}, or {min: 8}")
        bounds = {side: _limit(value, full, f"{at}.{side}") for side, value in limits.items()}
        if bounds.get("min", -math.inf) > bounds.get("max", math.inf):
            raise InputError("nothing is within these limits", where=at, hint="give min below max")
        kept.append(Requirement(full, bounds.get("min", -math.inf), bounds.get("max", math.inf)))
    return tuple(kept)


def _limit(value: Any, name: str, where: str) -> float:
    if isinstance(value, str) and in_seconds(name):
        try:
            return parse_duration(value)
        except ValueError as error:
            raise InputError(str(error), where=where, hint="e.g. 500ms") from None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InputError(f"{value!r} is no number", where=where, hint="e.g. {max: 0.5}, or {min: 8}")
    return float(value)
