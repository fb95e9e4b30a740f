"""The KV pool of an instance: its blocks, and the options of the engine that they bound."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tokensim.errors import InputError
from tokensim.hardware import Device
from tokensim.memory.capacity import derive_capacity, derive_static_capacity
from tokensim.model import ModelSpec
from tokensim.scenario import Engine, Parallel
from tokensim.scenario.sglang import running_limit


@dataclass(frozen=True, slots=True)
class Tenancy:
    """What shares the memory of one device: a model's weights and KV in these types, cut this way, and
    what lies beside them (bytes, of KV by token)."""

    device: Device
    parallel: Parallel
    weights: str
    kv_dtype: str
    beside_bytes: float = 0.0
    beside_kv_bytes: float = 0.0


def vllm_blocks(stages: Sequence[ModelSpec], engine: Engine, on: Tenancy, where: str) -> int:
    """Blocks of vLLM's pool, the null block among them: the least of all ``stages`` (kv_cache_utils.py).
    ``where``: the device."""
    if engine.num_gpu_blocks is not None:
        return engine.num_gpu_blocks
    assert engine.max_num_seqs and engine.max_num_batched_tokens
    return min(
        derive_capacity(
            stage,
            on.device,
            weights=on.weights,
            kv_dtype=on.kv_dtype,
            tensor=on.parallel.tensor,
            expert=on.parallel.expert,
            block_size=engine.block_size,
            utilization=engine.gpu_memory_utilization,
            max_num_batched_tokens=engine.max_num_batched_tokens,
            max_num_seqs=engine.max_num_seqs,
            where=where,
            data=on.parallel.data,
            extra_weight_bytes=on.beside_bytes,
            extra_kv_bytes_per_token=on.beside_kv_bytes,
        ).num_gpu_blocks
        for stage in stages
    )


def with_vllm_blocks(
    engine: Engine, blocks: int, asked_max_model_len: int | None, most: int, pool: str, where: str
) -> tuple[Engine, tuple[str, ...]]:
    """``engine`` with a pool of ``blocks``, and its context cut to that; notes. ``most`` tokens are the
    model's own context. Raises ``InputError`` if ``asked_max_model_len`` does not fit."""
    assert engine.max_model_len is not None
    room = (blocks - 1) * engine.block_size
    if engine.max_model_len > room:
        if asked_max_model_len is not None:
            raise InputError(
                f"max_model_len is {engine.max_model_len}, but the KV pool holds only {room} tokens"
                f" ({blocks - 1} blocks of {engine.block_size})",
                where=f"{where}.max_model_len",
                hint=f"at most {room}; or more device memory, more ranks, a larger num_gpu_blocks",
            )
        engine = engine.model_copy(update={"max_model_len": room})
    notes: tuple[str, ...] = ()
    if engine.max_model_len == room < most:
        notes = (f"{pool}: max_model_len is {room:,}, what the KV pool holds, not the model's {most:,}",)
    return engine.model_copy(update={"num_gpu_blocks": blocks}), notes


def with_sglang_pages(engine: Engine, model: ModelSpec, on: Tenancy, where: str) -> Engine:
    """``engine`` with the pages of SGLang's pool and the requests that it lets run; it ends each request
    where its pool does, by itself. ``where``: the device."""
    pages = engine.num_gpu_blocks
    if pages is None:
        pages = derive_static_capacity(
            model,
            on.device,
            weights=on.weights,
            kv_dtype=on.kv_dtype,
            tensor=on.parallel.tensor,
            expert=on.parallel.expert,
            data=on.parallel.data,
            block_size=engine.block_size,
            share=engine.gpu_memory_utilization,
            where=where,
        )
    limit = running_limit(engine, pages * engine.block_size)
    return engine.model_copy(update={"max_num_seqs": limit, "num_gpu_blocks": pages})
