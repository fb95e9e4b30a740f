"""How many KV blocks an instance has, derived as the engine derives it at start-up.

vLLM loads the weights, runs one step of ``max_num_batched_tokens`` to see the peak of activations, and gives
what is left of ``device memory × gpu_memory_utilization`` to the KV cache (``vllm/v1/worker/gpu_worker.py``,
``determine_available_memory``). SGLang gives weights and KV cache together a fixed share.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from tokensim.errors import InputError
from tokensim.hardware import Device
from tokensim.model import ModelSpec

GIB = 2**30

RESERVED_BYTES = 0.75 * GIB
"""Device memory outside the allocator (CUDA context, communication buffers) and captured graphs: what the
2,588 blocks that vLLM 0.19 reported for Llama-3.1-8B on an RTX 4090 (0.9 utilisation, 2,048 tokens a step)
leave beside the other terms, 0.76 GiB."""

LOGITS_BYTES = 6
"""A logit in 16 bits and its 32-bit copy for the sampler (``vllm/v1/sample/sampler.py``)."""


@dataclass(frozen=True, slots=True)
class Capacity:
    """Where the memory of one device goes, bytes; ``num_gpu_blocks`` counts the null block."""

    device_bytes: float
    usable_bytes: float
    weight_bytes: float
    activation_bytes: float
    reserved_bytes: float
    block_bytes: float
    num_gpu_blocks: int


def activation_bytes(model: ModelSpec, tokens: int, seqs: int, tensor: int) -> float:
    """Peak of a step of ``tokens`` tokens: residual, input and output of the FFN with its gate, and the
    logits of ``seqs``."""
    ffn = max(model.intermediate, model.moe.intermediate * model.moe.top_k if model.moe else 0) / tensor
    logits = min(seqs, tokens) * model.vocab * LOGITS_BYTES if model.has_head else 0
    return tokens * 2 * (3 * model.hidden + 3 * ffn) + logits


def derive_capacity(
    model: ModelSpec,
    device: Device,
    *,
    weights: str,
    kv_dtype: str,
    tensor: int,
    expert: int,
    block_size: int,
    utilization: float,
    max_num_batched_tokens: int,
    max_num_seqs: int,
    where: str,
    data: int = 1,
    extra_weight_bytes: float = 0.0,
    extra_kv_bytes_per_token: float = 0.0,
) -> Capacity:
    """The KV capacity of one rank of ``model`` (or of a stage of it) on ``device``. The extra bytes are those
    of whatever shares the device: copies of experts, slots of adapters, a draft model. Raises ``InputError``
    if the model does not fit."""
    usable = device.memory_bytes * utilization
    weight = model.weight_bytes(weights, tensor, expert, data) + extra_weight_bytes
    activations = activation_bytes(model, max_num_batched_tokens, max_num_seqs, tensor)
    block = (model.kv_bytes_per_token(kv_dtype, tensor) + extra_kv_bytes_per_token) * block_size
    left = usable - weight - activations - RESERVED_BYTES
    if block:
        blocks = int(left // block)
    else:  # an encoder keeps no KV: places for the tokens of two steps, so that they never bind
        places = 2 * (max_num_batched_tokens // block_size + max_num_seqs) + 1
        blocks = places if left >= 0 else 0
    if blocks < 2:
        needed = weight + activations + RESERVED_BYTES + 2 * block
        share = needed / device.memory_bytes
        higher = f"engine.gpu_memory_utilization of {ceil(100 * share) / 100:g} or more"
        ranks = f" over {tensor} devices" if tensor > 1 else ""
        raise InputError(
            f"{model.name} does not fit on {device.id}{ranks}: weights {weight / GIB:.1f} GiB"
            f" + activations {activations / GIB:.1f} + reserve {RESERVED_BYTES / GIB:.2f} of"
            f" {usable / GIB:.1f} GiB usable ({device.memory_bytes / GIB:.1f} × {utilization:g}) a device"
            " leave no room for KV blocks",
            where=where,
            hint=f"it needs {needed / GIB:.1f} GiB a device: {higher + ', ' if share <= 1.0 else ''}more"
            " tensor-parallel ranks, a larger device, or smaller weights (fp8, int4)",
        )
    return Capacity(device.memory_bytes, usable, weight, activations, RESERVED_BYTES, block, blocks)


def derive_static_capacity(
    model: ModelSpec,
    device: Device,
    *,
    weights: str,
    kv_dtype: str,
    tensor: int,
    expert: int,
    data: int,
    block_size: int,
    share: float,
    where: str,
) -> int:
    """The pages of the KV pool of one rank as SGLang sizes it: weights and KV together get ``share`` of the
    device's memory (``mem_fraction_static``). Raises ``InputError`` if the model does not fit."""
    usable = device.memory_bytes * share
    weight = model.weight_bytes(weights, tensor, expert, data)
    page = model.kv_bytes_per_token(kv_dtype, tensor) * block_size
    pages = int((usable - weight) // page)
    if pages * block_size < 2:
        raise InputError(
            f"{model.name} does not fit on {device.id}: weights of {weight / GIB:.1f} GiB leave nothing of"
            f" {usable / GIB:.1f} GiB ({device.memory_bytes / GIB:.1f} × {share:g}) a device for KV",
            where=where,
            hint="more tensor-parallel ranks, a larger device, smaller weights (fp8, int4), or a higher"
            " engine.gpu_memory_utilization (SGLang's mem_fraction_static)",
        )
    return pages
