"""A session of measuring: the coarse grid, then wherever interpolation is worst, then checks, until the time
is up.

Checks are measured where nothing was and compared with what the table says there: their errors are what the
session claims. They lie at odd sizes, as a grid of powers of two never meets the tiles that kernels work in.
A line whose check fails is refined and checked again.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from math import log
from statistics import median

from tokensim.cost.tables.base import AXES
from tokensim.profiling.bench import Bench, DeviceLost, Measurement, Rates, Unmeasurable
from tokensim.profiling.lines import NOISE, Gap, Line, Point, gaps, interpolated, odd_middle
from tokensim.profiling.plan import Plan
from tokensim.profiling.shapes import Shape, work
from tokensim.profiling.store import Record, Role, Store
from tokensim.profiling.timing import Policy


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a session is: ``done`` shapes and about ``left`` more, which take about ``left_s``; ``error``
    is the largest that interpolation may have (None: the coarse grid is not complete)."""

    phase: str
    done: int
    left: int
    left_s: float
    error: float | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a session ended. ``complete``: everything planned was measured (or refused, but not all of it), no
    interpolation is expected to be off by more than the target, and every line passed its checks. ``checks``:
    relative errors of the table at shapes that were measured to check it, before it took them in; ``noisy``
    shapes have a median whose standard error is above the target; ``refused``: reasons, with the number of
    shapes."""

    complete: bool
    ended: str
    measured: int
    error: float | None
    checks: tuple[float, ...]
    noisy: int
    refused: Mapping[str, int]
    elapsed_s: float

    @property
    def check_median(self) -> float | None:
        """The median error of the checks."""
        return median(self.checks) if self.checks else None


class Estimates:
    """What measuring a shape takes, from its work and the device's rates, corrected by what shapes of its
    kind and about its size took so far: by what they took longer, or by the share that they took."""

    def __init__(self, rates: Rates, policy: Policy, cold: bool) -> None:
        self._rates, self._policy, self._cold = rates, policy, cold
        self._taken: dict[str, list[tuple[float, float]]] = {}

    def seconds(self, shape: Shape) -> float:
        """Seconds to measure ``shape``."""
        raw, taken = self._raw(shape), self._taken.get(shape.kind, [])
        near = sorted(taken, key=lambda pair: abs(log(pair[0] / raw)))[:SIMILAR]
        if not near:
            return raw
        more = median(actual - expected for expected, actual in near)
        return raw + more if more > 0.0 else raw * median(actual / expected for expected, actual in near)

    def learn(self, shape: Shape, seconds: float) -> None:
        """Take in that measuring ``shape`` took so long."""
        self._taken.setdefault(shape.kind, []).append((self._raw(shape), max(seconds, 1e-9)))

    def _raw(self, shape: Shape) -> float:
        rates, todo = self._rates, work(shape)
        dtype = dict(shape.values).get("dtype", "")
        fastest = max(rates.flops.values())
        call = max(
            todo.flops / rates.flops.get(str(dtype), fastest),
            todo.bytes / rates.memory_bytes_per_s,
            rates.kernel_s,
        )
        filling = todo.operands / rates.memory_bytes_per_s
        return self._policy.expected_s(call) * (2.0 if self._cold else 1.0) + 4.0 * filling + 2e-3


SIMILAR = 5
"""Measurements from which an estimate learns: those nearest in size."""

CHECKS = 2
"""Checks that a line has to pass."""


@dataclass(slots=True)
class _State:
    """A line with what was measured of it."""

    line: Line
    points: list[Point] = field(default_factory=list)
    passed: int = 0
    checks: list[float] = field(default_factory=list)
    blocked: set[int] = field(default_factory=set)

    def add(self, x: int, measured: Measurement) -> None:
        self.points = [point for point in self.points if point.x != x]
        at = bisect_left([point.x for point in self.points], x)
        self.points.insert(at, Point(x, measured.seconds, measured.noise))

    def open(self) -> list[Gap]:
        """Intervals that could be parted."""
        if len(self.points) < 2 or not self.line.refined:
            return []
        return [gap for gap in gaps(self.points, self.line.form) if gap.x not in self.blocked]

    def worst(self) -> Gap | None:
        return max(self.open(), key=lambda gap: gap.error, default=None)

    def unsure(self, target: float) -> int | None:
        """Where to check: in the middle of the interval over which the time changes most; None if the line
        has passed its checks, or no interval changes by more than the ``target``."""
        if self.passed >= CHECKS:
            return None
        places = [
            (-gap.most, odd_middle(low.x, high.x))
            for gap in self.open()
            for low, high in pairwise(self.points)
            if low.x < gap.x < high.x and gap.most > target
        ]
        return next((x for _, x in sorted(places) if x not in self.blocked), None)


class Session:
    """Measures ``plan`` with ``bench`` into ``store``, until interpolation is off by less than ``target``, or
    ``budget_s`` seconds have passed since ``began`` on the ``clock`` (0: no bound; None: now)."""

    def __init__(
        self,
        bench: Bench,
        plan: Plan,
        store: Store,
        *,
        target: float = 0.05,
        budget_s: float = 0.0,
        estimates: Estimates,
        progress: Callable[[Progress], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
        began: float | None = None,
    ) -> None:
        self._bench, self._plan, self._store = bench, plan, store
        self._target, self._budget_s = target, budget_s
        self._estimates, self._progress, self._clock = estimates, progress, clock
        self._began = clock() if began is None else began
        self._states = {(line.shape, line.axis): _State(line) for line in plan.lines}
        for record in store.records.values():
            self._take(record)

    def run(self) -> Outcome:
        """Measure until done or out of time. Ctrl-C (``KeyboardInterrupt``) comes through: what was measured
        is in the store, and ``outcome`` tells of it."""
        try:
            for phase in (self._coarse, self._refine):
                if not phase():
                    return self.outcome("time is up")
        except DeviceLost as error:
            return self.outcome(str(error))
        return self.outcome("done")

    def outcome(self, ended: str) -> Outcome:
        """What there is now."""
        records = self._store.records.values()
        left = [shape for shape in self._plan.coarse() if shape not in self._store.records]
        measured = sum(record.measurement is not None for record in records)
        if ended == "done" and not measured:
            ended = "nothing could be measured"
        error = self._error()
        checks = [error for state in self._states.values() for error in state.checks]
        return Outcome(
            complete=ended == "done" and not left and (error is None or error <= self._target),
            ended=ended,
            measured=measured,
            error=error,
            checks=tuple(checks),
            noisy=sum(m.noise > self._target for record in records if (m := record.measurement)),
            refused=dict(Counter(record.refusal for record in records if record.measurement is None)),
            elapsed_s=self._clock() - self._began,
        )

    def _coarse(self) -> bool:
        """Every shape of the coarse grid, the quick ones first, so that time that runs out costs few."""
        left = [shape for shape in self._plan.coarse() if shape not in self._store.records]
        left.sort(key=self._estimates.seconds)
        while left:
            if self._out_of_time(left[0]):
                return False
            self._measure(left.pop(0), "coarse")
            self._tell("coarse grid", len(left), sum(map(self._estimates.seconds, left)))
        return True

    def _refine(self) -> bool:
        """The largest error first; a check of every line once there is none left."""
        while True:
            worst = [(gap.error, state, gap.x) for state in self._states.values() if (gap := state.worst())]
            error, state, x = max(worst, key=lambda found: found[0], default=(0.0, None, 0))
            role: Role = "refined"
            if state is None or error <= self._target:
                found = self._next_check()
                if found is None:
                    return True
                (state, x), role = found, "check"
            if self._out_of_time(state.line.at(x)):
                return False
            self._point(state, x, role)
            above = sum(gap.error > self._target for s in self._states.values() for gap in s.open())
            left = above + sum(s.unsure(self._target) is not None for s in self._states.values())
            each = self._estimates.seconds(state.line.at(x)) * len(state.line.shapes(x))
            self._tell("refining" if role == "refined" else "checking", left, left * each)

    def _next_check(self) -> tuple[_State, int] | None:
        for state in self._states.values():
            if (x := state.unsure(self._target)) is not None:
                return state, x
        return None

    def _point(self, state: _State, x: int, role: Role) -> None:
        """Measure at ``x`` of a line, and what must be beside it; if either cannot be, the place is left."""
        guess = interpolated(state.points, x, state.line.form)
        own, *beside = state.line.shapes(x)
        for shape in beside:
            if shape not in self._store.records:
                self._measure(shape, "refined")
        if any(self._store.records[shape].measurement is None for shape in beside):
            state.blocked.add(x)
        else:
            self._measure(own, role, guess, state.line.key)

    def _measure(self, shape: Shape, role: Role, guess: float | None = None, line: str = "") -> None:
        began = self._clock()
        try:
            measured = self._bench.measure(shape)
            if measured.noise > self._target:  # something else ran on the device: once more
                measured = min(measured, self._bench.measure(shape), key=lambda one: one.noise)
            record = Record(shape, role, measured, guess=guess, line=line)
            self._estimates.learn(shape, self._clock() - began)
        except Unmeasurable as error:
            record = Record(shape, role, None, str(error), guess, line)
        self._store.add(record)
        self._take(record)

    def _take(self, record: Record) -> None:
        """Put a record on the lines that it lies on."""
        for axis in AXES[record.shape.kind]:
            if axis not in dict(record.shape.values):
                continue
            state = self._states.get((record.shape.without(axis), axis))
            if state is None:
                continue
            x = record.shape[axis]
            if record.measurement is None:
                state.blocked.add(x)
                continue
            state.add(x, record.measurement)
            if record.role == "check" and record.guess is not None and record.line == state.line.key:
                error = abs(record.guess / record.measurement.seconds - 1.0)
                state.checks.append(error)
                state.passed += error <= self._target + NOISE * record.measurement.noise

    def _error(self) -> float | None:
        errors = [gap.error for state in self._states.values() for gap in state.open()]
        return max(errors, default=None)

    def _out_of_time(self, following: Shape) -> bool:
        if not self._budget_s:
            return False
        left = self._budget_s - (self._clock() - self._began)
        return left <= 0.0 or self._estimates.seconds(following) > 2.0 * left

    def _tell(self, phase: str, left: int, left_s: float) -> None:
        if self._progress is not None:
            done = sum(record.measurement is not None for record in self._store.records.values())
            error = None if phase == "coarse grid" else self._error()
            if self._budget_s:
                left_s = min(left_s, max(0.0, self._budget_s - (self._clock() - self._began)))
            self._progress(Progress(phase, done, left, left_s, error))
