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

from tokensim.scenario.admission import Admission
from tokensim.scenario.engine import Engine
from tokensim.scenario.memory import Memory
from tokensim.scenario.network import Network, NodeNetwork
from tokensim.scenario.operations import (
    Autoscale,
    Disaggregation,
    Failure,
    HookSpec,
    Restart,
    Throttle,
    refuse_absent_replicas,
    refuse_unknown_pools,
)
from tokensim.scenario.performance import Performance
from tokensim.scenario.scale import Scale
from tokensim.scenario.section import (
    Count,
    CountOrZero,
    Name,
    Number,
    OverridesOf,
    Section,
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
                "vLLM spreads experts over all ranks or none: 1" + (f" or {ranks}" if ranks > 1 else ""),
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
    startup: Duration = 0.0
    """How long a replica that is added during the run needs before it serves."""
    autoscale: Autoscale | None = None
    """How many replicas there are over time; null: always `replicas`."""
    parallel: Parallel = Parallel()
    """Devices of each instance."""
    price_per_hour: Annotated[Number, Field(ge=0)] | None = None
    """US dollars for an hour of one device (spot, reserved, owned); null: the catalog's."""
    engine: Annotated[dict[str, Any], OverridesOf(Engine)] = Field(default_factory=dict)
    """What differs from the scenario's engine in this pool."""
    network: NodeNetwork = NodeNetwork()
    """What differs from the cluster's links in this pool."""
    scale: Scale = Scale()
    """Devices with more or less of something than the hardware has."""
    memory: Memory | None = None
    """The memory of these instances; null: the scenario's."""

    @field_validator("engine")
    @classmethod
    def _overrides_are_engine_options(cls, value: dict[str, Any]) -> dict[str, Any]:
        Engine.model_validate(value)
        return value


class Router(Section):
    """The global scheduler: which instance takes a request. Short form: its policy's name."""

    policy: Name = "round-robin"
    """By its registered name."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Parameters of the policy."""
    staleness: Duration = 0.0
    """How often the router looks at the engines, a duration; 0: what it sees is always up to date."""


class Electricity(Section):
    """What electricity costs, on top of the devices' price."""

    usd_per_kwh: Annotated[Number, Field(ge=0)]
    """US dollars for a kWh at the meter."""
    pue: Annotated[Number, Field(ge=1)] = 1.0
    """Energy at the meter for each joule that the devices draw: cooling, power supplies, hosts."""


class Cluster(Section):
    """The instances and what connects them."""

    pools: Annotated[list[Pool], Field(min_length=1)]
    """At least one."""
    router: Router = Router()
    """The global scheduler."""
    decode_router: Router | None = None
    """The one that chooses the decode instance, where prefill and decode are apart; null: of that kind."""
    disaggregation: Disaggregation | None = None
    """How pools of role prefill and decode work together; null: the defaults."""
    failures: list[Failure] = Field(default_factory=list)
    """Replicas that die."""
    restarts: list[Restart] = Field(default_factory=list)
    """Rolling restarts."""
    throttles: list[Throttle] = Field(default_factory=list)
    """Bounds on what replicas run, for some time."""
    electricity: Electricity | None = None
    """The price of electricity; null: the devices' price includes it."""
    network: Network = Network()
    """Links, and how instances lie on nodes."""
    admission: Admission | None = None
    """The gateway before the router: limits, priorities, fair sharing. Null: every request enters at once."""

    @field_validator("router", "decode_router", mode="before")
    @classmethod
    def _router_by_name(cls, value: object) -> object:
        return {"policy": value} if isinstance(value, str) else value

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

    @model_validator(mode="after")
    def _parts_agree(self) -> Cluster:
        names = [pool.name for pool in self.pools]
        refuse_unknown_pools(
            names, {"failures": self.failures, "restarts": self.restarts, "throttles": self.throttles}
        )
        refuse_absent_replicas(
            {pool.name: pool.replicas for pool in self.pools},
            self.failures,
            {pool.name for pool in self.pools if pool.autoscale} | {one.pool for one in self.restarts},
        )
        roles = {pool.role for pool in self.pools}
        for one, other in (("prefill", "decode"), ("decode", "prefill")):
            if one in roles and not roles & {other, "mixed"}:
                raise refused(
                    f"there are pools of role {one}, and none that could {other}",
                    f"add a pool of role {other} (or mixed), or leave the role out",
                )
        if self.disaggregation is not None and roles == {"mixed"}:
            raise refused(
                "disaggregation is given, but every pool is mixed",
                "give pools the roles prefill and decode, or leave it out",
            )
        if self.decode_router is not None and "prefill" not in roles:
            raise refused("decode_router is given, but no pool only prefills", "leave it out")
        return self


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
    memory: Memory = Memory()
    """The memory of every instance, unless its pool says otherwise."""
    performance: Performance = Performance()
    """The source of operator times."""
    workload: WorkloadSpec
    """The requests."""
    hooks: list[HookSpec] = Field(default_factory=list)
    """A plug-in's own code that listens and acts during the run."""
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
        return Engine.model_validate({**self.engine.model_dump(exclude_unset=True), **pool.engine})

    def pool_memory(self, pool: Pool) -> Memory:
        """The memory of ``pool``'s instances: its own, or the scenario's."""
        return self.memory if pool.memory is None else pool.memory

    @classmethod
    def from_yaml(cls, path: str | Path) -> Scenario:
        """Read the scenario file at ``path``; raises ``InputError`` that lists all that is wrong with it."""
        from tokensim.scenario.loading import load_scenario

        return load_scenario(path)
