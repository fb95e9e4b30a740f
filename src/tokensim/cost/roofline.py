"""The roofline: an operator lasts as long as the slower of its arithmetic and its traffic.

``max(flops / (peak · efficiency), bytes / (bandwidth · efficiency))``, plus a fixed overhead for each kernel;
peaks and efficiencies are the device's own. It knows every operator on every device, hardware that exists
only on paper included, and is asked last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tokensim.cost.base import AttentionTime, DecodeCurve, Origin, RowTime, Setting, Times
from tokensim.cost.collectives import collective_time
from tokensim.cost.work import (
    LOW_PRECISION,
    AttentionWork,
    RowWork,
    attention_work,
    compute_dtype,
    pairs_and_reads,
    row_work,
)
from tokensim.model.operators import Attention, Collective, Elementwise, Experts, Gemm, Operator
from tokensim.registry import register
from tokensim.workload.base import Floats

EXPERT_KERNELS = 2
"""Kernels of a routed-experts layer that carry the weights: gate-and-up, then down (vLLM's
``fused_experts``)."""

ATTENTION_KERNELS = 2
"""Kernels of an attention layer: the write of the new keys and values, and attention itself (vLLM runs one
variable-length kernel for prefill chunks and decodes together)."""

ORIGIN = Origin("roofline", "roofline")


@register.operator_cost("roofline")
class Roofline:
    """The roofline of ``setting.device``; implements ``cost.base.OperatorCost``.

    Raises ``InputError`` for a dtype that is unknown or that the device cannot compute in.
    """

    name = "roofline"
    bidirectional = True

    def __init__(self, setting: Setting) -> None:
        self.device = device = setting.device
        self.activation_dtype = setting.activation_dtype
        self._dense = compute_dtype(device, setting.activation_dtype, setting.activation_dtype)
        self._byte_rate = device.memory_bandwidth_bytes_per_s * device.efficiency.memory

    def price(self, operators: Sequence[Operator]) -> Times:
        """See ``OperatorCost.price``: every operator has a time."""
        return {op.name: self._time(op) for op in operators}

    def _time(self, op: Operator) -> RowTime | AttentionTime:
        overhead_s = self.device.efficiency.kernel_overhead_s
        match op:
            case Attention():
                work = attention_work(op, self.activation_dtype)
                rate = self.device.flops[self._dense] * self.device.efficiency.attention
                return AttentionRoofline(
                    work, op.count, rate, self._byte_rate, ATTENTION_KERNELS * overhead_s
                )
            case Collective():
                return collective_time(op, self.device)
            case Gemm() | Experts():
                rate, kernels = (
                    self._gemm_rate(op.weight_dtype),
                    1 if isinstance(op, Gemm) else EXPERT_KERNELS,
                )
            case Elementwise():
                rate, kernels = 1.0, 1
        work_ = row_work(op, self.activation_dtype)
        return RowRoofline(work_, op.count, rate, self._byte_rate, kernels * overhead_s)

    def _gemm_rate(self, weights: str) -> float:
        dtype = compute_dtype(self.device, weights, self.activation_dtype)
        efficiency = self.device.efficiency
        share = efficiency.gemm
        if dtype in LOW_PRECISION and efficiency.gemm_low_precision is not None:
            share = efficiency.gemm_low_precision
        return self.device.flops[dtype] * share


@dataclass(frozen=True, slots=True)
class RowRoofline:
    """``count`` times: the slower of FLOPs at ``flop_rate`` and bytes at ``byte_rate``, plus
    ``overhead_s``."""

    work: RowWork
    count: int
    flop_rate: float
    byte_rate: float
    overhead_s: float

    def seconds(self, rows: Floats) -> Floats:
        """See ``RowTime.seconds``."""
        compute = self.work.flops(rows) / self.flop_rate
        return self.count * (np.maximum(compute, self.work.bytes(rows) / self.byte_rate) + self.overhead_s)

    def origin(self, rows: float) -> Origin:
        """See ``RowTime.origin``."""
        return ORIGIN


@dataclass(frozen=True, slots=True)
class AttentionRoofline:
    """``count`` layers: decode is a line in the sum of contexts; each prefill chunk the slower of its pairs
    and its reads."""

    work: AttentionWork
    count: int
    flop_rate: float
    byte_rate: float
    overhead_s: float

    @property
    def needs_longest(self) -> bool:
        """See ``AttentionTime.needs_longest``."""
        return False

    def decode(self, requests: int) -> DecodeCurve:
        """See ``AttentionTime.decode``."""
        fixed, slope = self._decode(requests)
        return DecodeCurve((0.0, 1.0), (fixed, fixed + slope * requests))

    def mixed(
        self, chunks: Sequence[tuple[int, int]], requests: int, context: float, longest: float
    ) -> float:
        """See ``AttentionTime.mixed``."""
        work = self.work
        pair_s = work.prefill_flops_pair / self.flop_rate
        token_s, query_s = work.bytes_token / self.byte_rate, work.bytes_query / self.byte_rate
        total = 0.0
        for tokens, cached in chunks:
            pairs, reads = pairs_and_reads(tokens, cached, work.window)
            total += max(pair_s * pairs, token_s * reads + query_s * tokens)
        fixed, slope = self._decode(requests)
        return total * self.count + fixed + slope * context

    def origin(
        self, chunks: Sequence[tuple[int, int]], requests: int, context: float, longest: float
    ) -> Origin:
        """See ``AttentionTime.origin``."""
        return ORIGIN

    def _decode(self, requests: int) -> tuple[float, float]:
        """Seconds at no context, and seconds for each token in the sum of contexts."""
        work = self.work
        slope = max(work.flops_pair / self.flop_rate, work.bytes_token / self.byte_rate)
        fixed = self.overhead_s + work.bytes_query / self.byte_rate * requests
        return fixed * self.count, slope * self.count
