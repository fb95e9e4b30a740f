"""The engine of a pool: its options with every default filled in, and what it refuses."""

from __future__ import annotations

from collections.abc import Sequence

from tokensim.cost.graphs import captured_batches, captured_sizes
from tokensim.errors import InputError
from tokensim.hardware import Device
from tokensim.model import ModelSpec, dtypes
from tokensim.plan.policy import find_policy, policy_engine
from tokensim.scenario import Engine, Pool, Scenario, resolved_engine
from tokensim.scenario.memory import Memory
from tokensim.scenario.sglang import memory_class, resolved_sglang
from tokensim.scenario.versions import Version, parse_version
from tokensim.scheduling.local import Limits, LocalScheduler, form_for


def plan_engine(
    scenario: Scenario, pool: Pool, model: ModelSpec, device: Device, at: str, where: str
) -> tuple[Engine, str, tuple[str, ...]]:
    """The options of ``pool``, but for what follows from its memory; the serving engine that its policy is
    part of; notes. ``at`` is the path of the pool, ``where`` that of the section ``engine``."""
    asked = scenario.pool_engine(pool)
    serving = getattr(find_policy(asked.policy, where), "engine", LocalScheduler.engine)
    notes: tuple[str, ...] = ()
    if not model.causal:
        # vllm/engine/arg_utils.py, _set_default_chunked_prefill_and_prefix_caching_args
        asked = asked.model_copy(update={"enable_chunked_prefill": False, "enable_prefix_caching": False})
        notes = (f"{pool.name}: an encoder has neither chunked prefill nor prefix caching, and keeps no KV",)
    given = asked.model_fields_set
    if serving == "sglang" and pool.role == "decode" and "enable_prefix_caching" not in given:
        # srt/server_args.py: a decode server has no radix cache (--disaggregation-decode-enable-radix-cache)
        asked = asked.model_copy(update={"enable_prefix_caching": False})
    asked = policy_engine(asked, where)
    memory = scenario.pool_memory(pool)
    if serving == "sglang":
        _check_sglang(model, memory, at)
        engine = resolved_sglang(
            asked,
            device_memory_bytes=device.memory_bytes,
            tensor=pool.parallel.tensor,
            model_max_len=model.max_position,
            where=where,
        )
    else:
        engine = resolved_engine(
            asked,
            device_memory_bytes=device.memory_bytes,
            is_a100="a100" in device.id,
            model_max_len=model.max_position,
            where=where,
        )
        engine = with_granularity(engine, memory, where)
    return engine, serving, notes


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


def check_together(
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


def v2_model_runner(version: str, model: ModelSpec, weights: str) -> bool:
    """Whether vLLM ``version`` runs ``model`` in its second model runner by default: never in 0.19; in 0.23
    dense Llama, Mistral and Qwen3 that are not quantised; in 0.33 always."""
    number = parse_version(version)
    if number >= Version(0, 33, 0):
        return True
    plain = model.weight_dtype(weights) in dtypes.FULL_PRECISION and model.moe is None
    return number >= Version(0, 23, 0) and plain and model.family in ("llama", "mistral", "qwen3")


def graph_sizes(engine: Engine, serving: str, device: Device, tensor: int) -> Sequence[int]:
    """The batches that CUDA graphs are captured for."""
    if engine.enforce_eager:
        return ()
    if engine.cudagraph_capture_sizes is not None:
        return engine.cudagraph_capture_sizes
    if serving == "sglang":
        return captured_batches(memory_class(device.memory_bytes, tensor)[1])
    assert engine.max_num_seqs and engine.max_num_batched_tokens
    return captured_sizes(engine.max_num_seqs, engine.max_num_batched_tokens)


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
