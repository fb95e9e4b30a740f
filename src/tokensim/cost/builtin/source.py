"""The shipped model as a source of operator times: ``builtin``.

A device that was measured is priced with its own coefficients. Any other GPU borrows those of the nearest
measured architecture: the way efficiency depends on shape is the lender's, while its level follows what the
catalog says of both devices (shares of the peaks that kernels reach, and the overhead of a kernel). What is
not a GPU is not priced.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, cast

from tokensim.cost.base import AttentionTime, Origin, RowTime, Setting, Times
from tokensim.cost.builtin.attention import Layer, ShippedAttention
from tokensim.cost.builtin.attention_forms import DecodeForm, PrefillForm
from tokensim.cost.builtin.coefficients import Fit, Measured, lenders
from tokensim.cost.builtin.rates import LOW_PRECISION, peak_dtype, stand_ins, stored_bytes
from tokensim.cost.builtin.row_forms import CollectiveForm, ExpertsForm, GemmForm, StreamForm
from tokensim.cost.builtin.rows import ShippedCollective, ShippedExperts, ShippedGemm, ShippedStream
from tokensim.cost.tables.attention import unsplit
from tokensim.hardware.base import Device
from tokensim.model.dtypes import kv_bytes, weight_dtype
from tokensim.model.operators import Attention, Collective, Elementwise, Experts, Gemm, Operator
from tokensim.registry import register

KERNELS = {"sampling": 9}
"""Kernels of an elementwise operator where they are more than one. Sampling one sequence takes 25 µs on an
RTX 4090 and on an RTX PRO 6000, where a norm takes 1.9 and 2.4 µs and an activation 2.6 (LLMServingSim 2.0
profiles of Llama-3.1-8B, vLLM 0.19, MIT licence)."""


@register.operator_cost("builtin")
class Builtin:
    """The shipped model for ``setting``; implements ``cost.base.OperatorCost``.

    ``like``: the device whose coefficients are taken (None: that of the setting).
    Raises ``InputError`` for weights or a KV cache in an unknown format.
    """

    name = "builtin"

    def __init__(self, setting: Setting, like: Device | None = None) -> None:
        self.device = setting.device
        self._measured_links = setting.measured_links
        self._kv_dtype = "fp8" if kv_bytes(setting.kv_dtype) == 1.0 else "bfloat16"
        self._lenders = lenders(like or setting.device)
        self._walks = unsplit(setting)

    def price(self, operators: Sequence[Operator]) -> Times:
        """See ``OperatorCost.price``: every operator on a GPU, but collectives among numbers of ranks that
        were not measured on it."""
        times: dict[str, RowTime | AttentionTime] = {}
        for op in operators:
            for lender in self._lenders:
                time = self._time(op, lender)
                if time is not None:
                    times[op.name] = time
                    break
        return times

    def _time(self, op: Operator, lender: Measured) -> RowTime | AttentionTime | None:
        match op:
            case Gemm():
                return self._gemm(op, lender)
            case Experts():
                return self._experts(op, lender)
            case Attention():
                return self._attention(op, lender)
            case Elementwise():
                return self._stream(op, lender)
            case Collective():
                return self._collective(op, lender)

    def _gemm(self, op: Gemm, lender: Measured) -> RowTime | None:
        found = self._weights_fit(op.weight_dtype, "gemm", lender)
        if found is None:
            return None
        fit, rate = found
        form = cast(GemmForm, fit.form).sustained()
        weight = stored_bytes(op.weight_dtype)
        return ShippedGemm(form, op, weight, rate, self._byte_rate(lender), self._origin(fit, lender))

    def _experts(self, op: Experts, lender: Measured) -> RowTime | None:
        # Published fp8 experts have a scale a block; see ``cost.tables.formats.expert_formats``.
        weights = "fp8_block" if weight_dtype(op.weight_dtype) == "fp8" else op.weight_dtype
        found = self._weights_fit(weights, "experts", lender)
        if found is None:
            return None
        fit, rate = found
        form = cast(ExpertsForm, fit.form)
        weight = stored_bytes(op.weight_dtype)
        return ShippedExperts(form, op, weight, rate, self._byte_rate(lender), self._origin(fit, lender))

    def _attention(self, op: Attention, lender: Measured) -> AttentionTime | None:
        latent = op.prefill_dims is not None
        wanted = "_latent" if latent else "" if op.window is None else "_window"
        decode, prefill = (self._cache_fit(name, wanted, lender) for name in ("decode", "prefill"))
        dense = peak_dtype("bfloat16", self.device)
        if decode is None or prefill is None or dense is None:
            return None
        rate = self.device.flops[dense] * self.device.efficiency.attention / lender.reference.attention
        return ShippedAttention(
            cast(DecodeForm, decode.form),
            cast(PrefillForm, prefill.form),
            Layer.of(op),
            rate,
            self._byte_rate(lender),
            (self._origin(decode, lender), self._origin(prefill, lender)),
            walks=self._walks and not latent,
        )

    def _stream(self, op: Elementwise, lender: Measured) -> RowTime | None:
        fit = lender.fits.get("elementwise", {}).get("bfloat16")
        if fit is None:
            return None
        fit = self._carried(fit, lender)
        kernels = KERNELS.get(op.name, 1)
        form = cast(StreamForm, fit.form)
        return ShippedStream(form, op, kernels, self._byte_rate(lender), self._origin(fit, lender))

    def _collective(self, op: Collective, lender: Measured) -> RowTime | None:
        fit = lender.fits.get(op.kind, {}).get(str(op.ranks))
        if fit is None or lender.id != self.device.id:  # links differ more than chips do
            return None
        if not self._measured_links(op.ranks):
            return None
        return ShippedCollective(cast(CollectiveForm, fit.form), op, self._origin(fit, lender))

    def _weights_fit(self, weights: str, kind: str, lender: Measured) -> tuple[Fit, float] | None:
        """The fit for ``weights`` and the rate at which it computes."""
        for name in stand_ins(weights, self.device):
            fit, peak = lender.fits.get(kind, {}).get(name), peak_dtype(name, self.device)
            if fit is not None and peak is not None:
                return self._carried(fit, lender), self.device.flops[peak] * self._gemm_ratio(peak, lender)
        return None

    def _cache_fit(self, name: str, suffix: str, lender: Measured) -> Fit | None:
        """The fit of attention for the KV cache's format; that for 16 bits, or full attention, failing it."""
        for kind in dict.fromkeys((name + suffix, name)):
            for dtype in dict.fromkeys((self._kv_dtype, "bfloat16")):
                fit = lender.fits.get(kind, {}).get(dtype)
                if fit is not None:
                    return self._carried(fit, lender)
        return None

    def _gemm_ratio(self, peak: str, lender: Measured) -> float:
        """How much larger a share of the peak the catalog gives this device than the lender."""
        mine, its = self.device.efficiency, lender.reference
        if peak in LOW_PRECISION:
            share = mine.gemm if mine.gemm_low_precision is None else mine.gemm_low_precision
            return share / its.gemm_low_precision
        return mine.gemm / its.gemm

    def _byte_rate(self, lender: Measured) -> float:
        device = self.device
        return device.memory_bandwidth_bytes_per_s * device.efficiency.memory / lender.reference.memory

    def _carried(self, fit: Fit, lender: Measured) -> Fit:
        """``fit`` with its launch on this device."""
        ratio = self.device.efficiency.kernel_overhead_s / lender.reference.launch_s
        if ratio == 1.0:
            return fit
        form: Any = fit.form
        return dataclasses.replace(fit, form=dataclasses.replace(form, launch_s=form.launch_s * ratio))

    def _origin(self, fit: Fit, lender: Measured) -> Origin:
        if lender.id == self.device.id:
            return Origin("fitted", f"builtin ({lender.id})", fit.error)
        kin = "nearest architecture" if lender is self._lenders[0] else "nearest measured device"
        return Origin("fitted", f"builtin (coefficients of {lender.id}, {kin})", fit.error)
