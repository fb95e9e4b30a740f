"""Rounds of a full pipeline: cohorts that take turns, again and again, while nothing else happens.

With the queue of batches full, nobody to admit, nothing to prefill and nobody's last token on its way, which
cohort the next steps decode is known, what they cost is linear in the number of the round, and so are the
blocks they take but for the phase. So the schedule of many steps is a closed form; only their times are to be
found (``engine/ahead.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tokensim.scheduling.local.cohorts import NOBODY, Cohort
from tokensim.scheduling.local.flight import FlightStep
from tokensim.workload.base import Ints

if TYPE_CHECKING:
    from tokensim.scheduling.local.pipelined import PipelinedBatching


@dataclass(frozen=True, slots=True)
class Place:
    """What a cohort of ``decode`` requests has in its next step: contexts that sum to ``context``, capped at
    the window to ``window_context``, the longest being ``longest``; each later one has ``decode``,
    ``window_growth`` and 1 more of these. ``turn`` is the last one that has been scheduled."""

    cohort: Cohort
    turn: int
    decode: int
    context: int
    window_context: int
    window_growth: int
    longest: int


@dataclass(frozen=True, slots=True)
class Rotation:
    """The next ``steps`` steps: step ``j`` of them is a turn of ``places[j % len(places)]``; ``flying`` are
    those in flight before, the first one of which is received before step 0 is scheduled."""

    policy: PipelinedBatching
    places: tuple[Place, ...]
    flying: tuple[FlightStep, ...]
    steps: int

    def place_of(self, batch: int) -> Place:
        """Of batch number ``batch``, those in flight first."""
        return self.places[(batch - len(self.flying)) % len(self.places)]

    def blocks(self, steps: int) -> Ints:
        """The new blocks that each of the next ``steps`` steps takes."""
        size, period = self.policy.block_size, len(self.places)
        taken = np.zeros(steps, np.int64)
        for at, place in enumerate(self.places):
            turns = np.arange(-(-(steps - at) // period)) + place.turn
            taken[at::period] = np.array(place.cohort.sums.phase, np.int64)[turns % size]
        return taken

    def step(self, number: int, index: int) -> FlightStep:
        """Batch ``number`` beyond those in flight, as a step of its own."""
        period = len(self.places)
        place, rounds = self.places[number % period], number // period
        step = FlightStep(index)
        step.cohort, step.turn = place.cohort, place.turn + 1 + rounds
        step.decode = place.decode
        step.context = place.context + rounds * place.decode
        step.window_context = place.window_context + rounds * place.window_growth
        step.longest = place.longest + rounds if place.longest else 0
        step.builds_on = index - period
        return step

    def advance(self, done: int, steps: int, blocks: int) -> list[FlightStep]:
        """Of the steps those from ``done`` to ``steps`` were scheduled too, which took ``blocks``, and as
        many batches received; returns what is in flight then."""
        policy, period, queue = self.policy, len(self.places), len(self.flying)
        first = self.flying[-1].index + 1
        for received in self.flying[done:steps]:
            for row in received.rows:
                row.flight.tokens -= row.tokens
        policy.index += steps - done
        policy.cadence.executed += steps - done
        if blocks:
            policy.pool.take(blocks)
        flying = [
            self.flying[number] if number < queue else self.step(number - queue, first + number - queue)
            for number in range(steps, steps + queue)
        ]
        policy.flying = {step.index: step for step in flying}
        for at, place in enumerate(self.places):
            cohort, turns = place.cohort, -(-(steps - at) // period)
            out = sum(step.cohort is cohort for step in flying)
            if turns > 0:
                cohort.turn = place.turn + turns
                cohort.sampled_in = first + at + (turns - 1) * period
                cohort.fresh, cohort.waited = 0, NOBODY
                cohort.level = cohort.turn - 1 if policy.asynchronous else cohort.turn
            cohort.received = cohort.turn - out
            if policy.asynchronous:
                cohort.level = max(cohort.level, cohort.received)
        return flying


def rotation(policy: PipelinedBatching, most: int) -> Rotation | None:
    """At most ``most`` steps that follow; None if the next one cannot be foreseen. HOT PATH."""
    if not policy.gathered or policy.prefilling or (policy.waiting and not policy.blocked):
        return None
    flying = tuple(policy.flying.values())
    for step in flying:
        if step.cohort is None or step.last:
            return None
    index = policy.index
    period = policy.every or len(flying)
    cohorts = [step.cohort for step in flying[-period:]]
    if len(policy.cohorts) != period or len({id(cohort) for cohort in cohorts}) != period:
        return None
    if flying[0].index != index + 1 - len(flying):
        return None
    steps = min(most, policy.foresight())
    places = []
    for at, cohort in enumerate(cohorts):
        assert cohort is not None
        if cohort.sampled_in != index + 1 - period + at:
            return None
        sums, turn = cohort.sums, cohort.turn
        turns = sums.next_finish() - 1 - turn
        window, growth = 0, 0
        if policy.limits.window is not None:
            window, growth = sums.window_context(turn + 1)
            turns = min(turns, sums.next_crossing(turn + 1) - turn)
        steps = min(steps, at + period * turns)
        places.append(
            Place(
                cohort,
                turn,
                sums.n,
                sums.base_sum + sums.n * (turn + 1),
                window,
                growth,
                sums.longest_context(turn + 1),
            )
        )
    steps = _within_memory(policy, places, steps)
    return Rotation(policy, tuple(places), flying, steps) if steps > 0 else None


def _within_memory(policy: PipelinedBatching, places: Sequence[Place], steps: int) -> int:
    """How many of ``steps`` steps the free blocks suffice for."""
    pool, period, size = policy.pool, len(places), policy.block_size
    free = pool.free if pool.evicting is None else pool.spare
    rows = sum(place.decode for place in places)
    if rows * (-(-steps // period) // size + 1) <= free:
        return steps

    def need(count: int) -> int:
        return sum(
            place.cohort.sums.blocks_over(place.turn + 1, max(0, -(-(count - at) // period)))
            for at, place in enumerate(places)
        )

    low, high = 0, steps
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if need(middle) <= free else (low, middle - 1)
    return low
