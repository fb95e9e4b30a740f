"""Failures: replicas that die at a given time or at random, and limits that come and go."""

from __future__ import annotations

import random
from math import inf

from tokensim.engine.control import Fate
from tokensim.engine.hooks import Hook
from tokensim.engine.replica import Replica, State


class FailureAt(Hook):
    """Replica ``number`` of ``pool`` (the first that is up: None) dies at ``at_s``."""

    def __init__(
        self,
        pool: str,
        at_s: float,
        number: int | None,
        fate: Fate,
        recovery_s: float = inf,
        max_retries: int = 3,
    ) -> None:
        self.pool = pool
        self.at_s = at_s
        self.number = number
        self.fate: Fate = fate
        self.recovery_s = recovery_s
        self.max_retries = max_retries

    def on_start(self) -> None:
        """See ``Hook``."""
        self.control.at(self.at_s, self.strike)

    def strike(self) -> None:
        """It dies, if it still stands."""
        replicas = self.control.pool(self.pool).replicas
        standing = [replica for replica in replicas if replica.state is not State.DOWN]
        if self.number is not None:
            standing = [replica for replica in standing if replica.number == self.number]
        if standing:
            self.control.fail(
                standing[0], self.fate, recovery_s=self.recovery_s, max_retries=self.max_retries
            )


class RandomFailures(Hook):
    """Every replica of ``pool`` dies after a time drawn from an exponential distribution with this mean.

    Each replica's draw depends on ``seed`` and its number only.
    """

    def __init__(
        self, pool: str, mean_s: float, seed: int, fate: Fate, recovery_s: float = inf, max_retries: int = 3
    ) -> None:
        self.pool = pool
        self.mean_s = mean_s
        self.seed = seed
        self.fate: Fate = fate
        self.recovery_s = recovery_s
        self.max_retries = max_retries

    def on_start(self) -> None:
        """See ``Hook``."""
        pool = self.control.pool(self.pool)
        pool.on_birth.append(self.doom)
        for replica in pool.replicas:
            self.doom(replica)

    def doom(self, replica: Replica) -> None:
        """Draw when ``replica`` dies."""
        draw = random.Random(f"failure {self.seed} {replica.name}")
        at_s = replica.up_s + draw.expovariate(1 / self.mean_s)
        self.control.at(at_s, lambda: self.strike(replica))

    def strike(self, replica: Replica) -> None:
        """It dies, if it still stands."""
        self.control.fail(replica, self.fate, recovery_s=self.recovery_s, max_retries=self.max_retries)


class Throttle(Hook):
    """At most ``max_running`` requests run in each replica of ``pool``, for ``duration_s`` from ``at_s``
    on."""

    def __init__(self, pool: str, at_s: float, max_running: int, duration_s: float = inf) -> None:
        self.pool = pool
        self.at_s = at_s
        self.max_running = max_running
        self.duration_s = duration_s

    def on_start(self) -> None:
        """See ``Hook``."""
        self.control.at(self.at_s, lambda: self.limit(self.max_running))
        if self.duration_s < inf:
            self.control.at(self.at_s + self.duration_s, lambda: self.limit(None))

    def limit(self, max_running: int | None) -> None:
        """Set the limit of all replicas that serve, or will; one that drains must get rid of it, too."""
        for replica in self.control.pool(self.pool).replicas:
            if replica.state is not State.DOWN:
                self.control.throttle(replica, max_running)
