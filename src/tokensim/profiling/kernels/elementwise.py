"""Norms, activations, rotary embeddings, embedding look-ups and sampling, by the bytes that a row moves.

Their operands are hot: a step's elementwise operators work on what the operator before them has just written.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F

from tokensim.profiling.kernels.arena import Arena, random_numbers
from tokensim.profiling.kernels.gemm import torch_dtype
from tokensim.profiling.kernels.optional import optional
from tokensim.profiling.kernels.runner import Call, Variants
from tokensim.profiling.shapes import Shape

HEAD = 128
"""Head size of rotary embeddings: the traffic of a row is what counts."""

EMBEDDINGS = 32_768
"""Rows of the embedding table at most: look-ups are spread over more than a cache holds."""


def elementwise_calls(shape: Shape, arena: Arena, device: torch.device) -> Variants:
    """Calls by the kernel that runs them."""
    dtype = torch_dtype(shape["dtype"], device)
    rows, each = shape["rows"], shape["row_bytes"] / dtype.itemsize
    match shape["operator"]:
        case "norm":  # input and residual in, sum and normalised out
            hidden = max(1, round(each / 4))
            x, residual = (_numbers(rows, hidden, dtype, device) for _ in range(2))
            weight = random_numbers(hidden, dtype, device)
            variants = _variants(_norm, (x, residual, weight), device)
            fused = _vllm_ops(device, "fused_add_rms_norm")
            if fused is not None:
                variants["vLLM fused_add_rms_norm"] = lambda: [lambda: fused(x, residual, weight, 1e-6)]
            return variants
        case "activation":  # gate and up in, product out
            width = max(1, round(each / 3))
            both = _numbers(rows, 2 * width, dtype, device)
            variants = _variants(_activation, (both,), device)
            silu = _vllm_ops(device, "silu_and_mul")
            if silu is not None:
                out = torch.empty(rows, width, dtype=dtype, device=device)
                variants["vLLM silu_and_mul"] = lambda: [lambda: silu(out, both)]
            return variants
        case "rotary":  # in and out
            heads = max(1, round(each / 2 / HEAD))
            x = random_numbers(rows * heads * HEAD, dtype, device).view(rows, heads, HEAD)
            cosine, sine = (_numbers(rows, HEAD // 2, dtype, device).unsqueeze(1) for _ in range(2))
            return _variants(_rotary, (x, cosine, sine), device)
        case "embedding":
            hidden = max(1, round(each / 2))
            (table,) = arena.slices((min(EMBEDDINGS, max(1024, (1 << 28) // hidden)), hidden), dtype, most=1)
            tokens = torch.randint(0, len(table), (rows,), device=device)
            return {"torch.nn.functional.embedding": lambda: [lambda: F.embedding(tokens, table)]}
        case _:  # sampling: logits in, and 32 bytes a logit in float32 (see model.shards)
            vocab = max(2, round(shape["row_bytes"] / (dtype.itemsize + 32)))
            return _variants(_sample, (_numbers(rows, vocab, dtype, device),), device)


def _norm(x: torch.Tensor, residual: torch.Tensor, weight: torch.Tensor) -> Any:
    total = x + residual
    return total, F.rms_norm(total, (x.shape[-1],), weight, 1e-6)


def _activation(both: torch.Tensor) -> torch.Tensor:
    gate, up = both.chunk(2, dim=-1)
    return F.silu(gate) * up


def _rotary(x: torch.Tensor, cosine: torch.Tensor, sine: torch.Tensor) -> torch.Tensor:
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cosine - second * sine, second * cosine + first * sine), dim=-1)


def _sample(logits: torch.Tensor) -> torch.Tensor:
    """Of the softmax, by the exponential trick, as in vLLM's sampler."""
    shares = torch.softmax(logits.float(), dim=-1)
    return shares.div_(torch.empty_like(shares).exponential_()).argmax(dim=-1)


def _variants(
    kernel: Callable[..., Any], operands: tuple[Any, ...], device: torch.device
) -> dict[str, Callable[[], list[Call]]]:
    """The operation in PyTorch's own kernels, and fused by its compiler where there is one for the device."""
    variants: dict[str, Callable[[], list[Call]]] = {"PyTorch": lambda: [lambda: kernel(*operands)]}
    if device.type != "cpu" and _triton():
        variants["torch.compile"] = lambda: [lambda: _compiled(kernel)(*operands)]
    return variants


@cache
def _compiled(kernel: Callable[..., Any]) -> Any:
    return torch.compile(kernel, dynamic=True)


@cache
def _triton() -> bool:
    return optional("triton") is not None


def _numbers(rows: int, width: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    return random_numbers(rows * width, dtype, device).view(rows, width)


def _vllm_ops(device: torch.device, name: str) -> Any:
    """One of vLLM's compiled operators, where it is installed."""
    if device.type == "cpu" or optional("vllm._custom_ops") is None:
        return None
    return getattr(torch.ops._C, name, None)
