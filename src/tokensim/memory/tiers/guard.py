"""A guard around an eviction policy of a memory tier that is not ours: what it does wrong is said, with its
name."""

from __future__ import annotations

from math import isnan
from typing import Any, cast

from tokensim.errors import InputError, SimulationError, asked
from tokensim.memory.tiers.eviction import Eviction

KIND = "eviction policy"


def make_eviction(kind: Any, where: str) -> Eviction:
    """An eviction policy of the class ``kind``, under guard if that is not ours; raises ``InputError``, with
    ``where``, if it cannot be made or lacks something."""
    try:
        made = kind()
    except Exception as error:
        raise InputError(
            f"the eviction policy {kind!r} failed when it was made: {type(error).__name__}: {error}",
            where=where,
            hint="it is made without arguments",
        ) from error
    for part in ("refreshes", "weighs", "enter", "use", "evicted"):
        if not hasattr(made, part):
            raise InputError(
                f"the eviction policy {type(made).__name__} has no '{part}'",
                where=where,
                hint="tokensim.memory.tiers.eviction.Eviction says what one has",
            )
    ours = type(made).__module__.startswith("tokensim.")
    return cast(Eviction, made if ours else GuardedEviction(made))


class GuardedEviction:
    """``policy`` under guard."""

    def __init__(self, policy: Eviction) -> None:
        self._policy = policy
        self.refreshes = policy.refreshes
        self.weighs = policy.weighs

    def enter(self, worth: float) -> float:
        """See ``Eviction.enter``."""
        return self._number("enter", asked(KIND, self._policy, "enter", self._policy.enter, worth))

    def use(self, value: float, worth: float) -> float:
        """See ``Eviction.use``."""
        new = self._number("use", asked(KIND, self._policy, "use", self._policy.use, value, worth))
        if new < value:
            raise SimulationError(
                f"the eviction policy {type(self._policy).__name__} lowered the value of a block that was"
                f" used from {value!r} to {new!r}; use must not return less than it is given"
            )
        return new

    def evicted(self, value: float) -> None:
        """See ``Eviction.evicted``."""
        asked(KIND, self._policy, "evicted", self._policy.evicted, value)

    def _number(self, method: str, value: object) -> float:
        if isinstance(value, (int, float)) and not isnan(value):
            return value
        raise SimulationError(
            f"the eviction policy {type(self._policy).__name__} returned {value!r} from {method}; it must"
            " return a number"
        )
