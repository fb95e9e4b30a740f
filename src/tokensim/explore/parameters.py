"""The parameters of a study: which keys of the scenario take which values.

engine.max_num_seqs: [64, 256]                        # a key and its values
workload.arrivals.rate: {from: 1, to: 16, steps: 5}   # evenly spaced; scale: log for a constant ratio
hardware:                                             # a name of your own: several keys at once
  A100: {"cluster.pools[0].hardware": a100-sxm-80gb}
  H100: {"cluster.pools[0].hardware": h100-sxm-80gb, engine.max_num_seqs: 512}
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tokensim.errors import InputError, nearest

Settings = Mapping[str, Any]
"""Values by path in the scenario: ``{"engine.max_num_seqs": 64}``."""

_RANGE = ("from", "to", "steps", "scale")


@dataclass(frozen=True, slots=True)
class Choice:
    """One value of a parameter: how a table shows it, and what it sets."""

    label: bool | int | float | str | None
    settings: Settings


@dataclass(frozen=True, slots=True)
class Range:
    """Values from ``low`` to ``high``, both included; ``whole``: of whole numbers only."""

    low: float
    high: float
    log: bool
    whole: bool

    def at(self, share: float) -> float:
        """The value at ``share`` of the way, 0 to 1."""
        if self.log:
            value = float(self.low * (self.high / self.low) ** share)
        else:
            value = self.low + (self.high - self.low) * share
        if share == 1:
            value = self.high
        return round(value) if self.whole else value


@dataclass(frozen=True, slots=True)
class Parameter:
    """What is varied under ``name``: its ``choices``, in order; of a ``range``, its steps if it has any."""

    name: str
    choices: tuple[Choice, ...]
    range: Range | None = None

    def choice(self, value: Any) -> Choice:
        """``value`` as a choice of this parameter, which is a single key."""
        return Choice(label_of(value), {self.name: value})

    def lowest(self) -> Choice:
        """The first value, of a range its lower end."""
        return self.choices[0] if self.range is None else self.choice(self.range.at(0))

    def draw(self, random: np.random.Generator) -> Choice:
        """One value at random: each choice as likely, a range without steps evenly (on its scale)."""
        if self.range is None or self.choices:
            return self.choices[int(random.integers(len(self.choices)))]
        return self.choice(self.range.at(float(random.random())))


def read_parameter(name: str, given: Any, where: str) -> Parameter:
    """The parameter ``name`` as a study file gives it; raises ``InputError``."""
    if isinstance(given, list):
        if not given:
            raise InputError("no values", where=where, hint="e.g. [1, 2, 4]")
        return Parameter(name, tuple(Choice(label_of(value), {name: value}) for value in given))
    if isinstance(given, dict) and given.keys() & {"from", "to"}:
        return _read_range(name, given, where)
    if isinstance(given, dict) and given and all(isinstance(value, dict) for value in given.values()):
        return Parameter(name, tuple(Choice(str(label), value) for label, value in given.items()))
    raise InputError(
        f"{given!r} is neither a list of values, nor a range, nor named settings",
        where=where,
        hint="e.g. [1, 2, 4], or {from: 1, to: 16, steps: 5}, or {A: {path: value}, B: {path: value}}",
    )


def _read_range(name: str, given: dict[str, Any], where: str) -> Parameter:
    for key in given:
        if key not in _RANGE:
            raise InputError(f"unknown key '{key}'", where=where, hint=nearest(str(key), _RANGE))
    low, high = (_number(given.get(key), f"{where}.{key}") for key in ("from", "to"))
    scale = given.get("scale", "linear")
    if scale not in ("linear", "log"):
        raise InputError(f"{scale!r} is no scale", where=f"{where}.scale", hint="linear or log")
    if scale == "log" and not (low > 0 and high > 0):
        raise InputError("a log scale needs numbers above 0", where=where)
    if not low < high:
        raise InputError(f"from {low:g} to {high:g} is empty", where=where, hint="give from < to")
    whole = all(isinstance(given[key], int) for key in ("from", "to"))
    spread = Range(low, high, scale == "log", whole)
    steps = given.get("steps")
    if steps is None:
        return Parameter(name, (), spread)
    if not isinstance(steps, int) or isinstance(steps, bool) or steps < 2:
        raise InputError(f"{steps!r} is no number of steps", where=f"{where}.steps", hint="at least 2")
    values = dict.fromkeys(spread.at(step / (steps - 1)) for step in range(steps))
    return Parameter(name, tuple(Choice(label_of(value), {name: value}) for value in values), spread)


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InputError(f"{value!r} is no number", where=where, hint="e.g. {from: 1, to: 16, steps: 5}")
    return value


def label_of(value: Any) -> bool | int | float | str | None:
    """``value`` as one cell of a table."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {label_of(item)}" for key, item in value.items())
    return ", ".join(str(label_of(item)) for item in value)
