"""The ``engine`` section under ``policy: sglang``: SGLang's defaults, and what of vLLM's it does not have.

The general options keep their names: ``max_num_batched_tokens`` is ``--chunked-prefill-size``,
``max_num_seqs`` ``--max-running-requests``, ``block_size`` ``--page-size``, ``max_model_len``
``--context-length``, ``gpu_memory_utilization`` ``--mem-fraction-static``, ``num_gpu_blocks`` the KV pool in
pages, all of which can be used. SGLang's own flags are ``policy_options``.

Sources of the rules: SGLang 0.5.23, ``srt/server_args.py`` (``_handle_gpu_memory_settings``) and
``srt/model_executor``; they were checked against its scheduler's recorded configurations.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tokensim.errors import InputError
from tokensim.scenario.section import refused

if TYPE_CHECKING:
    from tokensim.scenario.engine import Engine

POLICY = "sglang"
VERSIONS = ("0.5.23",)
"""The versions whose decisions were recorded."""

DEFAULTS = {"version": VERSIONS[-1], "block_size": 1}
"""What is another default than vLLM's, whatever the device."""

NOT_HERE = {
    "scheduling_policy": "policy_options.schedule_policy orders the queue",
    "max_num_active_seqs": "max_num_seqs bounds the requests that hold memory",
    "max_num_scheduled_tokens": "max_num_batched_tokens is SGLang's chunked prefill size",
    "long_prefill_token_threshold": "max_num_batched_tokens bounds a chunk",
    "long_prefill_token_threshold_adaptive": "max_num_batched_tokens bounds a chunk",
    "scheduler_reserve_full_isl": "SGLang always counts the whole prompt",
    "watermark": "policy_options.schedule_conservativeness keeps memory back",
    "prefill_schedule_interval": "policy_options.prefill_decode_interval is SGLang's",
}
"""Options of vLLM's scheduler that SGLang does not have → what it has instead."""

MAX_PREFILL_TOKENS = 16384
"""Prompt tokens after which a prefill batch takes nobody else (``--max-prefill-tokens``)."""

MIB = 2**20


def settle(engine: Engine) -> None:
    """Give ``engine`` SGLang's defaults where nothing was given, and refuse what SGLang does not have."""
    for name, value in DEFAULTS.items():
        if name not in engine.model_fields_set:
            object.__setattr__(engine, name, value)  # still unset: another policy has its own default
    if engine.version not in VERSIONS:
        raise refused(
            f"the scheduling rules of SGLang {engine.version} are not modelled",
            f"modelled: {', '.join(VERSIONS)}",
        )
    for name, instead in NOT_HERE.items():
        if getattr(engine, name) != type(engine).model_fields[name].default:
            raise refused(f"{name} is an option of vLLM, not of SGLang", f"leave it out; {instead}")
    if engine.speculative is not None:
        raise refused(
            "speculative decoding is not simulated under the policy 'sglang'",
            "leave it out, or use the policy vllm",
        )
    tokens, page = engine.max_num_batched_tokens, engine.block_size
    if engine.enable_chunked_prefill and tokens is not None and tokens % page:
        raise refused(
            f"max_num_batched_tokens ({tokens}) is not a multiple of block_size ({page})",
            f"chunks end with a page: {max(1, tokens // page) * page}, for example",
        )


def memory_class(device_memory_bytes: float, tensor: int) -> tuple[int, int]:
    """(chunked prefill size, largest captured decode batch) that SGLang takes for a device."""
    mib = device_memory_bytes / MIB
    many = tensor >= 4
    if mib < 20 * 1024:
        return 2048, 8
    if mib < 35 * 1024:
        return 2048, 80 if many else 24
    if mib < 60 * 1024:
        return 4096, 160 if many else 32
    if mib < 160 * 1024:
        return 8192, 512 if many else 256
    return 16384, 512


def resolved_sglang(
    engine: Engine,
    *,
    device_memory_bytes: float,
    tensor: int,
    model_max_len: int,
    where: str,
) -> Engine:
    """``engine`` with chunk, context and share of memory filled in as SGLang fills them in.

    ``max_num_seqs`` is left for ``running_limit``: it depends on the pool. Raises ``InputError`` at ``where``
    if ``max_model_len`` exceeds the model's.
    """
    model_len = engine.max_model_len or model_max_len
    if model_len > model_max_len:
        raise InputError(
            f"max_model_len is {model_len}, but the model's context ends at {model_max_len} tokens",
            where=f"{where}.max_model_len",
            hint=f"at most {model_max_len}, or leave it out",
        )
    chunk, captured = memory_class(device_memory_bytes, tensor)
    tokens = engine.max_num_batched_tokens or chunk // engine.block_size * engine.block_size
    if not tokens:
        raise InputError(
            f"block_size is {engine.block_size}, but a chunk has only {chunk} tokens",
            where=f"{where}.block_size",
            hint="a smaller block_size, or a larger max_num_batched_tokens",
        )
    values = {"max_num_batched_tokens": tokens, "max_model_len": model_len}
    if "gpu_memory_utilization" not in engine.model_fields_set:
        largest = tokens
        if not engine.enable_chunked_prefill:
            given = engine.policy_options.get("max_prefill_tokens", MAX_PREFILL_TOKENS)
            largest = given if isinstance(given, int) else MAX_PREFILL_TOKENS  # the policy refuses the rest
        share = static_share(device_memory_bytes, largest, captured, tensor)
        return engine.model_copy(update={**values, "gpu_memory_utilization": share})
    return engine.model_copy(update=values)


def static_share(device_memory_bytes: float, prefill_tokens: int, captured: int, tensor: int) -> float:
    """The share of device memory for weights and KV (``mem_fraction_static``), for prefills of so many
    tokens."""
    mib = device_memory_bytes / MIB
    reserved = 512 + 1.5 * max(prefill_tokens, 2048) + 2 * captured + 1024 * tensor / 8
    if mib > 60 * 1024:
        reserved = max(reserved, 10 * 1024)
    return round((mib - reserved) / mib, 3)


def running_limit(engine: Engine, pool_tokens: int) -> int:
    """``max_running_requests`` for a pool of so many tokens."""
    assert engine.max_model_len is not None
    wanted = engine.max_num_seqs
    if wanted is None:
        wanted = min(max(int(pool_tokens / engine.max_model_len * 512), 2048), 4096)
    return max(1, min(wanted, pool_tokens // 2))
