"""The roofs of a pool's roofline: the peaks of its device that its operators could reach."""

from __future__ import annotations

from tokensim.plan import PoolPlan
from tokensim.report.series.run import Roof

COMPUTING = ("gemm", "moe", "attention")
"""Kinds of operators that have a peak of arithmetic."""


def roofs_of(plan: PoolPlan) -> list[Roof]:
    """A roof for each dtype in which operators of ``plan`` compute, the lowest first."""
    rates: set[float] = set()
    for cost in plan.stages:
        rows = [*cost.token_parts, *cost.sample_parts]
        rates |= {1 / part.ideal_s_per_flop for part in rows if part.kind in COMPUTING}
        rates |= {1 / part.ideal_s_per_flop for part in cost.attention_parts}
    device = plan.device
    flops = {min(device.flops, key=lambda dtype: abs(device.flops[dtype] - rate)) for rate in rates}
    return [
        Roof(plan.pool.name, device.name, dtype, device.flops[dtype], device.memory_bandwidth_bytes_per_s)
        for dtype in sorted(flops, key=lambda dtype: (device.flops[dtype], dtype))
    ]
