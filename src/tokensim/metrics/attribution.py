"""Where the time went: the operators of all steps, summed by operator, by kind and by bound."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tokensim.cost.base import Drafting, OperatorTime, StepColumns, StepCost, Together
from tokensim.metrics.log import StepRows


@dataclass(frozen=True, slots=True)
class OperatorShare:
    """One operator over the whole run; ``share`` is of the time of all steps, ``source`` how its time is
    known.
    """

    operator: str
    kind: str
    seconds: float
    share: float
    flops: float
    bytes: float
    source: str


@dataclass(frozen=True, slots=True)
class TimeShares:
    """``step_s`` seconds of steps, summed over instances, shared out; largest share first."""

    step_s: float
    by_kind: dict[str, float]
    by_bound: dict[str, float]
    operators: tuple[OperatorShare, ...]


def time_shares(steps: StepRows, costs: Sequence[StepCost]) -> TimeShares:
    """The time of all ``steps`` by operator; ``costs[i]`` priced the steps of instance i."""
    times: list[OperatorTime] = []
    priced: dict[int, tuple[StepCost, list[int]]] = {}  # replicas share a cost: ask it once
    for i, cost in enumerate(costs):
        priced.setdefault(id(cost), (cost, []))[1].append(i)
    for cost, instances in priced.values():
        own = np.flatnonzero(np.isin(steps.instance, instances))
        if len(own):
            times += cost.breakdown(select_rows(steps.what, own))
    total = sum(t.seconds for t in times)
    by_kind: dict[str, float] = {}
    by_bound: dict[str, float] = {}
    merged: dict[tuple[str, str, str], list[float]] = {}
    for t in times:
        by_kind[t.kind] = by_kind.get(t.kind, 0.0) + t.seconds
        for bound, seconds in t.bound_seconds.items():
            by_bound[bound] = by_bound.get(bound, 0.0) + seconds
        sums = merged.setdefault((t.operator, t.kind, t.source), [0.0, 0.0, 0.0])
        for k, amount in enumerate((t.seconds, t.flops, t.bytes)):
            sums[k] += amount
    operators = [
        OperatorShare(name, kind, seconds, seconds / total if total else 0.0, flops, moved, source)
        for (name, kind, source), (seconds, flops, moved) in merged.items()
    ]
    operators.sort(key=lambda o: (-o.seconds, o.operator, o.kind, o.source))
    return TimeShares(total, _shares(by_kind), _shares(by_bound), tuple(operators))


def select_rows(columns: StepColumns, rows: np.typing.NDArray[np.int64]) -> StepColumns:
    """The entries ``rows`` (ascending indices) of ``columns``, with their chunks."""
    position = np.full(len(columns.steps), -1, dtype=np.int64)
    position[rows] = np.arange(len(rows))
    chunk_row = position[columns.chunk_row]
    chunks = chunk_row >= 0
    together, drafting = columns.together, columns.drafting
    return StepColumns(
        steps=columns.steps[rows],
        decode=columns.decode[rows],
        context=columns.context[rows],
        window_context=columns.window_context[rows],
        window_growth=columns.window_growth[rows],
        longest=columns.longest[rows],
        clock_share=columns.clock_share[rows],
        seconds=columns.seconds[rows],
        samples=columns.samples[rows],
        chunk_row=chunk_row[chunks],
        chunk_tokens=columns.chunk_tokens[chunks],
        chunk_context=columns.chunk_context[chunks],
        together=None
        if together is None
        else Together(
            together.rows[rows],
            together.pooled_rows[rows],
            together.exchanged_rows[rows],
            together.wait_s[rows],
        ),
        encoder_s=None if columns.encoder_s is None else columns.encoder_s[rows],
        adapters=None if columns.adapters is None else columns.adapters[rows],
        copies_s=None if columns.copies_s is None else columns.copies_s[rows],
        drafting=None
        if drafting is None
        else Drafting(
            drafting.drafts[rows], drafting.first_s[rows], drafting.later_s[rows], drafting.search_s[rows]
        ),
    )


def _shares(seconds: dict[str, float]) -> dict[str, float]:
    total = sum(seconds.values())
    ranked = sorted(seconds.items(), key=lambda item: (-item[1], item[0]))
    return {name: value / total if total else 0.0 for name, value in ranked}
