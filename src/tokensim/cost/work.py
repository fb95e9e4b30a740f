"""What an operator has to do, whatever does it: FLOPs, bytes, pairs of tokens; and in which dtype.

Everything but attention depends only on the number of rows of the step (``RowWork``); attention depends on
the contexts too (``AttentionWork``). All figures are of one run of the operator: multiply by ``count``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tokensim.errors import InputError
from tokensim.hardware.base import Device
from tokensim.model.dtypes import BYTES, weight_dtype
from tokensim.model.operators import Attention, Collective, Elementwise, Experts, Gemm
from tokensim.model.routing import ExpertLoad
from tokensim.workload.base import Floats

LOW_PRECISION = ("fp8", "fp4")
"""Weight dtypes that are multiplied as they are where the device can."""

_SIXTEEN_BIT = {
    "bfloat16": ("bfloat16", "float16", "float32"),
    "float16": ("float16", "bfloat16", "float32"),
    "float32": ("float32",),
}


@dataclass(frozen=True, slots=True)
class RowWork:
    """FLOPs and bytes of an operator, by the number of rows. ``routed`` is the traffic of expert weights, of
    which a step of ``r`` tokens is expected to touch the share ``1 - miss^r`` (uniform routing)."""

    flops_row: float = 0.0
    bytes_fixed: float = 0.0
    bytes_row: float = 0.0
    bytes_routed: float = 0.0
    miss: float = 1.0

    def flops(self, rows: Floats) -> Floats:
        """FLOPs for each number of ``rows``."""
        return self.flops_row * rows

    def bytes(self, rows: Floats) -> Floats:
        """Bytes moved for each number of ``rows``."""
        return (
            self.bytes_fixed + self.bytes_row * rows + self.bytes_routed * (1.0 - np.power(self.miss, rows))
        )


@dataclass(frozen=True, slots=True)
class AttentionWork:
    """A *pair* is one query token looking at one cached token; ``window`` caps the tokens seen.

    ``bytes_token`` is read for each token of context, ``bytes_query`` moved for each new token (query,
    output, and the write of its key and value).
    """

    window: int | None
    flops_pair: float
    prefill_flops_pair: float
    bytes_token: float
    bytes_query: float


@dataclass(frozen=True, slots=True)
class RoutedWork(RowWork):
    """Experts under a given ``load``: ``flops_row`` and ``bytes_row`` are of a visit, ``bytes_routed`` of the
    weights of an expert; ``replicas`` bring their tokens."""

    load: ExpertLoad | None = None
    replicas: int = 1

    def flops(self, rows: Floats) -> Floats:
        """FLOPs of the busiest rank for each number of ``rows``."""
        assert self.load is not None
        return np.asarray(self.flops_row * self.load.rows(rows * self.replicas))

    def bytes(self, rows: Floats) -> Floats:
        """Bytes moved by the busiest rank for each number of ``rows``."""
        assert self.load is not None
        tokens = rows * self.replicas
        return np.asarray(
            self.bytes_row * self.load.rows(tokens) + self.bytes_routed * self.load.hits(tokens)
        )


def row_work(op: Gemm | Experts | Elementwise | Collective, activation_dtype: str) -> RowWork:
    """The work of an operator that depends on rows alone; a collective moves its payload once."""
    x = BYTES[activation_dtype]
    match op:
        case Gemm():  # weights once, activations in and out for each row
            return RowWork(
                flops_row=2.0 * op.n * op.k,
                bytes_fixed=op.n * op.k * BYTES[weight_dtype(op.weight_dtype)],
                bytes_row=(op.n + op.k) * x,
            )
        case Experts():  # weights of the experts that are expected to be hit; rows that stay on this rank
            weights = float(op.gemms * op.hidden * op.intermediate)
            if op.load is not None:
                return RoutedWork(
                    flops_row=2.0 * weights,
                    bytes_row=(2 * op.hidden + op.gemms * op.intermediate) * x,
                    bytes_routed=weights * BYTES[weight_dtype(op.weight_dtype)],
                    load=op.load,
                    replicas=op.replicas,
                )
            share = op.replicas * op.top_k * op.experts / op.total_experts
            return RowWork(
                flops_row=2.0 * weights * share,
                bytes_row=share * (2 * op.hidden + op.gemms * op.intermediate) * x,
                bytes_routed=op.experts * weights * BYTES[weight_dtype(op.weight_dtype)],
                miss=(1.0 - op.top_k / op.total_experts) ** op.replicas,
            )
        case Elementwise() | Collective():
            return RowWork(bytes_row=op.bytes_per_row)


def attention_work(op: Attention, activation_dtype: str) -> AttentionWork:
    """Scores and weighted sum: ``2·heads·(qk + v)`` FLOPs a pair; the cache is read once for each chunk or
    decode."""
    x = BYTES[activation_dtype]
    qk, v = op.prefill_dims or (op.qk_dim, op.v_dim)
    # A causal chunk of n tokens has n(n + 1)/2 pairs; without the mask there are n², all but n of twice that.
    seen = 1.0 if op.causal else 2.0
    return AttentionWork(
        window=op.window,
        flops_pair=2.0 * op.heads * (op.qk_dim + op.v_dim),
        prefill_flops_pair=seen * 2.0 * op.heads * (qk + v),
        bytes_token=op.kv_bytes_per_token,
        bytes_query=op.heads * (op.qk_dim + op.v_dim) * x + op.kv_bytes_per_token,
    )


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
