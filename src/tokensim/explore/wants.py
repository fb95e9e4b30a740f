"""What a study wants, and which points of its table give it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tokensim.errors import InputError
from tokensim.explore.goals import Goal, Kept, dominated, read_goals, read_requirements
from tokensim.explore.study import Study


def wants_of(study: Study) -> tuple[tuple[Goal, ...], tuple[Kept, ...]]:
    """The goals of ``study``, and what every answer keeps to; raises ``InputError``."""
    file = study.file
    if not file.goals:
        raise InputError("no goals", where="study: goals", hint="e.g. goals: [{minimize: cost}]")
    slo = study.base.data.get("slo")
    bounded = isinstance(slo, dict) and any(slo.get(n) is not None for n in ("ttft", "tpot", "e2e", "itl"))
    return (
        read_goals(file.goals, "study: goals"),
        read_requirements(file.subject_to, bounded, "study: subject_to"),
    )


def best_points(study: Study, rows: Iterable[Mapping[str, Any]]) -> list[int]:
    """The first points of those configurations in the table of a sweep (``rows``) that are best by the goals:
    one, or the front. Of several seeds, goals count by their mean, and all must keep what is required."""
    goals, kept = wants_of(study)
    names = [parameter.name for parameter in study.parameters]
    runs: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        runs.setdefault(tuple(row[name] for name in names), []).append(row)
    losses = {
        int(own[0]["point"]): tuple(sum(goal.loss(row) for row in own) / len(own) for goal in goals)
        for own in runs.values()
        if all(row["status"] == "ok" and all(each.miss(row) <= 0 for each in kept) for row in own)
    }
    front = [point for point in losses if dominated(losses[point], losses) is None]
    front.sort(key=lambda point: losses[point])
    return front[:1] if len(goals) == 1 else front
