"""The scenario: model, cluster, engine, performance, workload and SLO, one tree of checked, frozen sections.

Names follow the field and vLLM's flags. Checks that need the catalogs or the registry (does the model fit?
does TP divide the heads? is the policy known?) are made where the parts are assembled; what can be told from
the tree alone is told here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_core import InitErrorDetails

from tokensim.scenario.engine import Engine
from tokensim.scenario.performance import Performance
from tokensim.scenario.section import (
    Count,
    CountOrZero,
    Name,
    Number,
    OverridesOf,
    Section,
    not_built,
    refused,
)
from tokensim.scenario.units import Duration
from tokensim.scenario.workload import WorkloadSpec

Weights = Literal["auto", "float32", "bfloat16", "float16", "fp8", "int8", "int4", "fp4", "mxfp4"]


class Parallel(Section):
    """How one instance spreads the model over devices."""

    tensor: Count = 1
    """Tensor-parallel ranks."""
    pipeline: Count = 1
    """Pipeline stages, of `tensor` devices each; vLLM's rule deals out the layers."""
    data: Count = 1
    """Data-parallel ranks of one instance, each an engine core of its own; they share experts."""
    expert: Count = 1
    """Ranks that whole experts are spread over: tensor x data; or 1, to slice every expert instead."""

    @property
    def devices(self) -> int:
        """Devices of one instance."""
        return self.tensor * self.pipeline * self.data

    @model_validator(mode="after")
    def _experts_over_all_ranks(self) -> Parallel:
        ranks = self.tensor * self.data
        if self.expert not in (1, ranks):
            raise refused(
                f"expert is {self.expert} with tensor {self.tensor} and data {self.data}"
                if self.data > 1
                else f"expert is {self.expert} with tensor {self.tensor}",
                f"vLLM spreads experts over all ranks or none: 1 or {ranks}",
            )
        return self


class Pool(Section):
    """Equal instances on one kind of device."""

    name: Name = "serve"
    """Unique in the cluster."""
    hardware: Name | dict[str, Any]
    """Catalog id, path to a YAML file, or the device's figures inline."""
    replicas: Count = 1
    """Instances."""
    role: Literal["mixed", "prefill", "decode"] = "mixed"
    """Which phases the instances serve."""
    parallel: Parallel = Parallel()
    """Devices of each instance."""
    engine: Annotated[dict[str, Any], OverridesOf(Engine)] = Field(default_factory=dict)
    """What differs from the scenario's engine in this pool."""

    @field_validator("role")
    @classmethod
    def _mixed_only_yet(cls, value: str) -> str:
        not_built(value, "mixed", f"a pool of role {value!r} (prefill and decode apart)")
        return value

    @field_validator("engine")
    @classmethod
    def _overrides_are_engine_options(cls, value: dict[str, Any]) -> dict[str, Any]:
        Engine.model_validate(value)
        return value


class Router(Section):
    """The global scheduler: which instance takes a request. Short form: its policy's name."""

    policy: Name = "round-robin"
    """By its registered name."""


class Cluster(Section):
    """The instances and what connects them."""

    pools: Annotated[list[Pool], Field(min_length=1)]
    """At least one."""
    router: Router = Router()
    """The global scheduler."""
    network: dict[str, Any] = Field(default_factory=dict)
    """Links between instances; empty: those of the hardware."""

    @field_validator("router", mode="before")
    @classmethod
    def _router_by_name(cls, value: object) -> object:
        return {"policy": value} if isinstance(value, str) else value

    @field_validator("network")
    @classmethod
    def _no_network_yet(cls, value: dict[str, Any]) -> dict[str, Any]:
        not_built(value, {}, "a network between instances")
        return value

    @field_validator("pools")
    @classmethod
    def _names_are_unique(cls, value: list[Pool]) -> list[Pool]:
        names = [pool.name for pool in value]
        for index, name in enumerate(names):
            if name in names[:index]:
                raise refused(
                    f"pools {names.index(name)} and {index} are both named {name!r}",
                    "give each pool a name of its own",
                )
        return value


class Slo(Section):
    """The bounds that a request must keep to count for goodput; null: no bound."""

    ttft: Duration | None = None
    """Time to first token."""
    tpot: Duration | None = None
    """Time per output token after the first."""
    e2e: Duration | None = None
    """Time from arrival to the last token."""
    itl: Duration | None = None
    """Each gap between two tokens; judged over the whole run, so it does not enter goodput."""
    percentile: Annotated[Number, Field(gt=0, le=100)] = 99.0
    """Share of requests (%) that must keep each bound."""


class Scenario(Section):
    """Everything that a simulation depends on; two equal scenarios give the same result."""

    name: str | None = None
    """Free text for reports."""
    model: Name | dict[str, Any]
    """Catalog id, path to a Hugging Face config.json, or its content inline."""
    weights: Weights = "auto"
    """How weights are stored; auto: as the model was published."""
    cluster: Cluster
    """The hardware."""
    engine: Engine = Engine()
    """The serving engine of every pool, unless the pool says otherwise."""
    performance: Performance = Performance()
    """The source of operator times."""
    workload: WorkloadSpec
    """The requests."""
    slo: Slo = Slo()
    """What counts as served well."""
    seed: CountOrZero = 0
    """The seed of everything random."""

    @field_validator("slo", mode="before")
    @classmethod
    def _no_slo(cls, value: object) -> object:
        return {} if value is None else value

    @model_validator(mode="after")
    def _pools_engines_agree(self) -> Scenario:
        problems: list[InitErrorDetails] = []
        for index, pool in enumerate(self.cluster.pools):
            try:
                self.pool_engine(pool)
            except ValidationError as error:
                problems += [
                    InitErrorDetails(
                        type=refused(detail["msg"], (detail.get("ctx") or {}).get("hint", "")),
                        loc=("cluster", "pools", index, "engine", *detail["loc"]),
                        input=detail["input"],
                    )
                    for detail in error.errors()
                ]
        if problems:
            raise ValidationError.from_exception_data("Scenario", problems)
        return self

    def pool_engine(self, pool: Pool) -> Engine:
        """The engine of ``pool``: the scenario's, with the pool's overrides on top."""
        if not pool.engine:
            return self.engine
        return Engine.model_validate({**self.engine.model_dump(), **pool.engine})

    @classmethod
    def from_yaml(cls, path: str | Path) -> Scenario:
        """Read the scenario file at ``path``; raises ``InputError`` that lists all that is wrong with it."""
        from tokensim.scenario.loading import load_scenario

        return load_scenario(path)
