"""From a pool of the scenario to a plan: its device, engine, memory, and the cost of its steps, worked out.

What cannot be (a model that does not fit, a plan that does not divide it, a source that knows nothing) is
refused here, before anything runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tokensim.cost import CompiledStepCost, Host, Setting, build_cost, operator_sources
from tokensim.cost.build import resolved_operators
from tokensim.cost.calibration import Calibration, load_calibration
from tokensim.cost.graphs import captured_batches, captured_sizes
from tokensim.cost.host import GAP_S, REQUEST_S, STEP_S
from tokensim.cost.lora import AdapterPlan, plan_adapters
from tokensim.cost.sends import Send, stage_sends
from tokensim.cost.speculative import DraftPasses, SpeculativeStepCost
from tokensim.engine.topology import reached_bytes_per_s
from tokensim.errors import InputError
from tokensim.hardware import Device, load_device
from tokensim.hardware.links import with_network
from tokensim.memory.capacity import derive_capacity, derive_static_capacity
from tokensim.model import ModelSpec, dtypes, operators
from tokensim.model.drafts import Draft
from tokensim.model.routing import ExpertLoad, expert_load, zipf
from tokensim.model.shards import stage_output_bytes
from tokensim.model.spread import recorded_popularity, redundant_bytes, spread_experts
from tokensim.model.stages import stage_models
from tokensim.model.vision import vision_operators
from tokensim.policy import find_policy, policy_engine, swap_limits
from tokensim.scenario import Engine, Pool, Scenario, resolved_engine
from tokensim.scenario.memory import Memory
from tokensim.scenario.performance import Performance
from tokensim.scenario.sglang import memory_class, resolved_sglang, running_limit
from tokensim.scenario.versions import Version, parse_version
from tokensim.scheduling.local import Limits, LocalScheduler, form_for
from tokensim.speculation import plan_speculation

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
    published = load_device(pool.hardware, f"{at}.hardware")
    device = with_network(published, scenario.cluster.network, "cluster.network")
    device = with_network(device, pool.network, f"{at}.network")
    model = model.for_task(scenario.workload.task)
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
    asked = scenario.pool_engine(pool)
    serving = getattr(find_policy(asked.policy, own), "engine", LocalScheduler.engine)
    notes: tuple[str, ...] = ()
    if not model.causal:
        # vllm/engine/arg_utils.py, _set_default_chunked_prefill_and_prefix_caching_args
        asked = asked.model_copy(update={"enable_chunked_prefill": False, "enable_prefix_caching": False})
        notes = (f"{pool.name}: an encoder has neither chunked prefill nor prefix caching, and keeps no KV",)
    asked = policy_engine(asked, own)
    memory = scenario.pool_memory(pool)
    if serving == "sglang":
        _check_sglang(model, memory, at)
        engine = resolved_sglang(
            asked,
            device_memory_bytes=device.memory_bytes,
            tensor=tensor,
            model_max_len=model.max_position,
            where=own,
        )
    else:
        engine = resolved_engine(
            asked,
            device_memory_bytes=device.memory_bytes,
            is_a100="a100" in device.id,
            model_max_len=model.max_position,
            where=own,
        )
        engine = with_granularity(engine, memory, own)
    activation = (
        scenario.weights if scenario.weights in ("bfloat16", "float16", "float32") else model.native_dtype
    )
    if activation not in ("bfloat16", "float16", "float32"):
        activation = "bfloat16"
    kv_dtype = activation if engine.kv_cache_dtype == "auto" else engine.kv_cache_dtype.split("_")[0]
    run = operators(model, scenario.weights, kv_dtype, tensor, expert, activation, data)
    load = _expert_load(scenario.performance, model, expert)
    lockstep = data > 1 and model.moe is not None
    speculation = plan_speculation(
        engine, model, pool.parallel, activation, scenario.weights, scenario.seed, own
    )
    draft = None if speculation is None else speculation.draft
    if speculation is not None:
        engine = engine.model_copy(update=speculation.engine)
        notes = (*notes, *(f"{pool.name}: {note}" for note in speculation.notes))
    _check_together(scenario, engine, model, len(stages), serving, own)
    adapters = None
    if engine.lora is not None:
        whole = operators(model, scenario.weights, kv_dtype, 1, 1, activation)
        host_link = reached_bytes_per_s(device, "host")
        adapters = plan_adapters(engine.lora, run, whole, host_link, f"{own}.lora", lockstep)
    blocks = engine.num_gpu_blocks
    if serving == "sglang":
        blocks, engine = _sglang_pool(scenario, index, engine, model, device, kv_dtype)
    elif blocks is None:
        assert engine.max_num_seqs and engine.max_num_batched_tokens
        beside = _redundant_bytes(scenario, model, expert)
        beside += adapters.slot_bytes if adapters is not None else 0.0
        beside += 0.0 if draft is None else draft.weight_bytes(tensor, 1, activation)
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
                extra_weight_bytes=beside,
                extra_kv_bytes_per_token=0.0 if draft is None else draft.kv_bytes_per_token(kv_dtype, tensor),
            ).num_gpu_blocks
            for stage in stages  # vLLM takes the least of all workers (kv_cache_utils.py)
        )
        blocks += memory.granularity == "contiguous"  # of whole requests, none is kept back
    assert engine.max_model_len is not None
    room = (blocks - 1) * engine.block_size
    cut = serving != "sglang"  # which ends each request where its pool does, by itself
    if cut and engine.max_model_len > room:
        if scenario.pool_engine(pool).max_model_len is not None:
            raise InputError(
                f"max_model_len is {engine.max_model_len}, but the KV pool holds only {room} tokens"
                f" ({blocks - 1} blocks of {engine.block_size})",
                where=f"{own}.max_model_len",
                hint=f"at most {room}; or more device memory, more ranks, a larger num_gpu_blocks",
            )
        engine = engine.model_copy(update={"max_model_len": room})
    if cut and engine.max_model_len == room < model.max_position:
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
        engine=serving,
        version=engine.version,
        activation_dtype=activation,
        kv_dtype=kv_dtype,
        tensor=tensor,
        expert=expert,
        data=data,
        own_links=device.intra_node == published.intra_node,
    )
    sources = operator_sources(performance.operators, setting)
    host = host_time(performance, calibration, engine.async_scheduling)
    of_stage = host if len(stages) == 1 else Host(host.gap_s, 0.0, 0.0, asynchronous=True)
    graph_sizes = _graph_sizes(engine, serving, device, tensor)
    costs = []
    for stage in stages:
        of = (
            run
            if len(stages) == 1
            else operators(stage, scenario.weights, kv_dtype, tensor, expert, activation, data)
        )
        costs.append(
            build_cost(
                of if load is None else spread_experts(of, load, activation),
                setting,
                sources,
                of_stage,
                calibration=calibration,
                graph_sizes=graph_sizes,
                adapters=None if adapters is None else adapters.cost(device, activation),
            )
        )
    speculative = None
    if speculation is not None:
        passes = None
        if draft is not None:
            alone = replace(setting, model=draft.runs.name, expert=1, data=1)
            passes = _draft_passes(draft, alone, performance.operators, calibration, graph_sizes)
        speculative = SpeculativeStepCost(costs[0], passes, speculation.scheduling.tokens)
    encoder: CompiledStepCost | None = None
    if model.vision is not None:
        tower = vision_operators(model.vision, activation, tensor)
        encoder = build_cost(tower, setting, sources, Host(0.0, 0.0, 0.0, False), calibration=calibration)
    limits = Limits(
        **{name: getattr(engine, name) for name in LIMITS},
        window=next((cost.window for cost in costs if cost.window is not None), None),
        longest=any(cost.needs_longest for cost in costs),
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
        tuple(costs),
        stage_sends(device, len(stages), tensor, stage_output_bytes(model, dtypes.BYTES[activation])),
        host,
        speculative,
        spec,
        _front_end(performance, calibration),
        _clock(performance, calibration),
        notes,
        kv_dtype,
        memory=memory,
        token_bytes=model.kv_bytes_per_token(kv_dtype, tensor) * tensor,
        layers=model.layers,
        lockstep=lockstep,
        encoder=encoder,
        patches_per_token=model.vision.merge if model.vision is not None else 0,
        adapters=adapters,
    )


def with_granularity(engine: Engine, memory: Memory, where: str) -> Engine:
    """``engine`` with the ``block_size`` that the granularity of its memory means: a token, or the longest
    request there can be, which is what systems before paged attention reserved for each (Orca, OSDI 2022;
    FasterTransformer)."""
    if memory.granularity == "block":
        return engine
    usual = type(engine).model_fields["block_size"].default
    if engine.block_size != usual:
        raise InputError(
            f"block_size is {engine.block_size}, but memory.granularity is {memory.granularity}",
            where=f"{where}.block_size",
            hint="leave out one of the two",
        )
    return engine.model_copy(
        update={"block_size": 1 if memory.granularity == "token" else engine.max_model_len}
    )


def _check_together(
    scenario: Scenario, engine: Engine, model: ModelSpec, stages: int, serving: str, where: str
) -> None:
    """Refuse what is not simulated together with several batches in flight."""
    what = "a pipeline" if stages > 1 else "speculative decoding" if engine.speculative is not None else None
    if what is None:
        return
    others = {
        "the policy 'sglang'": serving == "sglang",
        "LoRA adapters": engine.lora is not None,
        "an encoder": not model.causal,
        "images": scenario.workload.images is not None,
    }
    for other, there in others.items():
        if there:
            raise InputError(
                f"{what} and {other} are not simulated together", where=where, hint="leave out one of the two"
            )


def _check_sglang(model: ModelSpec, memory: Memory, at: str) -> None:
    """Refuse what of vLLM's SGLang is not simulated with."""
    if not model.causal:
        raise InputError(
            f"{model.name} is an encoder, which is not simulated under the policy 'sglang'",
            where=f"{at}.engine.policy",
            hint="use the policy vllm",
        )
    if memory.granularity != "block":
        raise InputError(
            f"memory.granularity is {memory.granularity}, but SGLang's pool has pages",
            where=f"{at}.memory.granularity",
            hint="leave it out; engine.block_size is the page, 1 unless given",
        )


def _sglang_pool(
    scenario: Scenario, index: int, engine: Engine, model: ModelSpec, device: Device, kv_dtype: str
) -> tuple[int, Engine]:
    """The pages of SGLang's KV pool, and ``engine`` with the requests that it lets run."""
    parallel, pages = scenario.cluster.pools[index].parallel, engine.num_gpu_blocks
    if pages is None:
        pages = derive_static_capacity(
            model,
            device,
            weights=scenario.weights,
            kv_dtype=kv_dtype,
            tensor=parallel.tensor,
            expert=parallel.expert,
            data=parallel.data,
            block_size=engine.block_size,
            share=engine.gpu_memory_utilization,
            where=f"cluster.pools[{index}].hardware",
        )
    limit = running_limit(engine, pages * engine.block_size)
    return pages, engine.model_copy(update={"max_num_seqs": limit})


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
        form_for(find_policy(policy, where), limits)
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


def _expert_load(performance: Performance, model: ModelSpec, ranks: int) -> ExpertLoad | None:
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


def _redundant_bytes(scenario: Scenario, model: ModelSpec, ranks: int) -> float:
    given = scenario.performance.experts
    copies = 0 if given is None else given.num_redundant_experts
    return redundant_bytes(model, scenario.weights, ranks, copies) if copies else 0.0


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


def _graph_sizes(engine: Engine, serving: str, device: Device, tensor: int) -> Sequence[int]:
    if engine.enforce_eager:
        return ()
    if engine.cudagraph_capture_sizes is not None:
        return engine.cudagraph_capture_sizes
    if serving == "sglang":
        return captured_batches(memory_class(device.memory_bytes, tensor)[1])
    assert engine.max_num_seqs and engine.max_num_batched_tokens
    return captured_sizes(engine.max_num_seqs, engine.max_num_batched_tokens)
