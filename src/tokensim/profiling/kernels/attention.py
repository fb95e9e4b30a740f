"""Attention of prefills, of decodes, and of both in one call where a kernel can do that.

PyTorch's fused attention takes batches of one length; the kernels of FlashAttention (vLLM's build of it, or
the packages) and of FlashInfer take sequences of any lengths side by side, as engines call them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from itertools import accumulate
from typing import Any

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from tokensim.profiling.bench import Unmeasurable
from tokensim.profiling.kernels.arena import Arena, random_numbers
from tokensim.profiling.kernels.gemm import torch_dtype
from tokensim.profiling.kernels.optional import optional
from tokensim.profiling.kernels.runner import Call, Variants
from tokensim.profiling.shapes import Shape

VARLEN = (
    ("vllm.vllm_flash_attn", "vLLM's FlashAttention"),
    ("flash_attn_interface", "FlashAttention 3"),  # its package for Hopper
    ("flash_attn", "FlashAttention"),
)
"""Modules with ``flash_attn_varlen_func``."""

FUSED = {
    SDPBackend.FLASH_ATTENTION: "flash",
    SDPBackend.EFFICIENT_ATTENTION: "memory-efficient",
    SDPBackend.CUDNN_ATTENTION: "cuDNN",
}
"""PyTorch's fused kernels; it chooses one by rules that change from version to version."""

Segments = Sequence[tuple[int, int]]
"""Of each sequence: queries, and keys (its queries' own included)."""


def attention_calls(shape: Shape, arena: Arena, device: torch.device) -> Variants:
    """Calls by the kernel that runs them; raises ``Unmeasurable`` where there is none."""
    if shape["kv_dtype"] not in ("float32", "bfloat16", "float16"):
        raise Unmeasurable(f"attention over a KV cache in {shape['kv_dtype']}: no kernel here takes it")
    segments = _segments(shape)
    variants: dict[str, Callable[[], list[Call]]] = {}
    if shape.kind == "decode_attention":
        variants.update(_decode(shape, arena, device))
    elif shape.kind == "prefill_attention":
        variants.update(_prefill(shape, arena, device))
    for name, kernel in varlen_kernels(device).items():
        variants[name] = lambda kernel=kernel: _varlen(kernel, segments, shape, arena, device)  # type: ignore[misc]
    if not variants:
        raise Unmeasurable(
            "chunks and decodes in one call: neither FlashAttention nor FlashInfer is installed"
        )
    return variants


def _segments(shape: Shape) -> Segments:
    if shape.kind == "decode_attention":
        return [(1, shape["context"])] * shape["batch"]
    if shape.kind == "prefill_attention":
        return [(shape["tokens"], shape["cached"] + shape["tokens"])] * shape["batch"]
    chunk = (shape["tokens"], shape["cached"] + shape["tokens"])
    return [chunk, *[(1, shape["context"])] * shape["decodes"]]


def _decode(shape: Shape, arena: Arena, device: torch.device) -> dict[str, Callable[[], list[Call]]]:
    """Every query of a KV head sees all of its keys, so the queries of a group can stand side by side."""
    batch, heads, kv_heads, dim = (shape[name] for name in ("batch", "heads", "kv_heads", "head_dim"))
    dtype = torch_dtype(shape["kv_dtype"], device)

    def operands() -> tuple[torch.Tensor, list[torch.Tensor]]:
        q = random_numbers(batch * heads * dim, dtype, device)
        return q, arena.slices((2, batch, kv_heads, shape["context"], dim), dtype)

    def side_by_side(attend: Attend) -> list[Call]:
        q, caches = operands()
        grouped = q.view(batch, kv_heads, heads // kv_heads, dim)
        return [_bound(attend, grouped, kv[0], kv[1]) for kv in caches]

    def one_by_one(attend: Attend) -> list[Call]:
        q, caches = operands()
        plain = q.view(batch, heads, 1, dim)
        return [_bound(attend, plain, kv[0], kv[1], enable_gqa=heads != kv_heads) for kv in caches]

    return {
        **_on_each(fused_attention(device, dtype, dim, False), side_by_side, ", queries of a group as rows"),
        **_on_each(fused_attention(device, dtype, dim, heads != kv_heads), one_by_one),
    }


def _prefill(shape: Shape, arena: Arena, device: torch.device) -> dict[str, Callable[[], list[Call]]]:
    """Full prefills (nothing cached), as the tables have them."""
    if shape["cached"]:
        raise Unmeasurable("prefills after cached tokens: the tables follow them from full ones")
    batch, heads, kv_heads, dim = (shape[name] for name in ("batch", "heads", "kv_heads", "head_dim"))
    dtype, tokens = torch_dtype(shape["kv_dtype"], device), shape["tokens"]

    def whole(attend: Attend) -> list[Call]:
        q = random_numbers(batch * heads * tokens * dim, dtype, device).view(batch, heads, tokens, dim)
        k, v = random_numbers(2 * batch * kv_heads * tokens * dim, dtype, device).view(
            2, batch, kv_heads, tokens, dim
        )
        return [_bound(attend, q, k, v, is_causal=True, enable_gqa=heads != kv_heads)]

    return _on_each(fused_attention(device, dtype, dim, heads != kv_heads), whole)


Attend = Callable[..., torch.Tensor]


def _bound(attend: Attend, *operands: torch.Tensor, **options: bool) -> Call:
    return lambda: attend(*operands, **options)


def _on_each(
    kernels: dict[str, Attend], row: Callable[[Attend], list[Call]], how: str = ""
) -> dict[str, Callable[[], list[Call]]]:
    """The row of calls on each of ``kernels``."""
    return {name + how: lambda attend=attend: row(attend) for name, attend in kernels.items()}  # type: ignore[misc]


@cache
def fused_attention(device: torch.device, dtype: torch.dtype, dim: int, grouped: bool) -> dict[str, Attend]:
    """PyTorch's fused kernels that take heads of this size here, found out by trying; where none does, the
    three operations one by one. On a CPU it has one, and chooses by itself."""
    name = "scaled_dot_product_attention"
    if device.type == "cpu":
        return {name: F.scaled_dot_product_attention}
    q = torch.zeros(1, 2, 32, dim, dtype=dtype, device=device)
    kv = q[:, :1] if grouped else q
    found: dict[str, Attend] = {}
    for backend, what in FUSED.items():
        attend = _with(backend)
        try:
            attend(q, kv, kv, is_causal=True, enable_gqa=grouped)
            torch.cuda.synchronize(device)
        except RuntimeError:  # "No available kernel"
            continue
        found[f"{name} ({what})"] = attend
    return found or {f"{name} (not fused)": _with(SDPBackend.MATH)}


def _with(backend: SDPBackend) -> Attend:
    def attend(*operands: torch.Tensor, **options: bool) -> torch.Tensor:
        with sdpa_kernel([backend]):
            return F.scaled_dot_product_attention(*operands, **options)

    return attend


def varlen_kernels(device: torch.device) -> dict[str, Any]:
    """What is installed here and takes sequences of any lengths: a function of (q, k, v, segments) that gives
    a call."""
    if device.type == "cpu":
        return {}
    kernels: dict[str, Any] = {}
    for module, name in VARLEN:
        found = optional(module)
        function = getattr(found, "flash_attn_varlen_func", None)
        if function is None:
            continue
        supported = getattr(found, "is_fa_version_supported", None)  # vLLM's has several versions
        versions = [number for number in (2, 3, 4) if supported(number)] if supported is not None else []
        for number in versions:
            kernels[f"{name} {number}"] = _flash(function, fa_version=number)
        if not versions:
            kernels[name] = _flash(function)
    flashinfer = optional("flashinfer")
    if hasattr(flashinfer, "BatchPrefillWithRaggedKVCacheWrapper"):
        kernels["FlashInfer, ragged"] = _flashinfer(flashinfer)
    return kernels


def _flash(function: Any, **options: int) -> Any:
    def prepared(q: torch.Tensor, segments: Segments) -> Any:
        starts_q, starts_k = _starts(segments, q.device)
        longest = {
            "max_seqlen_q": max(n for n, _ in segments),
            "max_seqlen_k": max(n for _, n in segments),
        }
        return lambda k, v: function(
            q=q, k=k, v=v, cu_seqlens_q=starts_q, cu_seqlens_k=starts_k, causal=True, **longest, **options
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
    dtype = torch_dtype(shape["kv_dtype"], device)
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
