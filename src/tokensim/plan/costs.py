"""What the steps of a pool cost: of each pipeline stage, of drafts, of the vision tower."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tokensim.cost import CompiledStepCost, Host, OperatorCost, Setting, build_cost, operator_sources
from tokensim.cost.build import resolved_operators
from tokensim.cost.calibration import Calibration
from tokensim.cost.lora import AdapterPlan
from tokensim.cost.speculative import DraftPasses, SpeculativeStepCost
from tokensim.model import ModelSpec, operators
from tokensim.model.drafts import Draft
from tokensim.model.routing import ExpertLoad
from tokensim.model.spread import spread_experts
from tokensim.model.vision import vision_operators
from tokensim.plan.speculation import SpeculationPlan


@dataclass(frozen=True, slots=True)
class CostPlan:
    """The cost of a step on each of the ``stages``; with speculative decoding (None: there is none); of the
    vision tower, by patches (None: there is none that is modelled); and where operator times come from,
    with ``auto`` resolved."""

    stages: tuple[CompiledStepCost, ...]
    speculative: SpeculativeStepCost | None
    encoder: CompiledStepCost | None
    operators: str
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CostBuilder:
    """Builds costs in one ``setting``, from the source of operator times that ``spec`` names."""

    setting: Setting
    spec: str
    weights: str
    host: Host
    calibration: Calibration
    graph_sizes: Sequence[int]

    def plan(
        self,
        model: ModelSpec,
        stages: Sequence[ModelSpec],
        experts: ExpertLoad | None,
        adapters: AdapterPlan | None,
        speculation: SpeculationPlan | None,
    ) -> CostPlan:
        """The costs of ``model``, cut into ``stages``."""
        setting = self.setting
        sources = operator_sources(self.spec, setting)
        host, activation = self.host, setting.activation_dtype
        of_stage = host if len(stages) == 1 else Host(host.gap_s, 0.0, 0.0, asynchronous=True)
        costs = []
        for stage in stages:
            run = operators(
                stage,
                self.weights,
                setting.kv_dtype,
                setting.tensor,
                setting.expert,
                activation,
                setting.data,
            )
            costs.append(
                build_cost(
                    run if experts is None else spread_experts(run, experts, activation),
                    setting,
                    sources,
                    of_stage,
                    calibration=self.calibration,
                    graph_sizes=self.graph_sizes,
                    adapters=None
                    if adapters is None
                    else adapters.cost(setting.scaled or setting.device, activation),
                )
            )
        speculative = None
        if speculation is not None:
            passes = None if speculation.draft is None else self._drafts(speculation.draft)
            speculative = SpeculativeStepCost(costs[0], passes, speculation.scheduling.tokens)
        return CostPlan(
            tuple(costs),
            speculative,
            self._tower(model, sources),
            resolved_operators(self.spec, setting),
            tuple(note for source in sources for note in getattr(source, "notes", ())),
        )

    def _drafts(self, draft: Draft) -> DraftPasses:
        """The cost of the drafter's passes on the same device; the host's time is the target's."""
        setting = replace(self.setting, model=draft.runs.name, expert=1, data=1)
        sources, host = operator_sources(self.spec, setting), Host(0.0, 0.0, 0.0, asynchronous=True)
        first, later = (
            build_cost(
                draft.operators(setting.kv_dtype, setting.tensor, 1, setting.activation_dtype, first=first),
                setting,
                sources,
                host,
                calibration=self.calibration,
                graph_sizes=self.graph_sizes,
            )
            for first in (True, False)
        )
        return DraftPasses(first, later)

    def _tower(self, model: ModelSpec, sources: Sequence[OperatorCost]) -> CompiledStepCost | None:
        """The cost of the vision tower of ``model``, which steps beside the engine's own."""
        if model.vision is None:
            return None
        setting = self.setting
        tower = vision_operators(model.vision, setting.activation_dtype, setting.tensor)
        return build_cost(
            tower, setting, sources, Host(0.0, 0.0, 0.0, asynchronous=False), calibration=self.calibration
        )
