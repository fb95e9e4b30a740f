"""From a pool of the scenario to a plan: its device, engine, memory, and the cost of its steps, worked out.

What cannot be (a model that does not fit, a plan that does not divide it, a source that knows nothing) is
refused here, before anything runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tokensim.cost import CompiledStepCost, Host, Setting, build_cost, operator_sources
from tokensim.cost.build import resolved_operators
from tokensim.cost.calibration import Calibration, load_calibration
from tokensim.cost.graphs import captured_sizes
from tokensim.cost.host import GAP_S, REQUEST_S, STEP_S
from tokensim.cost.sends import Send, stage_sends
from tokensim.cost.speculative import DraftPasses, SpeculativeStepCost
from tokensim.errors import InputError
from tokensim.hardware import Device, load_device
from tokensim.memory import derive_capacity
from tokensim.model import ModelSpec, dtypes, operators
from tokensim.model.drafts import Draft
from tokensim.model.shards import stage_output_bytes
from tokensim.model.stages import stage_models
from tokensim.registry import register
from tokensim.scenario import Engine, Pool, Scenario, resolved_engine
from tokensim.scenario.performance import Performance
from tokensim.scenario.versions import Version, parse_version
from tokensim.scheduling.local import Limits, form_for
from tokensim.speculation import plan_speculation

LIMITS = set(Limits.__slots__) - {"window", "longest", "pipeline", "v2_model_runner", "speculation"}

KERNELS = "vllm"
"""The engine whose kernels run whatever the policy: the only one whose schedule is modelled."""


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

    lockstep: bool
    """Whether data-parallel ranks share experts and so take every step together."""

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
    device = load_device(pool.hardware, f"{at}.hardware")
    tensor, expert, data = pool.parallel.tensor, pool.parallel.expert, pool.parallel.data
    model.check_parallel(tensor, expert, data, where=f"{at}.parallel")
    stages = stage_models(model, pool.parallel.pipeline, where=f"{at}.parallel")
    if len(stages) > 1 and data > 1 and model.moe is not None:
        raise InputError(
            f"pipeline {len(stages)} with data {data}: data-parallel ranks of a model of experts step"
            " together, and pipelines that do are not simulated",
            where=f"{at}.parallel.pipeline",
            hint="give pipeline: 1, or data: 1 and more replicas",
        )
    own = f"{at}.engine" if pool.engine else "engine"
    engine = resolved_engine(
        scenario.pool_engine(pool),
        device_memory_bytes=device.memory_bytes,
        is_a100="a100" in device.id,
        model_max_len=model.max_position,
        where=own,
    )
    activation = (
        scenario.weights if scenario.weights in ("bfloat16", "float16", "float32") else model.native_dtype
    )
    if activation not in ("bfloat16", "float16", "float32"):
        activation = "bfloat16"
    kv_dtype = activation if engine.kv_cache_dtype == "auto" else engine.kv_cache_dtype.split("_")[0]
    notes: tuple[str, ...] = ()
    speculation = plan_speculation(
        engine, model, pool.parallel, activation, scenario.weights, scenario.seed, own
    )
    draft = None if speculation is None else speculation.draft
    if speculation is not None:
        engine = engine.model_copy(update=speculation.engine)
        notes = tuple(f"{pool.name}: {note}" for note in speculation.notes)
    assert engine.max_num_seqs and engine.max_num_batched_tokens and engine.max_model_len
    blocks = engine.num_gpu_blocks
    if blocks is None:
        blocks = min(
            derive_capacity(
                stage,
                device,
                weights=scenario.weights,
                kv_dtype=kv_dtype,
                tensor=tensor,
                expert=expert,
                block_size=engine.block_size,
                utilization=engine.gpu_memory_utilization,
                max_num_batched_tokens=engine.max_num_batched_tokens,
                max_num_seqs=engine.max_num_seqs,
                where=f"{at}.hardware",
                data=data,
                extra_weight_bytes=0.0 if draft is None else draft.weight_bytes(tensor, 1, activation),
                extra_kv_bytes_per_token=0.0 if draft is None else draft.kv_bytes_per_token(kv_dtype, tensor),
            ).num_gpu_blocks
            for stage in stages  # vLLM takes the least of all workers (kv_cache_utils.py)
        )
    room = (blocks - 1) * engine.block_size
    if engine.max_model_len > room:
        if scenario.pool_engine(pool).max_model_len is not None:
            raise InputError(
                f"max_model_len is {engine.max_model_len}, but the KV pool holds only {room} tokens"
                f" ({blocks - 1} blocks of {engine.block_size})",
                where=f"{own}.max_model_len",
                hint=f"at most {room}; or more device memory, more ranks, a larger num_gpu_blocks",
            )
        engine = engine.model_copy(update={"max_model_len": room})
    if engine.max_model_len == room < model.max_position:
        notes = (
            *notes,
            f"{pool.name}: max_model_len is {room:,}, what the KV pool holds, not the model's"
            f" {model.max_position:,}",
        )
    engine = engine.model_copy(update={"num_gpu_blocks": blocks})
    performance = scenario.performance
    if calibration is None:
        file = performance.calibration
        calibration = load_calibration(file) if file else Calibration()
    setting = Setting(
        device=device,
        model=model.name,
        engine=KERNELS,
        version=engine.version,
        activation_dtype=activation,
        kv_dtype=kv_dtype,
        tensor=tensor,
        expert=expert,
        data=data,
    )
    sources = operator_sources(performance.operators, setting)
    host = host_time(performance, calibration, engine.async_scheduling)
    of_stage = host if len(stages) == 1 else Host(host.gap_s, 0.0, 0.0, asynchronous=True)
    costs = tuple(
        build_cost(
            operators(stage, scenario.weights, kv_dtype, tensor, expert, activation, data),
            setting,
            sources,
            of_stage,
            calibration=calibration,
            graph_sizes=_graph_sizes(engine),
        )
        for stage in stages
    )
    speculative = None
    if speculation is not None:
        passes = None
        if draft is not None:
            alone = replace(setting, model=draft.runs.name, expert=1, data=1)
            passes = _draft_passes(draft, alone, performance.operators, calibration, _graph_sizes(engine))
        speculative = SpeculativeStepCost(costs[0], passes, speculation.scheduling.tokens)
    limits = Limits(
        **{name: getattr(engine, name) for name in LIMITS},
        window=next((cost.window for cost in costs if cost.window is not None), None),
        longest=any(cost.needs_longest for cost in costs),
        pipeline=len(stages),
        v2_model_runner=v2_model_runner(engine.version, model, scenario.weights),
        speculation=None if speculation is None else speculation.scheduling,
    )
    if limits.in_flight:
        check_form(engine.policy, limits, f"{own}.policy")
    spec = resolved_operators(performance.operators, setting)
    notes = (*notes, *(note for source in sources for note in getattr(source, "notes", ())))
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
        costs,
        stage_sends(device, len(stages), tensor, stage_output_bytes(model, dtypes.BYTES[activation])),
        host,
        speculative,
        spec,
        _front_end(performance, calibration),
        _clock(performance, calibration),
        notes,
        lockstep=data > 1 and model.moe is not None,
    )


def _draft_passes(
    draft: Draft, setting: Setting, spec: str, calibration: Calibration, graph_sizes: Sequence[int]
) -> DraftPasses:
    """The cost of the drafter's passes on the device of ``setting``; the host's time is the target's."""
    sources, host = operator_sources(spec, setting), Host(0.0, 0.0, 0.0, asynchronous=True)
    first, later = (
        build_cost(
            draft.operators(setting.kv_dtype, setting.tensor, 1, setting.activation_dtype, first=first),
            setting,
            sources,
            host,
            calibration=calibration,
            graph_sizes=graph_sizes,
        )
        for first in (True, False)
    )
    return DraftPasses(first, later)


def v2_model_runner(version: str, model: ModelSpec, weights: str) -> bool:
    """Whether vLLM ``version`` runs ``model`` in its second model runner by default: never in 0.19; in 0.23
    dense Llama, Mistral and Qwen3 that are not quantised; in 0.33 always."""
    number = parse_version(version)
    if number >= Version(0, 33, 0):
        return True
    plain = model.weight_dtype(weights) in dtypes.FULL_PRECISION and model.moe is None
    return number >= Version(0, 23, 0) and plain and model.family in ("llama", "mistral", "qwen3")


def check_form(policy: str, limits: Limits, where: str) -> None:
    """Refuse a local scheduler that knows nothing of several batches in flight, or of drafts."""
    try:
        form_for(register.local_scheduler.get(policy, where), limits)
    except TypeError as error:
        raise InputError(
            f"the policy '{policy}' runs neither pipelines nor speculation: {error}",
            where=where,
            hint="take the policy vllm, or pipeline: 1 and no speculation",
        ) from error


def host_time(performance: Performance, calibration: Calibration, asynchronous: bool) -> Host:
    """The host's times: the scenario's where it gives any, else the calibration's, else the defaults."""

    def value(given: float | None, fitted: float | None, default: float) -> float:
        if given is not None:
            return given
        return default if fitted is None else fitted

    host = performance.host
    return Host(
        gap_s=value(host.gap, calibration.host_gap_s, GAP_S),
        step_s=value(host.step, calibration.host_step_s, STEP_S),
        request_s=value(host.request, calibration.host_request_s, REQUEST_S),
        asynchronous=asynchronous,
    )


def _front_end(performance: Performance, calibration: Calibration) -> dict[str, float] | None:
    """Times of the API process: the scenario's where it gives any, else the calibration's, else the
    defaults."""
    given = performance.front_end
    if given is None:
        return None
    times = {"request_s": given.request, "chunk_s": given.chunk, "client_s": given.client}
    if given.client is None:
        times["client_s"] = calibration.client_s
    return {name: value for name, value in times.items() if value is not None}


def _clock(performance: Performance, calibration: Calibration) -> tuple[float, float] | None:
    if performance.clock is not None:
        return performance.clock.slowdown, performance.clock.time_constant
    if calibration.clock_slowdown and calibration.clock_time_constant_s:
        return calibration.clock_slowdown, calibration.clock_time_constant_s
    return None


def _graph_sizes(engine: Engine) -> Sequence[int]:
    if engine.enforce_eager:
        return ()
    if engine.cudagraph_capture_sizes is not None:
        return engine.cudagraph_capture_sizes
    assert engine.max_num_seqs and engine.max_num_batched_tokens
    return captured_sizes(engine.max_num_seqs, engine.max_num_batched_tokens)
