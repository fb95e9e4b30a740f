"""What each operator costs on one device: operators with shapes in, plain coefficients out.

The roofline: an operator lasts as long as the slower of its arithmetic (``flops / (peak · efficiency)``) and
its traffic (``bytes / (bandwidth · efficiency)``), plus a fixed overhead for each kernel. Everything but
attention depends only on the number of rows of the step (``RowPrice``); attention depends on the contexts too
(``AttentionPrice``). All coefficients are already multiplied by the operator's ``count``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tokensim.errors import InputError
from tokensim.hardware.base import Device
from tokensim.model.dtypes import BYTES, weight_dtype
from tokensim.model.operators import Attention, Collective, Elementwise, Experts, Gemm, Operator, Rows
from tokensim.workload.base import Floats

EXPERT_KERNELS = 2
"""Kernels of a routed-experts layer that carry the weights: gate-and-up, then down (vLLM's
``fused_experts``)."""

ATTENTION_KERNELS = 2
"""Kernels of an attention layer: the write of the new keys and values, and attention itself (vLLM runs one
variable-length kernel for prefill chunks and decodes together)."""

LINK_EFFICIENCY = 0.7
"""Share of a link's bandwidth that large collectives reach. NCCL all-reduce between 134 and 537 MB on 2, 4
and 8 devices, aiconfigurator-core 0.12 tables: 0.73, 0.80 on H100, 0.66 to 0.77 on A100, 0.61 to 0.84 on
B200, 0.62 on two RTX PRO 6000 over PCIe 5. (NVIDIA/nccl-tests issue 212 puts the protocol's own overhead at
20 %.)"""

COLLECTIVE_BASE_S = 4e-6
"""Fixed time of a small collective besides its hops: vLLM's all-reduce of 16 KB in a CUDA graph takes 4.5 to
5.3 µs on 2 to 8 H100, 5.3 to 6.5 µs on A100, 5.1 µs on two RTX PRO 6000 (aiconfigurator-core 0.12 tables),
two hops included."""

LOW_PRECISION = ("fp8", "fp4")
"""Weight dtypes that are multiplied as they are where the device can."""

_SIXTEEN_BIT = {
    "bfloat16": ("bfloat16", "float16", "float32"),
    "float16": ("float16", "bfloat16", "float32"),
    "float32": ("float32",),
}


@dataclass(frozen=True, slots=True)
class RowPrice:
    """An operator whose time depends on the number of rows (tokens or samples) alone.

    Seconds: ``max(compute_s·r, fixed_s + row_s·r + routed_s·(1 - miss^r)) + network_s + network_row_s·r +
    overhead_s``. ``routed`` is the traffic of expert weights, of which a step of ``r`` tokens is expected to
    touch the share ``1 - miss^r``.
    """

    operator: str
    kind: str
    rows: Rows
    flops_row: float
    bytes_fixed: float
    bytes_row: float
    bytes_routed: float
    miss: float
    compute_s: float
    fixed_s: float
    row_s: float
    routed_s: float
    network_s: float
    network_row_s: float
    overhead_s: float

    def seconds(self, rows: int) -> float:
        """Seconds for ``rows`` ≥ 1."""
        compute = self.compute_s * rows
        memory = self.fixed_s + self.row_s * rows + self.routed_s * self.hit(float(rows))
        return max(compute, memory) + self.network_s + self.network_row_s * rows + self.overhead_s

    def hit(self, rows: float) -> float:
        """The share of this rank's experts that ``rows`` tokens are expected to touch."""
        return 1.0 - math.pow(self.miss, rows)

    def memory_seconds(self, rows: Floats) -> Floats:
        """Seconds that the traffic takes, for each number of ``rows``."""
        return self.fixed_s + self.row_s * rows + self.routed_s * (1.0 - np.power(self.miss, rows))

    def traffic(self, rows: Floats) -> Floats:
        """Bytes moved for each number of ``rows``."""
        return (
            self.bytes_fixed + self.bytes_row * rows + self.bytes_routed * (1.0 - np.power(self.miss, rows))
        )


@dataclass(frozen=True, slots=True)
class AttentionPrice:
    """The part of attention that depends on contexts; ``window`` caps them (None: full attention).

    A *pair* is one query token looking at one cached token. Decode is the slower of arithmetic and traffic, a
    line through the origin in the sum of contexts (``decode_s``), plus ``query_s`` a request for queries and
    outputs. A prefill chunk is the slower of ``pair_s·pairs`` and ``token_s·(tokens read) + query_s·(new
    tokens)``.
    """

    operator: str
    window: int | None
    flops_pair: float
    prefill_flops_pair: float
    bytes_token: float
    bytes_query: float
    pair_s: float
    token_s: float
    query_s: float
    decode_s: float
    decode_bound: str  # compute | memory


def pairs_and_reads(tokens: int, cached: int, window: int | None) -> tuple[int, int]:
    """(query, context) pairs of a causal chunk of ``tokens`` after ``cached``, and tokens that it reads.

    Query ``i`` (from 1) sees ``min(cached + i, window)`` tokens, itself among them.
    """
    if window is None or cached + tokens <= window:
        return tokens * cached + tokens * (tokens + 1) // 2, cached + tokens
    under = max(0, window - cached)  # queries that still see everything
    return under * cached + under * (under + 1) // 2 + (tokens - under) * window, min(
        cached + tokens, window + tokens - 1
    )


def pairs_and_reads_array(tokens: Floats, cached: Floats, window: int | None) -> tuple[Floats, Floats]:
    """``pairs_and_reads`` for arrays of chunks."""
    if window is None:
        return tokens * cached + tokens * (tokens + 1) / 2, cached + tokens
    under = np.clip(window - cached, 0.0, tokens)
    pairs = under * cached + under * (under + 1) / 2 + (tokens - under) * window
    return pairs, np.minimum(cached + tokens, window + tokens - 1)


def compute_dtype(device: Device, weights: str, activation_dtype: str) -> str:
    """The dtype in which ``device`` multiplies weights stored as ``weights``; raises ``InputError`` if there
    is none.

    ``fp8`` and ``fp4`` weights use the device's units of that dtype where it has them. All other quantised
    weights are expanded to the activation dtype first (weight-only, as vLLM's Marlin kernels do). A device
    without the activation dtype runs in the other 16-bit dtype (V100 and T4 have no bfloat16: vLLM asks for
    ``--dtype half`` there), then in float32.
    """
    weights = weight_dtype(weights)
    if weights in LOW_PRECISION and weights in device.flops:
        return weights
    ladder = _SIXTEEN_BIT.get(activation_dtype)
    if ladder is None:
        raise InputError(
            f"activations cannot be '{activation_dtype}'",
            where="weights",
            hint="known: " + ", ".join(_SIXTEEN_BIT),
        )
    for dtype in ladder:
        if dtype in device.flops:
            return dtype
    raise InputError(
        f"{device.name} cannot compute in {activation_dtype}",
        where=f"hardware '{device.id}'",
        hint="its peak rates are given for " + (", ".join(sorted(device.flops)) or "nothing"),
    )


def price_operators(
    operators: Sequence[Operator], device: Device, activation_dtype: str
) -> tuple[list[RowPrice], list[AttentionPrice]]:
    """The coefficients of every operator; an ``Attention`` gives one of each kind.

    Raises ``InputError`` for a dtype that is unknown or that the device cannot compute in.
    """
    rows: list[RowPrice] = []
    attention: list[AttentionPrice] = []
    pricer = _Pricer(device, activation_dtype)
    for operator in operators:
        match operator:
            case Gemm():
                rows.append(pricer.gemm(operator))
            case Experts():
                rows.append(pricer.experts(operator))
            case Elementwise():
                rows.append(pricer.elementwise(operator))
            case Collective():
                rows.append(pricer.collective(operator))
            case Attention():
                rows.append(pricer.cache_write(operator))
                attention.append(pricer.attention(operator))
    return rows, attention


class _Pricer:
    """Turns one operator after another into coefficients for one device."""

    def __init__(self, device: Device, activation_dtype: str) -> None:
        self.device = device
        self.activation_dtype = activation_dtype
        compute_dtype(
            device, activation_dtype, activation_dtype
        )  # refuses a device that cannot run it at all
        self.activation_bytes = BYTES[activation_dtype]
        self.byte_rate = device.memory_bandwidth_bytes_per_s * device.efficiency.memory

    def gemm(self, op: Gemm) -> RowPrice:
        """Weights once, activations in and out for each row."""
        return self._row(
            op.name,
            "gemm",
            op.rows,
            op.count,
            flops_row=2.0 * op.n * op.k,
            flop_rate=self._gemm_rate(op.weight_dtype),
            bytes_fixed=op.n * op.k * BYTES[weight_dtype(op.weight_dtype)],
            bytes_row=(op.n + op.k) * self.activation_bytes,
        )

    def experts(self, op: Experts) -> RowPrice:
        """The weights of the experts that are expected to be hit, uniformly routed; compute for the rows that
        stay here."""
        weights = float(op.gemms * op.hidden * op.intermediate)
        share = op.top_k * op.experts / op.total_experts  # expert rows on this rank for each token
        return self._row(
            op.name,
            "moe",
            "tokens",
            op.count,
            flops_row=2.0 * weights * share,
            flop_rate=self._gemm_rate(op.weight_dtype),
            bytes_row=share * (2 * op.hidden + op.gemms * op.intermediate) * self.activation_bytes,
            bytes_routed=op.experts * weights * BYTES[weight_dtype(op.weight_dtype)],
            miss=1.0 - op.top_k / op.total_experts,
            kernels=EXPERT_KERNELS,
        )

    def elementwise(self, op: Elementwise) -> RowPrice:
        """Traffic alone."""
        return self._row(op.name, "elementwise", op.rows, op.count, bytes_row=op.bytes_per_row)

    def cache_write(self, op: Attention) -> RowPrice:
        """The new keys and values of each token go into the cache; the kernels of attention start."""
        return self._row(
            op.name,
            "attention",
            "tokens",
            op.count,
            bytes_row=op.kv_bytes_per_token,
            kernels=ATTENTION_KERNELS,
        )

    def attention(self, op: Attention) -> AttentionPrice:
        """Scores and weighted sum: ``2·heads·(qk + v)`` FLOPs a pair; the cache is read once a chunk or
        decode."""
        rate = (
            self.device.flops[compute_dtype(self.device, self.activation_dtype, self.activation_dtype)]
            * self.device.efficiency.attention
        )
        prefill_qk, prefill_v = op.prefill_dims or (op.qk_dim, op.v_dim)
        flops_pair = 2.0 * op.heads * (op.qk_dim + op.v_dim) * op.count
        prefill_flops_pair = 2.0 * op.heads * (prefill_qk + prefill_v) * op.count
        bytes_token = op.kv_bytes_per_token * op.count
        bytes_query = op.heads * (op.qk_dim + op.v_dim) * self.activation_bytes * op.count
        compute_s, memory_s = flops_pair / rate, bytes_token / self.byte_rate
        return AttentionPrice(
            operator=op.name,
            window=op.window,
            flops_pair=flops_pair,
            prefill_flops_pair=prefill_flops_pair,
            bytes_token=bytes_token,
            bytes_query=bytes_query,
            pair_s=prefill_flops_pair / rate,
            token_s=memory_s,
            query_s=bytes_query / self.byte_rate,
            decode_s=max(compute_s, memory_s),
            decode_bound="compute" if compute_s > memory_s else "memory",
        )

    def collective(self, op: Collective) -> RowPrice:
        """A ring: every hop waits for the slowest link, which is the network once the ring leaves the node.

        Where every device reaches every other directly, a phase has one hop (vLLM's custom all-reduce).
        Traffic is a ring's in both cases. ``bytes_per_row`` is the buffer of a rank: what it holds
        (all_reduce, reduce_scatter), contributes (all_gather), or sends in sum (all_to_all).
        """
        p = op.ranks
        if p <= 1:
            return self._row(op.name, "collective", op.rows, op.count, kernels=0)
        phases, share = {
            "all_reduce": (2, 2 * (p - 1) / p),
            "reduce_scatter": (1, (p - 1) / p),
            "all_gather": (1, float(p - 1)),
            "all_to_all": (1, (p - 1) / p),
        }[op.kind]
        inside, outside = self.device.intra_node, self.device.inter_node
        latency, bandwidth, direct = inside.latency_s, inside.bandwidth_bytes_per_s, inside.direct
        if p > self.device.devices_per_node:
            latency = max(latency, outside.latency_s)
            bandwidth = min(bandwidth, outside.bandwidth_bytes_per_s)
            direct = False
        hops = phases * (1 if direct else p - 1)
        return self._row(
            op.name,
            "collective",
            op.rows,
            op.count,
            network_s=COLLECTIVE_BASE_S + hops * latency,
            network_row_s=share * op.bytes_per_row / (bandwidth * LINK_EFFICIENCY),
            kernels=0,
        )

    def _gemm_rate(self, weights: str) -> float:
        dtype = compute_dtype(self.device, weights, self.activation_dtype)
        efficiency = self.device.efficiency
        share = efficiency.gemm
        if dtype in LOW_PRECISION and efficiency.gemm_low_precision is not None:
            share = efficiency.gemm_low_precision
        return self.device.flops[dtype] * share

    def _row(
        self,
        name: str,
        kind: str,
        rows: Rows,
        count: int,
        *,
        flops_row: float = 0.0,
        flop_rate: float = 1.0,
        bytes_fixed: float = 0.0,
        bytes_row: float = 0.0,
        bytes_routed: float = 0.0,
        miss: float = 1.0,
        network_s: float = 0.0,
        network_row_s: float = 0.0,
        kernels: int = 1,
    ) -> RowPrice:
        return RowPrice(
            operator=name,
            kind=kind,
            rows=rows,
            flops_row=flops_row * count,
            bytes_fixed=bytes_fixed * count,
            bytes_row=bytes_row * count,
            bytes_routed=bytes_routed * count,
            miss=miss,
            compute_s=flops_row * count / flop_rate,
            fixed_s=bytes_fixed * count / self.byte_rate,
            row_s=bytes_row * count / self.byte_rate,
            routed_s=bytes_routed * count / self.byte_rate,
            network_s=network_s * count,
            network_row_s=network_row_s * count,
            overhead_s=self.device.efficiency.kernel_overhead_s * kernels * count,
        )
