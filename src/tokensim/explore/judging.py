"""What a run says of its SLO: met or not, by how much, by which bound; and whether it can say that at all."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tokensim.explore.search import Verdict
from tokensim.explore.task import Figure
from tokensim.report.numbers import duration, setting

Figures = Mapping[str, Figure]

METRICS = ("ttft", "tpot", "e2e", "itl")

IDLE = 0.05
"""Requests in flight on average (Little's law) at which requests hardly ever meet."""

BEYOND = 10
"""Requests that should lie beyond a percentile before it says something: their number has a relative
standard deviation of 1/√10, a third."""

TURNOVERS = 10
"""Times that the requests in flight should be replaced during a run: those that begin and end it, with a
system that fills and empties, are a tenth of it then."""


@dataclass(frozen=True, slots=True)
class Worst:
    """A bound of a run, of several the one nearest to being missed or missed by most: ``name`` for people,
    its figure over its limit (``ratio``, up to 1: kept), and both in words."""

    name: str
    ratio: float
    text: str


def worst_of(figures: Figures, goodput: float | None = None) -> Worst | None:
    """The worst bound of a run; None where no request has a figure. ``goodput``: the share (0 to 1) of
    requests that must meet all bounds is judged instead of each bound at its percentile. Requests that were
    not served are worse than any bound."""
    lost = _number(figures, "requests.total") - sum(
        _number(figures, f"requests.{name}") for name in ("finished", "truncated")
    )
    if lost > 0:
        return Worst(
            "lost requests", math.inf, f"{lost:,.0f} of {figures['requests.total']:,} requests not served"
        )
    return max(bounds_of(figures, goodput), key=lambda worst: worst.ratio, default=None)


def bounds_of(figures: Figures, goodput: float | None = None) -> list[Worst]:
    """Every bound by which a run is judged, how far it is from being missed; see ``worst_of``."""
    if goodput is not None:
        share = figures.get("slo.good_share")
        if not isinstance(share, int | float):
            return []
        ratio = (1 - share) / (1 - goodput) if goodput < 1 else math.inf if share < 1 else 0.0
        return [Worst("goodput", ratio, f"{share:.2%} of requests within all bounds, {goodput:.6g} wanted")]
    found = []
    for metric in METRICS:
        value, bound = (figures.get(f"slo.bounds.{metric}.{part}_s") for part in ("value", "bound"))
        if isinstance(value, int | float) and isinstance(bound, int | float):
            name = f"{metric.upper()} p{_number(figures, 'slo.percentile'):g}"
            ratio = value / bound if bound else math.inf if value else 0.0
            found.append(Worst(name, ratio, f"{name} {duration(value)}, bound {setting(bound)}"))
    return found


def verdict_of(figures: Figures, goodput: float | None = None) -> Verdict:
    """What a run says of its load: met if every request was served and every bound kept."""
    flight = _number(figures, "throughput.requests_per_s") * _number(figures, "latency.e2e_s.mean")
    worst = worst_of(figures, goodput)
    if worst is None:
        return Verdict(False, math.inf, flight <= IDLE)
    margin = math.log(worst.ratio) if 0 < worst.ratio < math.inf else math.copysign(math.inf, worst.ratio - 1)
    return Verdict(worst.ratio <= 1, margin, flight <= IDLE)


def doubts(figures: Figures, tolerance: float, goodput: float | None = None, *, open_loop: bool) -> list[str]:
    """Why a run is too short to say what it is asked, and how many requests would do.

    A percentile needs requests beyond it; the requests in flight must turn over; and with ``open_loop``
    arrivals, an overload by ``tolerance`` lets the wait grow by ``tolerance`` seconds a second, which must
    have had the time to reach the bounds on TTFT and E2E.
    """
    total = _number(figures, "requests.total")
    rate = _number(figures, "throughput.requests_per_s")
    share = _number(figures, "slo.percentile") / 100 if goodput is None else goodput
    found: list[tuple[float, str]] = []
    if share < 1:
        found.append((BEYOND / (1 - share), f"{BEYOND} lie beyond {100 * share:.6g} % of them"))
    flight = rate * _number(figures, "latency.e2e_s.mean")
    found.append((TURNOVERS * flight, f"those in flight ({flight:,.0f}) turn over {TURNOVERS} times"))
    bounds = [figures.get(f"slo.bounds.{metric}.bound_s") for metric in ("ttft", "e2e")]
    waits = [bound for bound in bounds if isinstance(bound, int | float)]
    if open_loop and waits:
        seconds = min(waits) / tolerance
        why = f"a queue that grows by {tolerance:.3g} s a second has the time to reach {duration(min(waits))}"
        found.append((rate * seconds, why))
    return [
        f"{total:,.0f} requests are too few: about {_round_up(wanted):,} are needed until {why}"
        for wanted, why in found
        if total < wanted * (1 - 1e-9)
    ]


def limits_of(figures: Figures) -> str:
    """What the time of a run went to, and how full the memory was, in one line."""
    bounds = {name.rsplit(".", 1)[-1]: value for name, value in figures.items() if "time.by_bound." in name}
    shares = sorted(
        ((value, name) for name, value in bounds.items() if isinstance(value, int | float)), reverse=True
    )
    parts = [f"{value:.0%} {name}" for value, name in shares if value >= 0.005]
    text = "time of steps: " + (", ".join(parts) or "none")
    kv = figures.get("usage.kv_max")
    if isinstance(kv, int | float):
        text += f"; KV blocks: {kv:.0%} in use at most"
    preemptions = _number(figures, "preemptions")
    if preemptions:
        text += f", {preemptions:,.0f} preemptions"
    return text + f"; batch: {_number(figures, 'usage.batch_max'):,.0f} at most"


def _number(figures: Figures, name: str) -> float:
    value: Any = figures.get(name)
    return float(value) if isinstance(value, int | float) else 0.0


def _round_up(value: float) -> int:
    """``value``, rounded up to two digits."""
    step = 10 ** max(0, math.floor(math.log10(value)) - 1) if value >= 1 else 1
    return math.ceil(value / step - 1e-9) * step
