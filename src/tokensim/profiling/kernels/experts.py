"""Routed experts: gather, both GEMMs with the activation between them, and the weighted sum.

Tokens choose their experts at random. The choice itself is the router's and not in it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from tokensim.profiling.bench import Unmeasurable
from tokensim.profiling.kernels.arena import Arena, random_numbers
from tokensim.profiling.kernels.gemm import torch_dtype
from tokensim.profiling.kernels.optional import optional
from tokensim.profiling.kernels.runner import Call, Variants
from tokensim.profiling.shapes import Shape


def expert_calls(shape: Shape, arena: Arena, device: torch.device) -> Variants:
    """Calls by the kernel that runs them; raises ``Unmeasurable`` for formats without one."""
    if shape["dtype"] not in ("bfloat16", "float16", "float32"):
        raise Unmeasurable(f"experts in {shape['dtype']}: PyTorch has no kernel for them")
    dtype = torch_dtype(shape["dtype"], device)
    local = -(-shape["experts"] // shape["expert"])
    width, hidden = shape["intermediate"] // shape["tensor"], shape["hidden"]
    routed = _Routed(shape["tokens"], shape["experts"], shape["top_k"], local, device)
    x = random_numbers(shape["tokens"] * hidden, dtype, device).view(-1, hidden)
    slices = arena.slices((local * 3 * width * hidden,), dtype, most=16)
    layers = [
        (
            s[: local * 2 * width * hidden].view(local, 2 * width, hidden),
            s[local * 2 * width * hidden :].view(local, hidden, width),
        )
        for s in slices
    ]
    variants: dict[str, Callable[[], list[Call]]] = {
        "a GEMM an expert": lambda: [_one_by_one(x, routed, *layer) for layer in layers]
    }
    if _has_grouped(device, dtype):
        variants["torch._grouped_mm"] = lambda: [_grouped(x, routed, *layer) for layer in layers]
    fused = _vllm(device)
    if fused is not None and local == shape["experts"]:
        variants["vLLM fused_experts"] = lambda: [_fused(fused, x, routed, *layer) for layer in layers]
    return variants


class _Routed:
    """Which experts of this rank the tokens go to: ``order`` lists the token of each visit, expert by
    expert; ``counts`` how many each has."""

    def __init__(self, tokens: int, experts: int, top_k: int, local: int, device: torch.device) -> None:
        generator = torch.Generator().manual_seed(0)
        scores = torch.rand(tokens, experts, generator=generator)
        chosen = scores.topk(top_k, dim=1).indices
        self.ids = chosen.to(torch.int32).to(device)
        self.weights = torch.full((tokens, top_k), 1.0 / top_k, device=device)
        flat = chosen.flatten()
        here = flat < local
        expert, token = flat[here], torch.arange(tokens).repeat_interleave(top_k)[here]
        by_expert = expert.argsort(stable=True)
        self.order = token[by_expert].to(device)
        counts = torch.bincount(expert, minlength=local)
        self.counts: list[int] = counts.tolist()
        self.offsets = counts.cumsum(0).to(torch.int32).to(device)
        self.share = 1.0 / top_k


def _activated(both: torch.Tensor) -> torch.Tensor:
    gate, up = both.chunk(2, dim=-1)
    return F.silu(gate) * up


def _one_by_one(x: torch.Tensor, routed: _Routed, up: torch.Tensor, down: torch.Tensor) -> Call:
    def call() -> torch.Tensor:
        rows, out = x[routed.order], torch.zeros_like(x)
        parts, start = [], 0
        for expert, count in enumerate(routed.counts):
            if count:
                part = F.linear(rows[start : start + count], up[expert])
                parts.append(F.linear(_activated(part), down[expert]))
                start += count
        return out.index_add_(0, routed.order, torch.cat(parts).mul_(routed.share)) if parts else out

    return call


def _grouped(x: torch.Tensor, routed: _Routed, up: torch.Tensor, down: torch.Tensor) -> Call:
    multiply: Any = torch._grouped_mm

    def call() -> torch.Tensor:
        both = multiply(x[routed.order], up.transpose(1, 2), offs=routed.offsets)
        visits = multiply(_activated(both), down.transpose(1, 2), offs=routed.offsets)
        return torch.zeros_like(x).index_add_(0, routed.order, visits.mul_(routed.share))

    return call


def _fused(fused: Any, x: torch.Tensor, routed: _Routed, up: torch.Tensor, down: torch.Tensor) -> Call:
    return lambda: fused(x, up, down, routed.weights, routed.ids)


def _has_grouped(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether PyTorch has the grouped GEMM here; found out by trying. On NVIDIA's devices before Hopper, and
    for other formats than bfloat16, it is a GEMM an expert that waits for the host."""
    nvidia = device.type != "cpu" and not torch.version.hip
    if nvidia and (dtype != torch.bfloat16 or torch.cuda.get_device_capability(device) < (9, 0)):
        return False
    try:
        x = torch.zeros(32, 64, dtype=dtype, device=device)
        w = torch.zeros(2, 64, 64, dtype=dtype, device=device)
        offsets = torch.tensor([16, 32], dtype=torch.int32, device=device)
        torch._grouped_mm(x, w.transpose(1, 2), offs=offsets)
    except Exception:  # whatever an operator that is not there for the device raises
        return False
    return True


def _vllm(device: torch.device) -> Any:
    """vLLM's fused kernel, where it is installed."""
    if device.type == "cpu":
        return None
    return getattr(optional("vllm.model_executor.layers.fused_moe"), "fused_experts", None)
