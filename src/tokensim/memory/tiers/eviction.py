"""Which block of a memory tier goes first: a number a block, the smallest goes.

A policy gives a block a value when it comes in and another one when it is used; of equal values, the one used
longest ago goes, and of those used together, the last block of the prompt (the others are worth nothing
without those before them). A value never falls when its block is used.
"""

from __future__ import annotations

from typing import ClassVar, Protocol

from tokensim.registry import register


class Eviction(Protocol):
    """The policy of one tier; it may keep state.

    ``refreshes``: a use counts (else only the order in which blocks came in does). ``weighs``: it wants to
    know ``worth``, the mean seconds that computing a prefix again would take for each byte of it (else 0).
    """

    refreshes: ClassVar[bool]
    weighs: ClassVar[bool]

    def enter(self, worth: float) -> float:
        """The value of a block that comes in."""
        ...

    def use(self, value: float, worth: float) -> float:
        """The new value, at least ``value``, of a block that is used."""
        ...

    def evicted(self, value: float) -> None:
        """A block of this value, the smallest, was evicted."""
        ...


@register.eviction("lru")
class LeastRecentlyUsed:
    """The block used longest ago."""

    refreshes: ClassVar[bool] = True
    weighs: ClassVar[bool] = False

    def enter(self, worth: float) -> float:
        """All are equal."""
        return 0.0

    def use(self, value: float, worth: float) -> float:
        """All are equal."""
        return value

    def evicted(self, value: float) -> None:
        """Nothing to learn."""


@register.eviction("fifo")
class FirstInFirstOut(LeastRecentlyUsed):
    """The block that came in first; a prompt's first blocks may go before its last ones."""

    refreshes: ClassVar[bool] = False


@register.eviction("lfu")
class LeastFrequentlyUsed:
    """The block used least often since it came in."""

    refreshes: ClassVar[bool] = True
    weighs: ClassVar[bool] = False

    def enter(self, worth: float) -> float:
        """Its first use."""
        return 1.0

    def use(self, value: float, worth: float) -> float:
        """One more."""
        return value + 1.0

    def evicted(self, value: float) -> None:
        """Nothing to learn."""


@register.eviction("cost-aware")
class GreedyDual:
    """GreedyDual-Size (Cao and Irani, USENIX ITS 1997): value = inflation + cost / size, where the inflation
    is the value of the last victim.

    Cost over size is ``worth``, so that long prefixes, whose every token is dearer to compute, stay longer. A
    value is kept where a shorter prompt with the same beginning would give a smaller one: no prompt loses its
    beginning before its end.
    """

    refreshes: ClassVar[bool] = True
    weighs: ClassVar[bool] = True

    def __init__(self) -> None:
        self._inflation = 0.0

    def enter(self, worth: float) -> float:
        """Worth as much as the dearest use now."""
        return self._inflation + worth

    def use(self, value: float, worth: float) -> float:
        """The same, unless it was worth more."""
        return max(value, self._inflation + worth)

    def evicted(self, value: float) -> None:
        """What stays must be worth more from now on."""
        self._inflation = max(self._inflation, value)
