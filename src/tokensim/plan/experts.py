"""How tokens spread over the experts of a model and its ranks, as ``performance.experts`` says."""

from __future__ import annotations

from pathlib import Path

from tokensim.errors import InputError
from tokensim.model import ModelSpec
from tokensim.model.routing import ExpertLoad, expert_load, zipf
from tokensim.model.spread import recorded_popularity, redundant_bytes
from tokensim.scenario import Scenario
from tokensim.scenario.performance import Performance


def busiest_load(performance: Performance, model: ModelSpec, ranks: int) -> ExpertLoad | None:
    """The load of the busiest of ``ranks``, where the scenario says how tokens spread over experts."""
    given, at = performance.experts, "performance.experts"
    if given is None:
        return None
    moe = model.moe
    if moe is None:
        raise InputError(f"{model.name} has no experts", where=at, hint="leave the section out")
    if given.eplb and ranks == 1:
        raise InputError(
            "EPLB places whole experts on ranks, but every rank has a slice of every expert",
            where=f"{at}.eplb",
            hint="set cluster.pools[].parallel.expert, or leave eplb out",
        )
    if (moe.experts + given.num_redundant_experts) % ranks and given.eplb:
        spare = -moe.experts % ranks
        raise InputError(
            f"{moe.experts} experts and {given.num_redundant_experts} copies do not divide over"
            f" {ranks} ranks",
            where=f"{at}.num_redundant_experts",
            hint=f"{spare}, {spare + ranks}, … copies divide",
        )
    if given.balance == "recorded":
        assert given.file is not None
        popularity = recorded_popularity(Path(given.file), moe, f"{at}.file")
    else:
        popularity = zipf(moe.experts, given.exponent or 0.0, moe.layers)
    return expert_load(popularity, moe.top_k, ranks, eplb=given.eplb, redundant=given.num_redundant_experts)


def copies_bytes(scenario: Scenario, model: ModelSpec, ranks: int) -> float:
    """Weights of the redundant experts of one rank."""
    given = scenario.performance.experts
    copies = 0 if given is None else given.num_redundant_experts
    return redundant_bytes(model, scenario.weights, ranks, copies) if copies else 0.0
