"""Attention of prefills, of decodes, and of both in one call where a kernel can do that.

PyTorch's fused attention takes batches of one length; the kernels of FlashAttention (vLLM's build of it, or
the package) and of FlashInfer take sequences of any lengths side by side, as engines call them.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch
import torch.nn.functional as F

from tokensim.profiling.bench import Unmeasurable
from tokensim.profiling.kernels.arena import Arena, random_numbers
from tokensim.profiling.kernels.gemm import TORCH_DTYPES
from tokensim.profiling.kernels.runner import Call
from tokensim.profiling.shapes import Shape

VARLEN = (("vllm.vllm_flash_attn", "vLLM's FlashAttention"), ("flash_attn", "FlashAttention"))
"""Modules with ``flash_attn_varlen_func``."""

Segments = Sequence[tuple[int, int]]
"""Of each sequence: queries, and keys (its queries' own included)."""


def attention_calls(shape: Shape, arena: Arena, device: torch.device) -> dict[str, list[Call]]:
    """Calls by the kernel that runs them; raises ``Unmeasurable`` where there is none."""
    if shape["kv_dtype"] not in ("float32", "bfloat16", "float16"):
        raise Unmeasurable(f"attention over a KV cache in {shape['kv_dtype']}: no kernel here takes it")
    segments = _segments(shape)
    calls: dict[str, list[Call]] = {}
    if shape.kind == "decode_attention":
        calls.update(_decode(shape, arena, device))
    elif shape.kind == "prefill_attention":
        calls.update(_prefill(shape, arena, device))
    for name, kernel in varlen_kernels(device).items():
        calls[name] = _varlen(kernel, segments, shape, arena, device)
    if not calls:
        raise Unmeasurable(
            "chunks and decodes in one call: neither FlashAttention nor FlashInfer is installed"
        )
    return calls


def _segments(shape: Shape) -> Segments:
    if shape.kind == "decode_attention":
        return [(1, shape["context"])] * shape["batch"]
    if shape.kind == "prefill_attention":
        return [(shape["tokens"], shape["cached"] + shape["tokens"])] * shape["batch"]
    chunk = (shape["tokens"], shape["cached"] + shape["tokens"])
    return [chunk, *[(1, shape["context"])] * shape["decodes"]]


def _decode(shape: Shape, arena: Arena, device: torch.device) -> dict[str, list[Call]]:
    """Every query of a KV head sees all of its keys, so the queries of a group can stand side by side."""
    batch, heads, kv_heads, dim = (shape[name] for name in ("batch", "heads", "kv_heads", "head_dim"))
    dtype = TORCH_DTYPES[shape["kv_dtype"]]
    caches = arena.slices((2, batch, kv_heads, shape["context"], dim), dtype)
    grouped = random_numbers(batch * heads * dim, dtype, device).view(batch, kv_heads, heads // kv_heads, dim)
    plain = grouped.reshape(batch, heads, 1, dim)

    def side_by_side(kv: torch.Tensor) -> Call:
        return lambda: F.scaled_dot_product_attention(grouped, kv[0], kv[1])

    def one_by_one(kv: torch.Tensor) -> Call:
        return lambda: F.scaled_dot_product_attention(plain, kv[0], kv[1], enable_gqa=heads != kv_heads)

    return {
        "scaled_dot_product_attention, queries of a group as rows": [side_by_side(kv) for kv in caches],
        "scaled_dot_product_attention": [one_by_one(kv) for kv in caches],
    }


def _prefill(shape: Shape, arena: Arena, device: torch.device) -> dict[str, list[Call]]:
    """Full prefills (nothing cached), as the tables have them."""
    if shape["cached"]:
        raise Unmeasurable("prefills after cached tokens: the tables follow them from full ones")
    batch, heads, kv_heads, dim = (shape[name] for name in ("batch", "heads", "kv_heads", "head_dim"))
    dtype, tokens = TORCH_DTYPES[shape["kv_dtype"]], shape["tokens"]
    q = random_numbers(batch * heads * tokens * dim, dtype, device).view(batch, heads, tokens, dim)
    k, v = random_numbers(2 * batch * kv_heads * tokens * dim, dtype, device).view(
        2, batch, kv_heads, tokens, dim
    )

    def call() -> torch.Tensor:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=heads != kv_heads)

    return {"scaled_dot_product_attention": [call]}


def varlen_kernels(device: torch.device) -> dict[str, Any]:
    """What is installed here and takes sequences of any lengths: a function of (q, k, v, segments) that gives
    a call."""
    if device.type == "cpu":
        return {}
    kernels: dict[str, Any] = {}
    for module, name in VARLEN:
        try:
            function = importlib.import_module(module).flash_attn_varlen_func
        except (ImportError, AttributeError, RuntimeError, OSError):
            continue
        kernels[name] = _flash(function)
        break
    try:
        flashinfer = importlib.import_module("flashinfer")
        kernels["FlashInfer, ragged"] = _flashinfer(flashinfer)
    except (ImportError, AttributeError, RuntimeError, OSError):
        pass
    return kernels


def _flash(function: Any) -> Any:
    def prepared(q: torch.Tensor, segments: Segments) -> Any:
        starts_q, starts_k = _starts(segments, q.device)
        longest = {
            "max_seqlen_q": max(n for n, _ in segments),
            "max_seqlen_k": max(n for _, n in segments),
        }
        return lambda k, v: function(
            q=q, k=k, v=v, cu_seqlens_q=starts_q, cu_seqlens_k=starts_k, causal=True, **longest
        )

    return prepared


def _flashinfer(module: Any) -> Any:
    wrapper = module.BatchPrefillWithRaggedKVCacheWrapper
    workspaces: dict[torch.device, torch.Tensor] = {}

    def prepared(q: torch.Tensor, segments: Segments, kv_heads: int) -> Any:
        if q.device not in workspaces:
            workspaces[q.device] = torch.empty(1 << 28, dtype=torch.uint8, device=q.device)
        planned = wrapper(workspaces[q.device], "NHD")
        starts_q, starts_k = _starts(segments, q.device)
        planned.plan(starts_q, starts_k, q.shape[1], kv_heads, q.shape[2], causal=True, q_data_type=q.dtype)
        return lambda k, v: planned.run(q, k, v)

    prepared.needs_kv_heads = True  # type: ignore[attr-defined]
    return prepared


def _varlen(kernel: Any, segments: Segments, shape: Shape, arena: Arena, device: torch.device) -> list[Call]:
    heads, kv_heads, dim = shape["heads"], shape["kv_heads"], shape["head_dim"]
    dtype = TORCH_DTYPES[shape["kv_dtype"]]
    queries, keys = (sum(column) for column in zip(*segments, strict=True))
    q = random_numbers(queries * heads * dim, dtype, device).view(queries, heads, dim)
    own = (kv_heads,) if getattr(kernel, "needs_kv_heads", False) else ()
    call = kernel(q, segments, *own)

    def over(kv: torch.Tensor) -> Call:
        return lambda: call(kv[0], kv[1])

    return [over(kv) for kv in arena.slices((2, keys, kv_heads, dim), dtype)]


def _starts(segments: Segments, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Where the queries and the keys of each sequence begin."""
    starts = [list(accumulate(column, initial=0)) for column in zip(*segments, strict=True)]
    first, second = (torch.tensor(start, dtype=torch.int32, device=device) for start in starts)
    return first, second
