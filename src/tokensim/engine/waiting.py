"""How long the requests of one queue have waited, all together: a few operations an event."""

from __future__ import annotations


class Waiting:
    """Of the queue of one instance. Add the time of each arrival to ``came_s``."""

    __slots__ = ("_first", "_looked_s", "came_s", "waited_s")

    def __init__(self) -> None:
        self.came_s = 0.0
        self.waited_s = 0.0  # since it was last taken
        self._looked_s = 0.0  # at the last decision
        self._first = 0  # who waited after it

    def count(self, now: float, queue: int) -> None:
        """A decision is due, with ``queue`` requests waiting: those who were left by the last one, and those
        who came since. HOT PATH."""
        first, since_s = self._first, now - self._looked_s
        if first:
            self.waited_s += first * since_s
        if queue > first:
            more = queue - first
            self.waited_s += max(0.0, min(more * now - self.came_s, more * since_s))

    def look(self, now: float, queue: int) -> None:
        """The decision was taken and left ``queue`` requests. HOT PATH."""
        self._looked_s, self._first, self.came_s = now, queue, 0.0

    def take(self) -> float:
        """The seconds since this was last asked for."""
        waited_s, self.waited_s = self.waited_s, 0.0
        return waited_s
