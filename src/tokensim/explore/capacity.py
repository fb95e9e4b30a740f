"""``capacity``: the highest load that keeps the SLO, for one scenario or for every configuration of a study.

The first seed brackets the edge, from the rate that all requests at once are served at; the other seeds start
from its bracket. Each seed gives a load that it met and one, at most ``tolerance`` higher, that it missed.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

from tokensim.errors import InputError
from tokensim.explore.executors import Executor, make_executor
from tokensim.explore.judging import Figures, doubts, limits_of, verdict_of, worst_of
from tokensim.explore.load import Load, all_at_once, load_of, twice_as_long
from tokensim.explore.question import Capacity, Question, SeedEdge
from tokensim.explore.runs import Progress, Runs
from tokensim.explore.search import GROWTH, Edge, Search, Terms, Verdict, find_edge, together
from tokensim.explore.statistics import half_width
from tokensim.explore.store import Store
from tokensim.explore.task import Outcome
from tokensim.scenario import Scenario

CAUTION = 0.9
"""The first load, as a share of the rate at which all requests at once are served."""

BELOW = 0.95
"""Of the capacity, or less: what a run twice as long must bear too."""

NEARBY = 3
"""Tolerances that a load grows or shrinks by at first, where another seed has shown where the edge lies."""

FARTHEST = 1e6
"""No load beyond so many times the given one is tried."""

Tree = Mapping[str, Any]


class _Failed(Exception):
    """A run that a search needed did not go well."""

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome


def search_capacity(
    scenario: Scenario, question: Question, start: Sequence[float] = (), *, check: bool = True
) -> Search[Tree, Outcome, Capacity]:
    """Search for the capacity of ``scenario``; the first loads are those of ``start``, if there are any. In
    the end a longer run is made as a ``check`` on the length of the others. Raises ``InputError`` for a
    scenario without SLO or load."""
    slo = scenario.slo
    if all(getattr(slo, name) is None for name in ("ttft", "tpot", "e2e", "itl")):
        raise InputError(
            "there is no SLO, so every load would do", where="slo", hint="e.g. slo: {ttft: 500ms, tpot: 50ms}"
        )
    return _search(scenario, question, load_of(scenario, question.load), tuple(start), check)


def _search(
    scenario: Scenario, question: Question, load: Load, start: tuple[float, ...], check: bool
) -> Search[Tree, Outcome, Capacity]:
    tree = scenario.model_dump(mode="json")
    seen: dict[int, dict[float, Figures]] = {}
    saturated: float | None = None
    most = min(load.most, question.maximum or math.inf, load.given * FARTHEST)
    terms = Terms(question.tolerance, load.whole, 1.0 if load.whole else 0.0, most)
    seeds = [scenario.seed + offset for offset in range(question.seeds)]
    known: dict[float, Verdict] = {}
    bounded = True
    trace = scenario.workload.trace
    paused = scenario.workload.sessions is not None or (trace is not None and trace.sessions)
    try:
        if not start:
            given = terms.fit(load.given)
            first = [load.at(tree, given)]
            if not load.whole:
                first.append(all_at_once(tree))
            outcomes = yield first
            _keep(seen, seeds[0], given, outcomes[0])
            known[given] = verdict_of(seen[seeds[0]][given], question.goodput)
            start = (given,)
            if not load.whole and outcomes[1].status == "ok":
                flood = outcomes[1].figures
                bounded = not verdict_of(flood, question.goodput).met
                seen[seeds[0]][math.inf] = flood
                saturated = None if paused else _positive(flood.get("throughput.requests_per_s"))
                start = _guess(saturated, given, seen[seeds[0]][given])
        if not bounded and question.maximum is None:
            edge = Edge(math.inf, None)
        else:
            edge = yield from _of_seed(tree, load, seeds[0], question, terms, seen, start, known)
        edges = [edge]
        if edge.low is not None and edge.high is not None:
            both = (edge.low, edge.high)
            edges += yield from together(
                [_of_seed(tree, load, seed, question, terms, seen, both, {}) for seed in seeds[1:]]
            )
    except _Failed as failed:
        runs = sum(map(len, seen.values()))
        return Capacity(failed.outcome.status, load, error=failed.outcome.error, runs=runs)
    found = tuple(
        SeedEdge(
            seed,
            edge.low,
            edge.high,
            seen[seed].get(-1.0 if edge.low is None else edge.low, {}),
            seen[seed].get(-1.0 if edge.high is None else edge.high, {}),
        )
        for seed, edge in zip(seeds, edges, strict=False)
    )
    runs = sum(map(len, seen.values()))
    result = Capacity("found", load, None, None, question.confidence, found, runs=runs)
    result = _concluded(replace(result, saturated_per_s=saturated), question, bounded)
    return (yield from _checked(result, tree, question, terms)) if check else result


def _checked(
    result: Capacity, tree: Tree, question: Question, terms: Terms
) -> Search[Tree, Outcome, Capacity]:
    """``result`` with a note if a run twice as long does not bear a load that is surely below it: then
    queues were still growing when the runs ended."""
    longer = twice_as_long(tree)
    load = result.load
    if longer is None or not result.value or load is None:
        return result
    least = result.value if result.interval is None else result.interval[0]
    value = terms.fit(max(min(least, BELOW * result.value), result.value / 2))
    (outcome,) = yield [load.at(longer, value)]
    result = replace(result, runs=result.runs + 1)
    if outcome.status != "ok" or verdict_of(outcome.figures, question.goodput).met:
        return result
    worst = worst_of(outcome.figures, question.goodput)
    note = (
        f"with twice the requests, {load.text(value)} miss the SLO ({worst.text if worst else '-'}):"
        " the runs are too short to show what it bears for long"
    )
    return replace(result, notes=(*result.notes, note))


def _of_seed(
    tree: Tree,
    load: Load,
    seed: int,
    question: Question,
    terms: Terms,
    seen: dict[int, dict[float, Figures]],
    start: Sequence[float],
    known: Mapping[float, Verdict],
) -> Search[Tree, Outcome, Edge]:
    """The edge that ``seed`` finds; the figures of its runs go into ``seen``."""
    growth = GROWTH if known else 1 + NEARBY * terms.tolerance
    search = find_edge(start, terms, known, growth)
    try:
        loads = next(search)
        while True:
            outcomes = yield [{**load.at(tree, value), "seed": seed} for value in loads]
            for value, outcome in zip(loads, outcomes, strict=True):
                _keep(seen, seed, value, outcome)
            loads = search.send([verdict_of(seen[seed][value], question.goodput) for value in loads])
    except StopIteration as end:
        edge: Edge = end.value
        return edge


def _keep(seen: dict[int, dict[float, Figures]], seed: int, value: float, outcome: Outcome) -> None:
    if outcome.status != "ok":
        raise _Failed(outcome)
    seen.setdefault(seed, {})[value] = outcome.figures


def _guess(saturated: float | None, given: float, figures: Figures) -> tuple[float, ...]:
    """The load at which requests come about as fast as they are served when all wait."""
    arrivals = _positive(figures.get("throughput.arrivals_per_s"))
    if saturated is None or arrivals is None:
        return (given,)
    return (CAUTION * saturated / arrivals * given,)


def _positive(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and value > 0 else None


def _concluded(result: Capacity, question: Question, bounded: bool) -> Capacity:
    """``result`` with what follows from the edges of its seeds."""
    first, load = result.edges[0], result.load
    assert load is not None
    if first.low is None:
        worst = worst_of(first.beyond, question.goodput)
        if worst is None:
            return replace(result, status="none")
        return replace(result, status="none", bound=worst.name, binding=worst.text)
    if first.high is None:
        note = f"the SLO is kept up to {load.text(first.low)}, the most that was asked for"
        if not bounded:
            note = "the SLO is kept even with every request at once: give the workload more requests"
        elif load.whole and first.low >= load.most:
            note = "the SLO is kept with every request in flight at once: give the workload more requests"
        return replace(result, status="unbounded", value=None, notes=(note,), limits=limits_of(first.figures))
    notes = doubts(first.figures, question.tolerance, question.goodput, open_loop=not load.whole)
    lows, highs = ([getattr(edge, side) or 0.0 for edge in result.edges] for side in ("low", "high"))
    if not all(highs):  # a seed that met every load up to the limit
        highs = [high or low for low, high in zip(lows, highs, strict=True)]
        notes.append("some seeds keep the SLO up to the most that was asked for")
    if not all(lows):
        notes.append("some seeds keep the SLO at no load at all, and count as 0")
    width, upper = half_width(lows, question.confidence), half_width(highs, question.confidence)
    interval = None
    if width is not None and upper is not None:
        interval = (max(0.0, fmean(lows) - width), fmean(highs) + upper)
        if width == upper == 0:
            notes.append("all seeds found the same edge: nothing, or little, in this workload is random")
    missed = [worst_of(edge.beyond, question.goodput) for edge in result.edges]
    names = Counter(one.name for one in missed if one is not None)
    binding = missed[0].text if missed[0] is not None else ""
    bound = names.most_common(1)[0][0] if names else ""
    if len(names) > 1:
        binding += " (of the seeds: " + ", ".join(f"{name} {n}" for name, n in names.most_common()) + ")"
    return replace(
        result,
        value=fmean(lows),
        interval=interval,
        bound=bound,
        binding=binding,
        limits=limits_of(first.figures),
        notes=tuple(notes),
    )


def capacity(
    scenario: Scenario,
    question: Question | None = None,
    *,
    executor: Executor | None = None,
    store: Store | None = None,
    progress: Progress | None = None,
) -> Capacity:
    """The highest load that keeps the SLO of ``scenario``.

    Runs are made by ``executor`` (None: processes of this machine) and kept in ``store``, if there is one.
    Raises ``InputError`` for a scenario without SLO or load, or that is refused.
    """
    runs = Runs(executor or make_executor(), store, progress)
    found = runs.drive(search_capacity(scenario, question or Question()))
    if found.status == "refused":
        raise InputError(found.error or "refused", where="scenario")
    return found
