"""Arrival processes: when requests are sent.

Each is a class under a name in ``register.arrival_process``, built from the keys beside ``process:`` in YAML,
with ``sample(streams, count, duration_s)``. Times are summed in whole nanoseconds, so that they are the same
on every machine, and the first ``n`` arrivals do not depend on how many are asked for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from tokensim.errors import InputError
from tokensim.registry import register
from tokensim.scenario.arrivals import ExponentialThink, LognormalThink, UniformThink
from tokensim.workload import streams as names
from tokensim.workload.base import Floats, Ints
from tokensim.workload.streams import Streams

NS = 1_000_000_000
_MOST_ARRIVALS = (
    200_000_000  # ours: 4.8 GB of columns; far beyond what fits a run, and a slip of a unit is well above
)


@dataclass(frozen=True, slots=True)
class Arrivals:
    """``arrival_s`` [n] seconds, non-decreasing; ``concurrency`` and ``think_s`` [n] for a closed loop."""

    arrival_s: Floats
    concurrency: int | None = None
    think_s: Floats | None = None


class ArrivalProcess(Protocol):
    """What a class in ``register.arrival_process`` can do."""

    def sample(self, streams: Streams, count: int | None, duration_s: float | None) -> Arrivals:
        """Exactly ``count`` arrivals, or all those before ``duration_s``: one of the two is given."""
        ...


def _until(more: Callable[[int], Floats], rate: float, count: int | None, duration_s: float | None) -> Ints:
    """Arrival times in ns from gaps in seconds: ``count`` of them, or all before ``duration_s``.

    ``more(n)`` draws the next ``n`` gaps of one stream.
    """
    if count is not None:
        return _sum_ns(more(count))
    assert duration_s is not None
    _refuse_endless(rate * duration_s)
    end, total, parts = round(duration_s * NS), 0, [np.empty(0, dtype=np.int64)]
    while total < end:
        expected = rate * (end - total) / NS
        parts.append(total + _sum_ns(more(int(expected + 4 * math.sqrt(expected) + 16))))
        total = int(parts[-1][-1])
    times = np.concatenate(parts)
    return times[: np.searchsorted(times, end)]


def _sum_ns(gaps_s: Floats) -> Ints:
    """Running sum of gaps in whole ns; each gap is cut at 10 years, and a sum beyond 146 years is refused."""
    gaps = np.rint(np.minimum(gaps_s, 315e6) * NS)
    if gaps.sum() > 2.0**62:
        raise InputError(
            "the arrivals span more than 146 years",
            where="workload.arrivals",
            hint="a rate is in requests a second; a shape this small leaves endless gaps",
        )
    return np.cumsum(gaps.astype(np.int64))


def _refuse_endless(expected: float) -> None:
    if expected > _MOST_ARRIVALS:
        raise InputError(
            f"about {expected:.3g} requests would arrive, more than {_MOST_ARRIVALS:,}",
            where="workload.duration",
            hint="shorten duration, lower the rate, or give num_requests",
        )


def _seconds(times_ns: Ints) -> Floats:
    return times_ns / NS


@register.arrival_process("poisson")
@dataclass(frozen=True, slots=True)
class Poisson:
    """Exponential gaps of mean 1/``rate``."""

    rate: float

    def sample(self, streams: Streams, count: int | None, duration_s: float | None) -> Arrivals:
        """See ``ArrivalProcess``."""
        rng = streams(names.ARRIVALS)
        gaps = _until(lambda n: rng.standard_exponential(n) / self.rate, self.rate, count, duration_s)
        return Arrivals(_seconds(gaps))


@register.arrival_process("constant")
@dataclass(frozen=True, slots=True)
class Constant:
    """Request ``k`` at ``k``/``rate``, the first at time zero."""

    rate: float

    def sample(self, streams: Streams, count: int | None, duration_s: float | None) -> Arrivals:
        """See ``ArrivalProcess``."""
        if count is None:
            assert duration_s is not None
            _refuse_endless(self.rate * duration_s)
            count = max(math.ceil(round(self.rate * duration_s, 6)), 1)
        return Arrivals(_seconds(np.rint(np.arange(count) * (NS / self.rate)).astype(np.int64)))


@register.arrival_process("gamma")
@dataclass(frozen=True, slots=True)
class Gamma:
    """Gamma gaps of mean 1/``rate`` and shape ``burstiness`` = 1/``cv``² (one of the two is given)."""

    rate: float
    burstiness: float | None = None
    cv: float | None = None

    def sample(self, streams: Streams, count: int | None, duration_s: float | None) -> Arrivals:
        """See ``ArrivalProcess``."""
        shape = self.burstiness if self.burstiness is not None else 1 / _given(self.cv) ** 2
        scale = 1 / (self.rate * shape)
        rng = streams(names.ARRIVALS)
        gaps = _until(lambda n: rng.standard_gamma(shape, n) * scale, self.rate, count, duration_s)
        return Arrivals(_seconds(gaps))


def _given(value: float | None) -> float:
    if value is None:
        raise ValueError("give burstiness or cv")
    return value


@register.arrival_process("weibull")
@dataclass(frozen=True, slots=True)
class Weibull:
    """Weibull gaps of mean 1/``rate`` and the given ``shape``."""

    rate: float
    shape: float

    def sample(self, streams: Streams, count: int | None, duration_s: float | None) -> Arrivals:
        """See ``ArrivalProcess``."""
        scale = 1 / (self.rate * math.gamma(1 + 1 / self.shape))
        rng = streams(names.ARRIVALS)
        gaps = _until(lambda n: rng.weibull(self.shape, n) * scale, self.rate, count, duration_s)
        return Arrivals(_seconds(gaps))


@register.arrival_process("on-off")
@dataclass(frozen=True, slots=True)
class OnOff:
    """Poisson at ``rate_on`` and ``rate_off`` in turn, each phase exponential (a two-state MMPP).

    Phase lengths have means ``mean_on`` and ``mean_off`` seconds; the first phase is drawn from the
    stationary distribution. Arrivals are unit-rate Poisson points mapped through the inverse of the
    integrated rate.
    """

    rate_on: float
    mean_on: float
    mean_off: float
    rate_off: float = 0.0

    def sample(self, streams: Streams, count: int | None, duration_s: float | None) -> Arrivals:
        """See ``ArrivalProcess``."""
        rng, phases = streams(names.ARRIVALS), streams(names.PHASES)
        on_first = bool(phases.random_sample() < self.mean_on / (self.mean_on + self.mean_off))
        cycle = self.mean_on + self.mean_off
        per_cycle = self.rate_on * self.mean_on + self.rate_off * self.mean_off
        if duration_s is not None:
            _refuse_endless(duration_s * max(per_cycle / cycle, 1 / cycle))
        # Phases and points are drawn in blocks of doubling size until they reach far enough.
        starts, mass, rates = np.zeros(1), np.zeros(1), np.empty(0)
        cycles = 64
        points = np.cumsum(rng.standard_exponential(count)) if count is not None else np.empty(0)
        while (mass[-1] <= points[-1]) if count is not None else (starts[-1] < _given(duration_s)):
            pair = np.array([self.mean_on, self.mean_off] if on_first else [self.mean_off, self.mean_on])
            pace = np.array([self.rate_on, self.rate_off] if on_first else [self.rate_off, self.rate_on])
            lengths, new = (
                phases.standard_exponential(2 * cycles) * np.tile(pair, cycles),
                np.tile(pace, cycles),
            )
            starts = np.concatenate([starts, starts[-1] + np.cumsum(lengths)])
            mass = np.concatenate([mass, mass[-1] + np.cumsum(lengths * new)])
            rates = np.concatenate([rates, new])
            cycles *= 2
        if count is None:
            points = _unit_points(rng, float(mass[-1]))
        phase = np.searchsorted(mass, points, side="right") - 1
        times = starts[phase] + (points - mass[phase]) / rates[phase]
        times_ns = np.maximum.accumulate(np.rint(times * NS).astype(np.int64))
        if duration_s is not None:
            times_ns = times_ns[: np.searchsorted(times_ns, round(duration_s * NS))]
        return Arrivals(_seconds(times_ns))


def _unit_points(rng: np.random.RandomState, mass: float) -> Floats:
    """The points of a unit-rate Poisson process before ``mass``."""
    parts, total = [np.empty(0)], 0.0
    while total < mass:
        parts.append(total + np.cumsum(rng.standard_exponential(int(mass - total) + 64)))
        total = float(parts[-1][-1])
    points = np.concatenate(parts)
    return points[: np.searchsorted(points, mass)]


@register.arrival_process("diurnal")
@dataclass(frozen=True, slots=True)
class Diurnal:
    """Poisson whose rate follows a curve that repeats every ``period`` seconds.

    Thinning (Lewis and Shedler, 1979): points at the highest rate, each kept with probability
    rate(t)/highest.
    """

    period: float
    points: Sequence[tuple[float, float]] | None = None
    mean: float | None = None
    amplitude: float | None = None

    def rate(self, time_s: Floats) -> Floats:
        """Requests/s at each of ``time_s``."""
        if self.points is not None:
            at, rates = (np.array(column) for column in zip(*self.points, strict=True))
            curve: Floats = np.interp(time_s, at, rates, period=self.period)
            return curve
        phase = np.sin(2 * math.pi * np.mod(time_s / self.period, 1.0))
        return _given(self.mean) * (1 + _given(self.amplitude) * phase)

    def sample(self, streams: Streams, count: int | None, duration_s: float | None) -> Arrivals:
        """See ``ArrivalProcess``."""
        rng, keep = streams(names.ARRIVALS), streams(names.PHASES)
        if self.points is not None:
            highest = max(rate for _, rate in self.points)
        else:
            highest = _given(self.mean) * (1 + _given(self.amplitude))
        if duration_s is not None:
            _refuse_endless(highest * duration_s)
        end = round(duration_s * NS) if duration_s is not None else None
        parts: list[Ints] = []
        total, found = 0, 0
        block = 65_536
        while (found < count) if count is not None else (total < _given(end)):
            gaps = np.rint(rng.standard_exponential(block) * (NS / highest)).astype(np.int64)
            times = total + np.cumsum(gaps)
            total = int(times[-1])
            parts.append(times[keep.random_sample(block) * highest < self.rate(times / NS)])
            found += len(parts[-1])
        times = np.concatenate(parts)
        times = times[:count] if end is None else times[: np.searchsorted(times, end)]
        return Arrivals(_seconds(times))


@register.arrival_process("closed-loop")
@dataclass(frozen=True, slots=True)
class ClosedLoop:
    """``concurrency`` users who each wait for their answer, think, and ask again.

    ``think_time`` is in seconds, or a distribution. The first request of each user is sent at time zero.
    """

    concurrency: int
    think_time: float | ExponentialThink | LognormalThink | UniformThink = 0.0

    def sample(self, streams: Streams, count: int | None, duration_s: float | None) -> Arrivals:
        """See ``ArrivalProcess``; refuses ``duration_s``."""
        count = _needs_count("closed-loop", count)
        think = think_seconds(self.think_time, streams(names.THINK_TIMES), count)
        think_s = np.rint(think * NS).astype(np.int64) / NS
        think_s[: self.concurrency] = 0.0
        return Arrivals(np.zeros(count), self.concurrency, think_s)


def think_seconds(
    think: float | ExponentialThink | LognormalThink | UniformThink, rng: np.random.RandomState, n: int
) -> Floats:
    """``n`` pauses in seconds."""
    match think:
        case ExponentialThink():
            return rng.standard_exponential(n) * think.mean
        case LognormalThink():
            variance = math.log1p(think.cv**2)
            return rng.lognormal(math.log(think.mean) - variance / 2, math.sqrt(variance), n)
        case UniformThink():
            return think.min + rng.random_sample(n) * (think.max - think.min)
        case _:
            return np.full(n, float(think))


@register.arrival_process("all-at-once")
@dataclass(frozen=True, slots=True)
class AllAtOnce:
    """Every request at time zero."""

    def sample(self, streams: Streams, count: int | None, duration_s: float | None) -> Arrivals:
        """See ``ArrivalProcess``; refuses ``duration_s``."""
        return Arrivals(np.zeros(_needs_count("all-at-once", count)))


def _needs_count(process: str, count: int | None) -> int:
    if count is None:
        raise InputError(
            f"'{process}' has no clock of its own, so a duration does not say how many requests there are",
            where="workload",
            hint="give num_requests",
        )
    return count
