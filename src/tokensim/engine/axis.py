"""The time axis of whatever runs steps: a run of equal steps, when it ends, when the next decision is due.

A run starts at ``start`` and has ``n`` steps; the first lasts ``first``, each later one ``growth`` longer, so
that everything about it is closed-form. Synchronous: the next decision is due when the last step ends.
Asynchronous: when the last step starts. Also what both kinds of runners, an instance and a group of ranks,
do around a run: hand what it brings to the front end, and rest when nothing runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf, sqrt
from typing import Any

from tokensim.engine.front_end import FrontEnd, Outputs
from tokensim.scheduling.local import Request
from tokensim.scheduling.local.base import EMPTY_STEP_PAUSE_S

Order = Callable[[float], None]
"""An action of the control plane, called with the time from which on it holds."""


def layered(compute_s: float, copies_s: float, layers: int) -> float:
    """Seconds of a step whose copies come layer by layer beside its compute: layer i is computed while the KV
    of layer i + 1 comes, so the longer of the two counts, and one layer of the shorter."""
    return max(compute_s, copies_s) + min(compute_s, copies_s) / layers


class TimeAxis:
    """In the middle of ``_run`` equal steps, or idle (``due_s`` is infinite).

    While ``in_view``, ``before_change`` is called before anything but the passing of time changes its state.
    """

    before_change: Callable[[TimeAxis, float], None]

    def __init__(self, *, asynchronous: bool, pause_before_idle: bool, front_end: FrontEnd | None) -> None:
        self.asynchronous = asynchronous
        self.pause_before_idle = pause_before_idle
        self.pause_s = EMPTY_STEP_PAUSE_S
        self.looks_once_more = False
        self.front_end = front_end
        self.orders: list[Order] = []  # to be carried out when the step in flight has ended
        self.notices: list[Order] = []  # to be heeded at the next decision
        self.down = False  # takes no decisions any more
        self.replica: Any = None  # that it belongs to
        self._outputs: Outputs | None = None  # what the steps in flight bring the front end
        self.due_s = inf  # the next decision; inf while idle
        self.end_s = 0.0  # of the last scheduled step
        self._ready_s = 0.0  # the host sleeps until then
        self._run = 1
        self._start_s = 0.0  # of the run's first step
        self._first_s = 0.0  # duration of the run's first step
        self._growth_s = 0.0  # what each later step of the run lasts longer
        self.in_view = False

    @property
    def run(self) -> tuple[float, float, float, int]:
        """When the run starts, what its first step lasts, what each later one lasts longer, and its steps."""
        return self._start_s, self._first_s, self._growth_s, self._run

    def scheduled(self, now: float, follows: bool) -> int:
        """How many steps of the run have been scheduled by ``now``, after its first one; ``follows``: with
        those decided at this very instant."""
        return min(self._boundary(now, follows), self._run) - 1

    def settle(self, now: float, follows: bool) -> bool:
        """Somebody looks: let the scheduler stand where it stands at ``now`` (``follows``: after decisions of
        this very instant). Whether it will move on without an event, other than along its run."""
        return False

    def intake(self, now: float) -> float:
        """When the engine gets a request that arrives at ``now``: the front end takes it in first."""
        assert self.front_end is not None
        running = self._outputs
        if running is not None:
            running.steps = self._run - running.dropped
        return self.front_end.take_in(now, running)

    def rouse(self, now: float, follows: bool) -> bool:
        """Something but an arrival, at ``now``, may change the next decision: decide as soon as can be;
        whether ``due_s`` has changed. ``follows``: it misses a decision taken at this very instant."""
        if self.down:
            return False
        if self.due_s == inf:
            self.due_s = max(now, self._ready_s)
            return True
        return self._cut(now, follows)

    def _obey(self, now: float) -> None:
        """Carry out what was ordered; what it changes is the case from ``now`` on."""
        orders, self.orders = self.orders, []
        for order in orders:
            order(now)

    def _heed(self, now: float) -> None:
        """Take note of what has happened elsewhere."""
        notices, self.notices = self.notices, []
        for notice in notices:
            notice(now)

    def _set_run(self, steps: int) -> None:
        """The run has this many steps: when it ends, and when the next decision is due."""
        self._run = steps
        start, first = self._start_s, self._first_s
        before = start  # the start of the last step
        if steps == 1:
            self.end_s = start + first
        else:
            growth, last = self._growth_s, steps - 1
            before = start + last * first + growth * (last * (last - 1) / 2)
            self.end_s = start + steps * first + growth * (steps * last / 2)
        self.due_s = before if self.asynchronous else self.end_s

    def _boundary(self, now: float, strictly: bool) -> int:
        """The least number of steps of the run after which a decision at or (``strictly``) after ``now`` is
        due; as many as it has, or more, if none is."""
        first, growth, start, run = self._first_s, self._growth_s, self._start_s, self._run
        ahead = now - start
        linear = first - growth / 2
        square = linear * linear + 2 * growth * ahead
        if ahead <= 0:
            steps = 0
        elif square <= 0:  # steps that get shorter and never come to ``now``
            steps = run
        elif linear > 0:
            steps = int(min(2 * ahead / (linear + sqrt(square)), run))
        else:
            steps = int(min((sqrt(square) - linear) / growth, run))
        steps = max(0, steps - 1)
        while steps < run:
            end = start + steps * first + growth * (steps * (steps - 1) / 2)
            if end > now or (end == now and not strictly):
                break
            steps += 1
        return steps + 1 if self.asynchronous else max(steps, 1)

    def _cut(self, now: float, strictly: bool) -> bool:
        """End the run with the first decision at or (``strictly``) after ``now``; whether it is shorter
        now."""
        if self._run == 1:
            return False
        steps = self._boundary(now, strictly)
        if steps >= self._run:
            return False
        self._set_run(steps)
        return True

    def _hand_over(self, done: Sequence[Request]) -> None:
        """The run is over and ``done`` finished with it: what it brings goes to the front end."""
        outputs = self._outputs
        if outputs is not None and self.front_end is not None:
            outputs.steps = self._run - outputs.dropped
            outputs.last_s = self.end_s
            outputs.done = tuple(done)
            self.front_end.put(outputs)
            self._outputs = None

    def _rest(self, now: float, work: bool, again: bool, after_step: bool) -> None:
        """Nothing runs next: wait for the step in flight (``after_step``) and a pause, or for an arrival.

        ``work``: requests are in the system; ``again``: the next decision may find more to do, since some
        have just lost their place.
        """
        self._run = 1
        self._start_s, self._first_s, self._growth_s = self.end_s, 0.0, 0.0
        if after_step:
            self._ready_s = self.end_s
            if work or self.pause_before_idle:
                self._ready_s += self.pause_s
            self.due_s = self._ready_s if work or self.looks_once_more else inf
        elif again:
            self.due_s = now + self.pause_s
        else:
            self.due_s = inf
