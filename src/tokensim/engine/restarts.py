"""A rolling restart: the replicas of a pool are replaced by new ones, a few at a time."""

from __future__ import annotations

from tokensim.engine.hooks import Hook
from tokensim.engine.replica import Replica, State

LOOK_S = 0.1
"""How often it looks whether a replica has drained, or has started."""


class RollingRestart(Hook):
    """From ``at_s`` on, ``batch`` replicas of ``pool`` at a time drain and are replaced.

    ``surge``: the new one serves before the old one drains. ``migrate``: requests of the old one move instead
    of being served first.
    """

    def __init__(self, pool: str, at_s: float, batch: int, *, surge: bool, migrate: bool) -> None:
        self.pool = pool
        self.at_s = at_s
        self.batch = batch
        self.surge = surge
        self.migrate = migrate
        self._old: list[Replica] = []
        self._pairs: list[tuple[Replica, Replica | None]] = []  # being replaced: old, new

    def on_start(self) -> None:
        """See ``Hook``."""
        self.control.at(self.at_s, self.begin)

    def begin(self) -> None:
        """Note who is to be replaced, and begin with the first."""
        self._old = self.control.pool(self.pool).standing()
        self.look()
        self.control.every(LOOK_S, self.look)

    def look(self) -> None:
        """Go on with those that are being replaced; begin with the next ones."""
        self._pairs = [pair for pair in map(self._next, self._pairs) if pair is not None]
        while self._old and len(self._pairs) < self.batch:
            old = self._old.pop(0)
            new = self.control.add_replica(self.control.pool(self.pool)) if self.surge else None
            if not self.surge:
                self.control.remove_replica(old, migrate=self.migrate)
            self._pairs.append((old, new))

    def _next(self, pair: tuple[Replica, Replica | None]) -> tuple[Replica, Replica | None] | None:
        """What has become of ``pair``; None once it is done with."""
        old, new = pair
        if new is None:
            if old.state is State.DOWN:
                new = self.control.add_replica(self.control.pool(self.pool))
        elif new.state is State.UP and old.state is State.UP:
            self.control.remove_replica(old, migrate=self.migrate)
        done = new is not None and new.state is not State.STARTING and old.state is State.DOWN
        return None if done else (old, new)
