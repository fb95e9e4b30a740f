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
from tokensim.explore.judging import Figures, bounds_of, doubts, limits_of, verdict_of, worst_of
from tokensim.explore.load import Load, all_at_once, load_of, twice_as_long
from tokensim.explore.question import Capacity, Question, SeedEdge, Tried
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
    return _search(_Searched(scenario, question, load_of(scenario, question.load)), tuple(start), check)


class _Searched:
    """One configuration: its scenario as a ``tree``, its load, what is asked, and the figures of its runs by
    seed and load (inf: every request at once)."""

    def __init__(self, scenario: Scenario, question: Question, load: Load) -> None:
        self.tree: Tree = scenario.model_dump(mode="json")
        self.question = question
        self.load = load
        most = min(load.most, question.maximum or math.inf, load.given * FARTHEST)
        self.terms = Terms(question.tolerance, load.whole, 1.0 if load.whole else 0.0, most)
        self.seeds = [scenario.seed + offset for offset in range(question.seeds)]
        self.seen: dict[int, dict[float, Figures]] = {seed: {} for seed in self.seeds}
        self.tried: list[Tried] = []
        trace = scenario.workload.trace
        self.paused = scenario.workload.sessions is not None or (trace is not None and trace.sessions)
        """Whether users pause, so that all at once is no measure of how fast requests are served."""

    @property
    def runs(self) -> int:
        """How many were made."""
        return sum(map(len, self.seen.values()))

    def take(self, seed: int, value: float, outcome: Outcome) -> Verdict:
        """Note what became of a run, and judge it; raises ``_Failed``."""
        if outcome.status != "ok":
            raise _Failed(outcome)
        self.seen[seed][value] = outcome.figures
        return self.judge(seed, value, outcome.figures)

    def judge(self, seed: int, value: float, figures: Figures, times: int = 1) -> Verdict:
        """What a run says, which is noted; ``times``: of as many times the requests."""
        verdict = verdict_of(figures, self.question.goodput)
        ratios = {bound.name: bound.ratio for bound in bounds_of(figures, self.question.goodput)}
        self.tried.append(Tried(seed, value, verdict.met, ratios, figures, times))
        return verdict

    def edge(
        self, seed: int, start: Sequence[float], known: Mapping[float, Verdict]
    ) -> Search[Tree, Outcome, Edge]:
        """The edge that ``seed`` finds."""
        growth = GROWTH if known else 1 + NEARBY * self.terms.tolerance
        search = find_edge(start, self.terms, known, growth)
        try:
            loads = next(search)
            while True:
                outcomes = yield [{**self.load.at(self.tree, value), "seed": seed} for value in loads]
                told = zip(loads, outcomes, strict=True)
                loads = search.send([self.take(seed, value, outcome) for value, outcome in told])
        except StopIteration as end:
            edge: Edge = end.value
            return edge

    def found(self, seed: int, edge: Edge) -> SeedEdge:
        """``edge`` with the figures of its two sides."""
        own = self.seen[seed]
        low, high = ({} if side is None else own[side] for side in (edge.low, edge.high))
        return SeedEdge(seed, edge.low, edge.high, low, high)


def _search(what: _Searched, start: tuple[float, ...], check: bool) -> Search[Tree, Outcome, Capacity]:
    """See ``search_capacity``."""
    first, *others = what.seeds
    try:
        if start:
            edge = yield from what.edge(first, start, {})
        else:
            edge = yield from _from_scratch(what)
        edges = [edge]
        if edge.low is not None and edge.high is not None:
            both = (edge.low, edge.high)
            edges += yield from together([what.edge(seed, both, {}) for seed in others])
    except _Failed as failed:
        outcome = failed.outcome
        return Capacity(
            outcome.status, what.load, error=outcome.error, runs=what.runs, tried=tuple(what.tried)
        )
    found = tuple(what.found(seed, edge) for seed, edge in zip(what.seeds, edges, strict=False))
    flood = {} if what.paused else what.seen[first].get(math.inf, {})
    result = Capacity(
        "found",
        what.load,
        confidence=what.question.confidence,
        edges=found,
        saturated_per_s=_positive(flood.get("throughput.requests_per_s")),
        runs=what.runs,
    )
    result = _concluded(result, what.question)
    if check:
        result = yield from _checked(result, what)
    return replace(result, tried=tuple(what.tried))


def _from_scratch(what: _Searched) -> Search[Tree, Outcome, Edge]:
    """The edge that the first seed finds when nothing is known: after a run at the given load and one of all
    requests at once. If even that keeps the SLO, the edge is (inf, None)."""
    load, seed = what.load, what.seeds[0]
    given = what.terms.fit(load.given)
    trees = [load.at(what.tree, given)]
    if not load.whole:
        trees.append(all_at_once(what.tree))
    outcomes = yield trees
    known = {given: what.take(seed, given, outcomes[0])}
    start = given
    if not load.whole and outcomes[1].status == "ok":
        flood = what.take(seed, math.inf, outcomes[1])
        if flood.met and what.question.maximum is None:
            return Edge(math.inf, None)
        if not what.paused:
            start = _guess(what.seen[seed][math.inf], given, what.seen[seed][given])
    return (yield from what.edge(seed, (start,), known))


def _checked(result: Capacity, what: _Searched) -> Search[Tree, Outcome, Capacity]:
    """``result`` with a note if a run twice as long does not bear a load that is surely below it: then
    queues were still growing when the runs ended."""
    longer = twice_as_long(what.tree)
    if longer is None or not result.value:
        return result
    least = result.value if result.interval is None else result.interval[0]
    value = what.terms.fit(max(min(least, BELOW * result.value), result.value / 2))
    (outcome,) = yield [what.load.at(longer, value)]
    result = replace(result, runs=result.runs + 1)
    if outcome.status != "ok" or what.judge(what.seeds[0], value, outcome.figures, times=2).met:
        return result
    worst = worst_of(outcome.figures, what.question.goodput)
    note = (
        f"with twice the requests, {what.load.text(value)} miss the SLO ({worst.text if worst else '-'}):"
        " the runs are too short to show what it bears for long"
    )
    return replace(result, lasts=False, notes=(*result.notes, note))


def _guess(flood: Figures, given: float, figures: Figures) -> float:
    """The load at which requests come nearly as fast as they are served when all wait (``flood``); at load
    ``given`` they came as ``figures`` say."""
    served = _positive(flood.get("throughput.requests_per_s"))
    arrivals = _positive(figures.get("throughput.arrivals_per_s"))
    if served is None or arrivals is None:
        return given
    return CAUTION * served / arrivals * given


def _positive(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and value > 0 else None


def _concluded(result: Capacity, question: Question) -> Capacity:
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
        if first.low == math.inf:
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
        if all(edge.figures == result.edges[0].figures for edge in result.edges):
            notes.append("all seeds made the same run: nothing in this workload is random")
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
