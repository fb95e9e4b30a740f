"""``sensitivity``: what a somewhat better device would give, and so what binds now.

Each ability of the devices (``scale`` of a pool) is made better by ``change``, one at a time, with the same
seeds. An elasticity is d ln(figure) / d ln(ability): 1 for a throughput that is bound by the ability alone,
-1 for a latency, 0 where it does not matter. It is a finite difference, ln(after / before) / ln(1 + change),
per seed; the interval is Student's over seeds. At a given open load throughput follows the arrivals, so that
latencies tell; ``at`` capacity the load itself is what responds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any, Literal

from tokensim.errors import InputError, nearest
from tokensim.explore.capacity import search_capacity
from tokensim.explore.executors import Executor, make_executor
from tokensim.explore.judging import Figures
from tokensim.explore.load import load_of
from tokensim.explore.question import Capacity, Question
from tokensim.explore.runs import Progress, Runs
from tokensim.explore.search import Search, together
from tokensim.explore.statistics import half_width
from tokensim.explore.task import Outcome
from tokensim.scenario import Scenario
from tokensim.scenario.loading import from_mapping

ABILITIES = {
    "compute": "compute rate",
    "bandwidth": "memory bandwidth",
    "memory": "memory size",
    "intra_node": "links in a node",
    "inter_node": "links between nodes",
    "host_link": "link to the host",
    "host": "host speed",
}
"""Keys of ``scale``, and what they are called here."""

FIGURES = (
    ("throughput.output_tokens_per_s", "output tokens/s", 1),
    ("latency.ttft_s.p50", "TTFT p50", -1),
    ("latency.ttft_s.p99", "TTFT p99", -1),
    ("latency.tpot_s.p50", "TPOT p50", -1),
    ("latency.e2e_s.p50", "E2E p50", -1),
)
"""Name, title, and the sign of what is better."""

CAPACITY = ("capacity", "capacity", 1)

FINENESS = 20
"""A search of a changed capacity comes so many times closer than the change itself."""

NEGLIGIBLE = 0.01
"""An elasticity up to this matters to nobody, however sure it is."""

RESPONDS = 0.2
"""An elasticity of throughput from which on the devices, and not the arrivals, set it."""

Where = Literal["given", "capacity"]
Tree = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Elasticity:
    """Of one figure to one ability: the mean over seeds, half its interval (None: one seed), and by how much
    the figure changes, relatively, for the whole ``change``."""

    value: float
    half_width: float | None
    effect: float


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """``table[ability][figure title]``: an elasticity (None: the figure is absent or 0). ``baseline``: means
    of the figures. ``main``: the figure that the bottleneck is told by; ``sentence``: what it is. ``load``:
    at which load, in words. ``without_effect``: abilities that changed nothing at all."""

    change: float
    confidence: float
    seeds: tuple[int, ...]
    load: str
    baseline: Mapping[str, float | None]
    table: Mapping[str, Mapping[str, Elasticity | None]]
    without_effect: tuple[str, ...]
    main: str
    sentence: str
    notes: tuple[str, ...] = ()
    runs: int = 0

    def to_dict(self) -> dict[str, Any]:
        """The same as plain data, ready for JSON."""
        return {
            "change": self.change,
            "confidence": self.confidence,
            "seeds": list(self.seeds),
            "load": self.load,
            "baseline": dict(self.baseline),
            "elasticities": {
                ability: {
                    title: None
                    if one is None
                    else {"value": one.value, "half_width": one.half_width, "effect": one.effect}
                    for title, one in row.items()
                }
                for ability, row in self.table.items()
            },
            "without_effect": list(self.without_effect),
            "main": self.main,
            "bottleneck": self.sentence,
            "notes": list(self.notes),
            "runs": self.runs,
        }


def sensitivity(
    scenario: Scenario,
    *,
    change: float = 0.1,
    seeds: int = 5,
    confidence: float = 0.95,
    at: Where = "given",
    pool: str | None = None,
    load: str = "auto",
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> Sensitivity:
    """What ``scenario`` gains from devices of which each ability in turn is better by ``change`` (0.1: 10 %).

    ``at`` the load that the scenario gives, or at its ``capacity`` (it needs an SLO then; ``load``: see
    ``explore.load``). ``pool``: in that pool alone. Raises ``InputError``.
    """
    if not 0.001 <= abs(change) <= 1 or change == -1:
        raise InputError(f"{change:g}", where="--change", hint="0.1 % to 100 %, e.g. 10%")
    if seeds < 1:
        raise InputError(f"{seeds}", where="--seeds", hint="at least 1")
    if not 0 < confidence < 1:
        raise InputError(f"{confidence:g}", where="--confidence", hint="between 0 and 100 %, e.g. 95%")
    names = [one.name for one in scenario.cluster.pools]
    if pool is not None and pool not in names:
        raise InputError(f"no pool '{pool}'", where="--pool", hint=nearest(pool, names))
    if at not in ("given", "capacity"):
        raise InputError(f"'{at}' is no load", where="--at", hint="given or capacity")
    runs = Runs(executor or make_executor(), None, progress)
    asked = _Asked(scenario, change, seeds, confidence, pool)
    if at == "given":
        return replace(runs.drive(_at_given(asked)), runs=runs.made)
    return replace(runs.drive(_at_capacity(asked, load)), runs=runs.made)


@dataclass(frozen=True, slots=True)
class _Asked:
    """What is asked, and the scenarios that it takes."""

    scenario: Scenario
    change: float
    seeds: int
    confidence: float
    pool: str | None

    @property
    def own_seeds(self) -> tuple[int, ...]:
        return tuple(self.scenario.seed + offset for offset in range(self.seeds))

    def tree(self, ability: str | None = None) -> dict[str, Any]:
        """The scenario with a better ``ability``."""
        data = self.scenario.model_dump(mode="json")
        for one in data["cluster"]["pools"]:
            if ability is not None and self.pool in (None, one["name"]):
                one["scale"] = {**one["scale"], ability: one["scale"][ability] * (1 + self.change)}
        return data

    def notes(self) -> tuple[str, ...]:
        """What hides an effect."""
        chosen = [one for one in self.scenario.cluster.pools if self.pool in (None, one.name)]
        fixed = [one.name for one in chosen if self.scenario.pool_engine(one).num_gpu_blocks is not None]
        if not fixed:
            return ()
        return (f"num_gpu_blocks is given ({', '.join(fixed)}): memory size cannot change the KV pool",)


def _at_given(asked: _Asked) -> Search[Tree, Outcome, Sensitivity]:
    """At the load of the scenario."""
    seeds = asked.own_seeds
    plain = asked.tree()
    first = yield [
        *({**plain, "seed": seed} for seed in seeds),
        *({**asked.tree(ability), "seed": seeds[0]} for ability in ABILITIES),
    ]
    base = [_figures(outcome) for outcome in first[: len(seeds)]]
    probes = dict(zip(ABILITIES, map(_figures, first[len(seeds) :]), strict=True))
    idle = tuple(ability for ability, figures in probes.items() if _same(figures, base[0]))
    moved = [ability for ability in ABILITIES if ability not in idle]
    later = yield [{**asked.tree(ability), "seed": seed} for ability in moved for seed in seeds[1:]]
    rest = iter(later)
    changed = {ability: [probes[ability], *(_figures(next(rest)) for _ in seeds[1:])] for ability in moved}
    table = {
        ability: {
            title: _elasticity(
                [run.get(name) for run in base], [run.get(name) for run in changed[ability]], asked
            )
            for name, title, _ in FIGURES
        }
        for ability in moved
    }
    baseline = {title: _mean([run.get(name) for run in base]) for name, title, _ in FIGURES}
    rate = baseline["output tokens/s"]
    load = "the given load" + ("" if rate is None else f" ({rate:,.0f} output tokens/s)")
    throughput = [row["output tokens/s"] for row in table.values()]
    bound = any(one is not None and abs(one.value) >= RESPONDS for one in throughput)
    main = FIGURES[0] if bound else FIGURES[-1]
    return _told(asked, load, baseline, table, idle, main)


def _at_capacity(asked: _Asked, kind: str) -> Search[Tree, Outcome, Sensitivity]:
    """At the capacity: what a better ability adds to it."""
    load = load_of(asked.scenario, kind)
    question = Question(kind, asked.seeds, max(1e-4, abs(asked.change) / FINENESS), asked.confidence)
    base = yield from search_capacity(asked.scenario, question)
    if base.value is None:
        raise InputError(
            f"there is no capacity to start from: {base.status}. {base.binding or ' '.join(base.notes)}",
            where="--at capacity",
            hint="`tokensim capacity` says more",
        )
    edge = base.edges[0]
    assert edge.low is not None and edge.high is not None
    probes = yield [load.at(asked.tree(ability), edge.low) for ability in ABILITIES]
    idle = tuple(
        ability
        for ability, outcome in zip(ABILITIES, probes, strict=True)
        if _same(_figures(outcome), edge.figures)
    )
    moved = [ability for ability in ABILITIES if ability not in idle]
    start = (edge.low, edge.high)
    found = yield from together(
        [
            search_capacity(from_mapping(asked.tree(ability)), question, start, check=False)
            for ability in moved
        ]
    )
    table = {
        ability: {CAPACITY[1]: _elasticity(_middles(base), _middles(one), asked)}
        for ability, one in zip(moved, found, strict=True)
    }
    notes = f"edges are known within {question.tolerance:.2%}, elasticities within about {1 / FINENESS:g}"
    at = f"{load.text(base.value)}, where the SLO ends"
    told = _told(asked, at, {CAPACITY[1]: base.value}, table, idle, CAPACITY)
    return replace(told, notes=(*told.notes, notes, *base.notes))


def _middles(found: Capacity) -> list[float | None]:
    """Of each seed, the middle of its edge."""
    return [math.sqrt(edge.low * edge.high) if edge.low and edge.high else None for edge in found.edges]


def _figures(outcome: Outcome) -> Figures:
    """Of a run that must have gone well."""
    if outcome.status != "ok":
        raise InputError(f"{outcome.status}: {outcome.error}", where="scenario")
    return outcome.figures


def _same(one: Figures, other: Figures) -> bool:
    return all(one.get(name) == other.get(name) for name, _, _ in FIGURES)


def _mean(values: Sequence[Any]) -> float | None:
    return fmean(values) if all(isinstance(value, int | float) for value in values) else None


def _elasticity(before: Sequence[Any], after: Sequence[Any], asked: _Asked) -> Elasticity | None:
    """Of one figure, from its values by seed."""
    values = [*before, *after]
    if len(before) != len(after) or not all(isinstance(v, int | float) and v > 0 for v in values):
        return None
    step = math.log1p(asked.change)
    each = [math.log(b / a) / step for a, b in zip(before, after, strict=True)]
    mean = fmean(each)
    return Elasticity(mean, half_width(each, asked.confidence), math.expm1(mean * step))


def _told(
    asked: _Asked,
    load: str,
    baseline: Mapping[str, float | None],
    table: Mapping[str, Mapping[str, Elasticity | None]],
    idle: tuple[str, ...],
    main: tuple[str, str, int],
) -> Sensitivity:
    """The account, its rows ordered by what they do to the ``main`` figure, and the bottleneck."""
    _, title, sign = main

    def gain(ability: str) -> float:
        one = table[ability].get(title)
        return 0.0 if one is None else sign * one.value

    order = sorted(table, key=lambda ability: -abs(gain(ability)))
    sentence = f"Nothing here changes {title} beyond noise: the devices are not what binds it."
    real = [ability for ability in order if gain(ability) > 0 and _beyond_noise(table[ability][title])]
    if real:
        said = [f"{ABILITIES[name]} ({_effect(table[name][title])})" for name in real[:3]]
        sentence = f"At {load}, {title} is bound by {said[0]}"
        sentence += f", then by {' and '.join(said[1:])}." if said[1:] else "."
    return Sensitivity(
        change=asked.change,
        confidence=asked.confidence,
        seeds=asked.own_seeds,
        load=load,
        baseline=baseline,
        table={ability: table[ability] for ability in order},
        without_effect=idle,
        main=title,
        sentence=sentence,
        notes=asked.notes(),
    )


def _beyond_noise(one: Elasticity | None) -> bool:
    return one is not None and abs(one.value) > max(NEGLIGIBLE, one.half_width or 0.0)


def _effect(one: Elasticity | None) -> str:
    return "" if one is None else f"{one.effect:+.1%}"
