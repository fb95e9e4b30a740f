"""When the steps of a full pipeline are scheduled, and when each stage takes them.

The rules are those of ``pipeline.py``: a step is scheduled when the oldest batch has left the last stage, the
host prepares one after the other, a stage takes one at a time. ``walk`` goes step by step, a handful of
maxima and sums each; ``leap`` takes many rounds at once where each goes as the one before (``steady.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tokensim.engine.steady import Link, Round
from tokensim.workload.base import Floats

Duration = tuple[float, float]
"""Seconds of a cohort's next step on a stage, and how much longer each later one lasts."""

KNOWN_ROUNDS = 3
"""Rounds to walk before a leap: the last one says what sets the pace, those before how it came to that."""

LEAST_ROUNDS = 24
"""A leap over fewer rounds than this is not worth while."""


class Pace:
    """The steps in time, as lists that grow.

    ``due_s[j]``: when step ``j`` is scheduled, after batch ``j`` has been received; ``host_s[j]``: when the
    host has prepared it. ``starts_s`` and ``lasts_s`` have an entry for each step and stage. ``ends_s[i]``:
    when batch ``i`` leaves the last stage, those in flight before first.
    """

    def __init__(
        self,
        durations: Sequence[Sequence[Duration]],
        sends_s: Sequence[Sequence[float]],
        busy_s: Sequence[float],
        *,
        now: float,
        ends_s: Sequence[float],
        free_s: Sequence[float],
        host_s: float,
        token_s: float | None,
    ) -> None:
        """``durations`` (by stage) and ``sends_s`` (after each stage; the last is 0) of each place in a
        round, ``busy_s`` of the host; it is ``now``, batches in flight end at ``ends_s``, stages are free
        from ``free_s`` on and the host from ``host_s``. ``token_s``: how long sampled tokens travel to the
        first stage, where steps wait for them; None: they do not."""
        self.stages = len(free_s)
        self._durations, self._sends_s, self._busy_s = durations, sends_s, busy_s
        self._queue = len(ends_s)
        self._behind = len(ends_s) - len(busy_s)
        self._token_s = token_s
        self._now, self._host_s, self._free_s = now, host_s, list(free_s)
        self._rounds = 0
        self.due_s: list[float] = []
        self.host_s: list[float] = []
        self.starts_s: list[float] = []
        self.lasts_s: list[float] = []
        self.ends_s = list(ends_s)

    def run(self, steps: int) -> None:
        """Work out ``steps`` steps, from the first one on."""
        period = len(self._busy_s)
        while (left := steps // period - self._rounds) >= LEAST_ROUNDS:
            self.walk(KNOWN_ROUNDS * period)
            if not self._leap(left - KNOWN_ROUNDS):
                break
        self.walk(steps - self._rounds * period)

    def walk(self, steps: int) -> None:
        """Work out ``steps`` more, from the beginning of a round on. HOT PATH."""
        busy_s, token_s, behind, stages = self._busy_s, self._token_s, self._behind, self.stages
        due, prepared, ends, free = self.due_s, self.host_s, self.ends_s, self._free_s
        starts, lasts = self.starts_s, self.lasts_s
        period, rounds = len(busy_s), self._rounds
        plans: list[list[list[Any]]] = [  # stage, seconds of the next step, what later ones have more, send
            [
                [k, seconds + rounds * growth, growth, send_s]
                for k, ((seconds, growth), send_s) in enumerate(zip(*place, strict=True))
            ]
            for place in zip(self._durations, self._sends_s, strict=True)
        ]
        time, host_s, place, done = self._now, self._host_s, 0, len(due)
        assert len(starts) == done * stages
        for j in range(done, done + steps):
            if ends[j] > time:
                time = ends[j]
            due.append(time)
            host_s = (time if time > host_s else host_s) + busy_s[place]
            prepared.append(host_s)
            ready = host_s
            if token_s is not None and ends[j + behind] + token_s > ready:
                ready = ends[j + behind] + token_s
            for plan in plans[place]:
                k, seconds, growth, send_s = plan
                start = free[k]
                if ready > start:
                    start = ready
                starts.append(start)
                lasts.append(seconds)
                free[k] = end = start + seconds
                plan[1] = seconds + growth
                ready = end + send_s
            ends.append(end)
            place += 1
            if place == period:
                place = 0
        self._now, self._host_s = time, host_s
        self._rounds += steps // period

    def _leap(self, rounds: int) -> bool:
        """Take up to ``rounds`` rounds at once, if they go as the last one did; whether any was taken."""
        period, stages, done = len(self._busy_s), self.stages, self._rounds
        turns = np.arange(done, done + rounds, dtype=np.float64)
        lasts: list[list[Floats]] = [
            [seconds + growth * turns for seconds, growth in place] for place in self._durations
        ]
        links = self._links(lasts)
        found = Round(links, self._before(), rounds)
        solved = found.solve()
        if solved is None:
            return False
        values, holds = solved
        if not holds:
            return False
        self.due_s += _in_turn(values[:period], holds)
        self.host_s += _in_turn(values[period : 2 * period], holds)
        first = 2 * period
        self.ends_s += _in_turn(values[first + stages - 1 :: stages], holds)
        self.starts_s += _in_turn(
            [found.after(Link(link.node, link.back, link.adds[:-1])) for link, *_ in links[first:]], holds
        )
        self.lasts_s += _in_turn([column for place in lasts for column in place], holds)
        self._now, self._host_s = self.due_s[-1], self.host_s[-1]
        self._free_s = [float(values[k - stages][holds - 1]) for k in range(stages)]
        self._rounds += holds
        return True

    def _before(self) -> list[Sequence[float]]:
        """What is known of each moment: those of the last rounds."""
        period, stages = len(self._busy_s), self.stages
        last = KNOWN_ROUNDS * period
        known: list[Sequence[float]] = [self.due_s[-last:][p::period] for p in range(period)]
        known += [self.host_s[-last:][p::period] for p in range(period)]
        size = last * stages
        ends = np.add(self.starts_s[-size:], self.lasts_s[-size:])
        return [*known, *(ends[at :: period * stages].tolist() for at in range(period * stages))]

    def _links(self, lasts: list[list[Floats]]) -> list[list[Link]]:
        """What each moment of a round may follow, first what it followed in the last one.

        They are, by number: steps scheduled, by place; prepared; out of each stage, by place and stage.
        """
        period, stages, queue = len(self._busy_s), self.stages, self._queue

        def out(place: int, stage: int) -> int:
            return 2 * period + place * stages + stage

        ahead = [(place - 1) % period for place in range(period)]
        back = [int(place == 0) for place in range(period)]
        links = [
            [
                Link(out((p - queue) % period, stages - 1), -((p - queue) // period)),
                Link(ahead[p], back[p]),
            ]
            for p in range(period)
        ]
        links += [
            [Link(p, 0, (self._busy_s[p],)), Link(period + ahead[p], back[p], (self._busy_s[p],))]
            for p in range(period)
        ]
        for p in range(period):
            for k in range(stages):
                seconds = lasts[p][k]
                ways = [Link(out(ahead[p], k), back[p], (seconds,))]
                if k:
                    ways.append(Link(out(p, k - 1), 0, (self._sends_s[p][k - 1], seconds)))
                else:
                    ways.append(Link(period + p, 0, (seconds,)))
                    if self._token_s is not None:
                        ways.append(Link(out(p, stages - 1), 1, (self._token_s, seconds)))
                links.append(ways)
        before = self._before()
        for node, ways in enumerate(links):
            ways.sort(key=lambda link: -_last(before, link, node))
        return links


def _last(before: list[Sequence[float]], link: Link, node: int) -> float:
    """The moment that ``link`` led to in the last round that is known, but for how long it takes a stage."""
    moment = float(before[link.node][-1 - link.back])
    adds = link.adds[:-1] if link.adds and not isinstance(link.adds[-1], float) else link.adds
    for add in adds:
        assert isinstance(add, float | int)
        moment += add
    return moment


def _in_turn(columns: Sequence[Floats], rounds: int) -> list[float]:
    """The values of the first ``rounds`` rounds, round by round."""
    values: list[float] = np.stack([column[:rounds] for column in columns], axis=1).ravel().tolist()
    return values
