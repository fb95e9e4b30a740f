"""An eviction policy of a memory tier of one's own: what has been used more than once stays longest.

    tokensim run examples/chat_sessions.yaml --plugin examples/plugins/seen_twice.py \
        --set 'memory.tiers=[{kind: host, capacity: 20GB, policy: seen-twice}]'

The block of the smallest value goes; of equal values the one used longest ago. So this is LRU among those
that were used once, then LRU among the others (a segmented LRU without a bound on either part).
"""

from __future__ import annotations

from typing import ClassVar

from tokensim import register


@register.eviction("seen-twice")
class SeenTwice:
    """``policy: seen-twice`` of a tier."""

    refreshes: ClassVar[bool] = True  # a use counts
    weighs: ClassVar[bool] = False  # what a block would cost to compute does not

    def enter(self, worth: float) -> float:
        """Seen once."""
        return 0.0

    def use(self, value: float, worth: float) -> float:
        """Seen again."""
        return 1.0

    def evicted(self, value: float) -> None:
        """Nothing to learn."""
