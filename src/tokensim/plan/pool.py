"""From a pool of the scenario to a plan: its device, engine, memory, and the cost of its steps, worked out.

What cannot be (a model that does not fit, a plan that does not divide it, a source that knows nothing) is
refused here, before anything runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tokensim.cost import CompiledStepCost, Host, Setting
from tokensim.cost.calibration import Calibration, load_calibration
from tokensim.cost.lora import AdapterPlan, plan_adapters
from tokensim.cost.sends import Send, stage_sends
from tokensim.cost.speculative import SpeculativeStepCost
from tokensim.engine.topology import reached_bytes_per_s
from tokensim.errors import InputError
from tokensim.hardware import Device, load_device
from tokensim.hardware.links import with_network
from tokensim.hardware.scale import with_scale
from tokensim.model import ModelSpec, dtypes, operators
from tokensim.model.shards import stage_output_bytes
from tokensim.model.stages import stage_models
from tokensim.plan.costs import CostBuilder
from tokensim.plan.engine import check_form, check_together, graph_sizes, plan_engine, v2_model_runner
from tokensim.plan.experts import busiest_load, copies_bytes
from tokensim.plan.memory import Tenancy, vllm_blocks, with_sglang_pages, with_vllm_blocks
from tokensim.plan.policy import swap_limits
from tokensim.plan.speculation import plan_speculation
from tokensim.plan.times import clock_terms, front_end_times, host_time
from tokensim.scenario import Engine, Parallel, Pool, Scenario
from tokensim.scenario.memory import Memory
from tokensim.scheduling.local import Limits

LIMITS = set(Limits.__slots__) - {
    "window",
    "longest",
    "swap_blocks",
    "swap_s_per_block",
    "pipeline",
    "v2_model_runner",
    "speculation",
}


@dataclass(frozen=True, slots=True)
class PoolPlan:
    """A pool worked out: its device, engine with every default filled in, limits and cost of a step."""

    pool: Pool
    device: Device
    engine: Engine
    limits: Limits
    stages: tuple[CompiledStepCost, ...]
    """The cost of a step on each pipeline stage; without a pipeline, of the whole step."""
    sends: tuple[Send, ...]
    """From each stage to the next."""
    host: Host
    """The host's times; they are part of the cost of a step where there is no pipeline."""
    speculative: SpeculativeStepCost | None
    """The cost of a step with speculative decoding; None: there is none."""
    operators: str
    """The source of operator times, with ``auto`` resolved."""
    front_end: dict[str, float] | None
    """Times of the API process (``engine.front_end``); None: there is none."""
    clock: tuple[float, float] | None
    """Slowdown and time constant (s) of the device's clock; None: it never drops."""
    notes: tuple[str, ...]
    kv_dtype: str
    """How the KV cache is stored."""

    memory: Memory
    """The pool's, or the scenario's."""
    token_bytes: float
    """KV of one token, over all tensor-parallel ranks; each keeps its own shard."""
    layers: int
    """Of the model: what copies that come layer by layer are cut into."""
    lockstep: bool
    """Whether data-parallel ranks share experts and so take every step together."""
    encoder: CompiledStepCost | None
    """The cost of the model's vision tower, by patches; None: it has none that is modelled."""
    patches_per_token: int
    """Of the vision tower: so many patches make one token of the prompt."""

    adapters: AdapterPlan | None = None
    """LoRA adapters, if the engine serves any."""

    def names(self, replica: int) -> list[str]:
        """The names of the ranks and stages of one instance in a log."""
        name = f"{self.pool.name}-{replica}"
        data, stages = self.pool.parallel.data, len(self.stages)
        names = [name] if data == 1 else [f"{name}/rank-{rank}" for rank in range(data)]
        return names if stages == 1 else [f"{n}/stage-{stage}" for n in names for stage in range(stages)]

    @property
    def cost(self) -> CompiledStepCost:
        """The cost of a step on the first stage, which is all of it without a pipeline."""
        return self.stages[0]


def plan_pool(
    scenario: Scenario, index: int, model: ModelSpec, calibration: Calibration | None = None
) -> PoolPlan:
    """Work out pool ``index``; raises ``InputError`` for what does not fit or divide."""
    pool = scenario.cluster.pools[index]
    at = f"cluster.pools[{index}]"
    own = f"{at}.engine" if pool.engine else "engine"
    published = load_device(pool.hardware, f"{at}.hardware")
    plain = with_network(published, scenario.cluster.network, "cluster.network")
    plain = with_network(plain, pool.network, f"{at}.network")
    device = with_scale(plain, pool.scale)
    model = model.for_task(scenario.workload.task)
    stages, lockstep = _cut(model, pool.parallel, f"{at}.parallel")
    tensor, expert, data = pool.parallel.tensor, pool.parallel.expert, pool.parallel.data
    engine, serving, notes = plan_engine(scenario, pool, model, plain, at, own)
    activation = activation_dtype(scenario.weights, model)
    kv_dtype = activation if engine.kv_cache_dtype == "auto" else engine.kv_cache_dtype.split("_")[0]
    load = busiest_load(scenario.performance, model, expert)
    speculation = plan_speculation(
        engine, model, pool.parallel, activation, scenario.weights, scenario.seed, own
    )
    draft = None if speculation is None else speculation.draft
    if speculation is not None:
        engine = engine.model_copy(update=speculation.engine)
        notes = (*notes, *(f"{pool.name}: {note}" for note in speculation.notes))
    check_together(scenario, engine, model, len(stages), serving, own)
    adapters = None
    if engine.lora is not None:
        run = operators(model, scenario.weights, kv_dtype, tensor, expert, activation, data)
        whole = operators(model, scenario.weights, kv_dtype, 1, 1, activation)
        host_link = reached_bytes_per_s(device, "host")
        adapters = plan_adapters(engine.lora, run, whole, host_link, f"{own}.lora", lockstep)
    beside = copies_bytes(scenario, model, expert)
    beside += adapters.slot_bytes if adapters is not None else 0.0
    beside += 0.0 if draft is None else draft.weight_bytes(tensor, 1, activation)
    on = Tenancy(
        device,
        pool.parallel,
        scenario.weights,
        kv_dtype,
        beside,
        0.0 if draft is None else draft.kv_bytes_per_token(kv_dtype, tensor),
    )
    memory = scenario.pool_memory(pool)
    if serving == "sglang":
        engine = with_sglang_pages(engine, model, on, f"{at}.hardware")
    else:
        blocks = vllm_blocks(stages, engine, on, f"{at}.hardware")
        if engine.num_gpu_blocks is None and memory.granularity == "contiguous":
            blocks += 1  # of whole requests, none is kept back
        asked = scenario.pool_engine(pool).max_model_len
        engine, cut = with_vllm_blocks(engine, blocks, asked, model.max_position, pool.name, own)
        notes = (*notes, *cut)
    performance = scenario.performance
    if calibration is None:
        file = performance.calibration
        calibration = load_calibration(file) if file else Calibration()
    host = host_time(performance, calibration, engine.async_scheduling, pool.scale.host)
    setting = Setting(
        device=plain,
        scaled=None if device is plain else device,
        model=model.name,
        engine=serving,
        version=engine.version,
        activation_dtype=activation,
        kv_dtype=kv_dtype,
        tensor=tensor,
        expert=expert,
        data=data,
        own_links=plain.intra_node == published.intra_node,
    )
    costs = CostBuilder(
        setting,
        performance.operators,
        scenario.weights,
        host,
        calibration,
        graph_sizes(engine, serving, plain, tensor),
    ).plan(model, stages, load, adapters, speculation)
    limits = Limits(
        **{name: getattr(engine, name) for name in LIMITS},
        window=next((cost.window for cost in costs.stages if cost.window is not None), None),
        longest=any(cost.needs_longest for cost in costs.stages),
        pipeline=len(stages),
        v2_model_runner=serving == "vllm" and v2_model_runner(engine.version, model, scenario.weights),
        speculation=None if speculation is None else speculation.scheduling,
        **swap_limits(
            engine,
            model.kv_bytes_per_token(kv_dtype, tensor) * engine.block_size,
            device.host_link.bandwidth_bytes_per_s,
        ),
    )
    if limits.in_flight:
        check_form(engine.policy, limits, f"{own}.policy")
    notes = (*notes, *costs.notes)
    if calibration.device and device.id not in calibration.device.split(", "):
        notes = (
            *notes,
            f"{pool.name}: the calibration was fitted on {calibration.device}, not on {device.id}",
        )
    return PoolPlan(
        pool,
        device,
        engine,
        limits,
        costs.stages,
        stage_sends(device, len(stages), tensor, stage_output_bytes(model, dtypes.BYTES[activation])),
        host,
        costs.speculative,
        costs.operators,
        front_end_times(performance, calibration, pool.scale.host),
        clock_terms(performance, calibration),
        notes,
        kv_dtype,
        memory=memory,
        token_bytes=model.kv_bytes_per_token(kv_dtype, tensor) * tensor,
        layers=model.layers,
        lockstep=lockstep,
        encoder=costs.encoder,
        patches_per_token=model.vision.merge if model.vision is not None else 0,
        adapters=adapters,
    )


def activation_dtype(weights: str, model: ModelSpec) -> str:
    """The type that ``model`` computes in when its weights are stored as ``weights``."""
    wanted = weights if weights in dtypes.FULL_PRECISION else model.native_dtype
    return wanted if wanted in dtypes.FULL_PRECISION else "bfloat16"


def _cut(model: ModelSpec, parallel: Parallel, where: str) -> tuple[Sequence[ModelSpec], bool]:
    """The pipeline stages of ``model``, and whether its data-parallel ranks step together."""
    model.check_parallel(parallel.tensor, parallel.expert, parallel.data, where=where)
    stages = stage_models(model, parallel.pipeline, where=where)
    lockstep = parallel.data > 1 and model.moe is not None
    if len(stages) > 1 and lockstep:
        raise InputError(
            f"pipeline {len(stages)} with data {parallel.data}: data-parallel ranks of a model of experts"
            " step together, and pipelines that do are not simulated",
            where=f"{where}.pipeline",
            hint="give pipeline: 1, or data: 1 and more replicas",
        )
    return stages, lockstep
