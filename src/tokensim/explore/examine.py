"""What can be told of a configuration before it is run: whether its plan can be at all, and what it cannot be
better than. And after a short run: whether the whole could still keep its SLO.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tokensim.errors import InputError
from tokensim.explore.bounds import FREE, NOTHING, Interval, Outlook, outlook, waits
from tokensim.explore.goals import Figures, Goal, Kept, Requirement, SloKept, number
from tokensim.explore.task import Task
from tokensim.scenario import Scenario
from tokensim.scenario.loading import from_mapping
from tokensim.workload import Workload, build_workload

SHORT = 8
"""A short run has one request for so many of the whole."""

SHORTEST = 100
"""Requests of a short run, at least: fewer say little."""

FAR_OVER = 2.0
"""A short run must have so many times the late requests that the whole may have."""


@dataclass(frozen=True, slots=True)
class Prospect:
    """What is known of a configuration: ``error``, why it cannot be (None: it can); the bounds on a run of
    each seed; the ``short`` run, as a task, and how many late requests in it are too many (None: no such run
    says anything)."""

    error: str | None
    outlooks: tuple[Outlook, ...] = ()
    short: Task | None = None
    too_late: float = 0.0

    def interval(self, figure: str) -> Interval:
        """The bounds on the mean of ``figure`` over the seeds."""
        if not self.outlooks:
            return FREE
        lows, highs = zip(*(known.of(figure) for known in self.outlooks), strict=True)
        return sum(lows) / len(lows), sum(highs) / len(highs)

    def least_loss(self, goal: Goal) -> float:
        """What ``goal`` loses at least."""
        low, high = self.interval(goal.figure)
        return low if goal.sign > 0 else -high

    def misses(self, kept: Sequence[Kept]) -> str | None:
        """Which of the requirements a run of some seed must miss; None: none is known to be."""
        for known in self.outlooks:
            for each in kept:
                if isinstance(each, Requirement):
                    low, high = known.of(each.figure)
                    if low > each.high or high < each.low:
                        return each.figure
                elif known.late is not None:
                    return known.late
        return None


def examine(tasks: Sequence[Task], kept: Sequence[Kept]) -> Prospect:
    """What is known of the runs ``tasks`` of one configuration, one for each seed."""
    from tokensim.model import load_model
    from tokensim.plan import plan_pool

    try:
        scenarios = [from_mapping(task.data) for task in tasks]
        first = scenarios[0]
        model = load_model(first.model, "model")
        plans = [plan_pool(first, index, model) for index in range(len(first.cluster.pools))]
        workloads = [build_workload(scenario.workload, scenario.seed) for scenario in scenarios]
    except InputError as error:
        return Prospect(" ".join(str(error).split()))
    except Exception:  # a plug-in that fails: the run says so
        return Prospect(None, (NOTHING,) * len(tasks))
    known = tuple(
        outlook(scenario, plans, workload) for scenario, workload in zip(scenarios, workloads, strict=True)
    )
    short = _short(tasks[0], first, workloads[0]) if any(isinstance(each, SloKept) for each in kept) else None
    room = (1 - first.slo.percentile / 100) * len(workloads[0])
    return Prospect(None, known, short, FAR_OVER * room)


def _short(task: Task, scenario: Scenario, whole: Workload) -> Task | None:
    """The first requests of ``task`` alone. What comes later cannot make them faster, so that those which are
    late in it are late in the whole; None where it is too short to show anything, or no part of the whole."""
    requests = len(whole) // SHORT
    room = (1 - scenario.slo.percentile / 100) * len(whole)
    if scenario.workload.num_requests is None or requests < max(SHORTEST, 2 * FAR_OVER * room):
        return None
    if waits(whole):
        return None
    workload: dict[str, Any] = {**task.data["workload"], "num_requests": requests}
    short = Task(task.key, {**task.data, "workload": workload})
    part = build_workload(from_mapping(short.data).workload, scenario.seed)
    same = all(
        np.array_equal(getattr(part, name), getattr(whole, name)[:requests])
        for name in ("arrival_s", "input_tokens", "output_tokens")
    )
    return short if same else None


def short_is_late(figures: Figures, prospect: Prospect) -> str | None:
    """The bound that the short run with these ``figures`` misses for the whole; None: there may be hope."""
    judged = number(figures.get("slo.judged_requests"))
    for metric in ("ttft", "tpot", "e2e"):
        share = number(figures.get(f"slo.bounds.{metric}.share"))
        if share is not None and judged is not None and (1 - share) * judged > prospect.too_late:
            return f"slo.{metric}"
    return None
