"""The load of a scenario: which of its keys says how much is asked of the system, and how to change it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from tokensim.errors import InputError, nearest
from tokensim.scenario import Scenario
from tokensim.scenario.arrivals import AllAtOnce, ClosedLoopArrivals

Kind = Literal["rate", "rate-scale", "concurrency"]
KINDS = ("rate", "rate-scale", "concurrency")
WHERE = "--load"


@dataclass(frozen=True, slots=True)
class Load:
    """What is varied: of ``kind``, ``given`` by the scenario, at most ``most``; ``unit`` for people."""

    kind: Kind
    unit: str
    given: float
    most: float = math.inf

    @property
    def whole(self) -> bool:
        """Whether only whole numbers are loads."""
        return self.kind == "concurrency"

    def at(self, tree: Mapping[str, Any], value: float) -> dict[str, Any]:
        """The scenario ``tree``, as it was dumped, at load ``value``."""
        workload = dict(tree["workload"])
        arrivals = dict(workload.get("arrivals") or {})
        if self.kind == "rate":
            workload["arrivals"] = {**arrivals, "rate": value}
        elif self.kind == "concurrency":
            if "concurrency" in arrivals:
                workload["arrivals"] = {**arrivals, "concurrency": round(value)}
            else:
                workload["max_in_flight"] = round(value)
        elif arrivals:
            workload["arrivals"] = _times(arrivals, value)
        else:
            trace = workload["trace"]
            workload["trace"] = {**trace, "rate_scale": value}
        return {**tree, "workload": workload}

    def text(self, value: float) -> str:
        """``value`` with its unit."""
        return f"{value:,.0f} {self.unit}" if self.whole else f"{value:,.4g} {self.unit}"


def all_at_once(tree: Mapping[str, Any]) -> dict[str, Any]:
    """The scenario ``tree`` with every request at time zero."""
    workload = {**tree["workload"], "arrivals": {"process": "all-at-once"}}
    if workload.get("trace"):
        workload["trace"] = {**workload["trace"], "rate_scale": 1.0}
    return {**tree, "workload": workload}


def twice_as_long(tree: Mapping[str, Any]) -> dict[str, Any] | None:
    """The scenario ``tree`` with twice as many requests; None where these are a trace's, and end with it."""
    workload = dict(tree["workload"])
    sessions = workload.get("sessions")
    if workload.get("num_requests"):
        workload["num_requests"] *= 2
    elif workload.get("duration"):
        workload["duration"] *= 2
    elif sessions and sessions.get("count"):
        workload["sessions"] = {**sessions, "count": 2 * sessions["count"]}
    else:
        return None
    return {**tree, "workload": workload}


def load_of(scenario: Scenario, kind: str = "auto") -> Load:
    """The load of ``scenario`` of that ``kind``; ``auto``: concurrency where users wait for their answers,
    else the rate, of a trace (and of arrivals that have no single rate) a factor. Raises ``InputError``."""
    if kind not in ("auto", *KINDS):
        raise InputError(f"unknown load '{kind}'", where=WHERE, hint=nearest(kind, ("auto", *KINDS)))
    workload = scenario.workload
    arrivals = workload.arrivals
    waits = isinstance(arrivals, ClosedLoopArrivals | AllAtOnce)
    rate = getattr(arrivals, "rate", None)
    rate = float(rate) if isinstance(rate, int | float) else None
    if kind == "auto":
        kind = "concurrency" if waits else "rate" if rate is not None else "rate-scale"
    what = "sessions" if workload.sessions is not None else "requests"
    if kind == "concurrency":
        own = workload.max_in_flight
        if isinstance(arrivals, ClosedLoopArrivals):
            own = arrivals.concurrency
        if own is None:
            raise InputError(
                "nothing bounds how many requests are in flight",
                where=WHERE,
                hint="give workload.max_in_flight, or arrivals: {process: closed-loop, concurrency: 16}",
            )
        return Load("concurrency", f"{what} in flight", own, workload.num_requests or math.inf)
    process = getattr(arrivals, "process", "the trace")
    if waits:
        raise InputError(
            f"'{process}' has no rate", where=WHERE, hint="--load concurrency; or e.g. process: poisson"
        )
    if kind == "rate":
        if rate is None:
            raise InputError(f"{process} has no single rate", where=WHERE, hint="--load rate-scale")
        return Load("rate", f"{what}/s", rate)
    if arrivals is not None and not _scalable(arrivals.model_dump()):
        raise InputError(
            f"how '{process}' takes a higher rate is not known", where=WHERE, hint="give it a key 'rate'"
        )
    if arrivals is not None:
        return Load("rate-scale", "× the given rate", 1.0)
    assert workload.trace is not None
    return Load("rate-scale", "× the trace's rate", workload.trace.rate_scale)


_RATES = ("rate", "rate_on", "rate_off", "mean")
"""Keys of arrival processes that are rates (``scenario.arrivals``)."""


def _scalable(arrivals: Mapping[str, Any]) -> bool:
    return any(arrivals.get(key) is not None for key in (*_RATES, "points"))


def _times(arrivals: dict[str, Any], factor: float) -> dict[str, Any]:
    """``arrivals`` with every rate times ``factor``."""
    rates = {key: arrivals[key] * factor for key in _RATES if arrivals.get(key) is not None}
    if arrivals.get("points") is not None:
        rates["points"] = [[time, rate * factor] for time, rate in arrivals["points"]]
    return {**arrivals, **rates}
