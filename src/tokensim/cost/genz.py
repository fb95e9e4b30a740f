"""GenZ as a source of operator times: an outside compute simulator behind the public interface.

GenZ (``pip install genz-llm``, MIT licence; Bambhaniya et al., "Demystifying AI Platform Design for
Distributed Inference of Next-Generation LLM models", 2024) is an analytic model of operators on a ``System``
of FLOP/s, bandwidths and links. Its operators are asked at a grid of sizes, once, and what they answer is
interpolated: the way to plug in any simulator that is too slow to be asked in the loop. Kernel launches are
not in GenZ's model.

What GenZ does not express is left to the next source: weight-only quantisation (it has one number format an
operator), latent attention, elementwise operators, reduce-scatter, and collectives that leave the node.
"""

from __future__ import annotations

import importlib
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from tokensim.cost.base import AttentionTime, DecodeCurve, Origin, RowTime, Setting, Times
from tokensim.cost.collectives import LINK_EFFICIENCY
from tokensim.cost.work import compute_dtype, pairs_and_reads
from tokensim.errors import InputError
from tokensim.model.dtypes import BYTES, weight_dtype
from tokensim.model.operators import Attention, Collective, Experts, Gemm, Operator
from tokensim.registry import register
from tokensim.workload.base import Floats

ROWS = tuple(dict.fromkeys(int(2 ** (i / 4)) for i in range(4 * 17 + 1)))
"""Row counts at which GenZ is asked, four an octave up to 131072; straight lines between them."""

QUERIES = tuple(4**i for i in range(9))
"""New tokens of a prefill chunk at which GenZ is asked, up to 65536."""

KEYS = tuple(4**i for i in range(11))
"""Tokens that each of them attends to at which GenZ is asked, up to 1048576; also contexts of decodes."""

BITS = {"bfloat16": "bf16", "float16": "bf16", "float32": "f32", "fp8": "fp8", "int8": "int8", "fp4": "fp4"}
"""Our number formats in GenZ's terms (it has one of 16 bits)."""

SYNCS = {"all_reduce": "AllReduce", "all_gather": "AllGather", "all_to_all": "All2All"}
"""Our collectives in GenZ's terms; it declares reduce-scatter and has no model of it."""


@register.operator_cost("genz")
class GenzCost:
    """GenZ's operators on ``setting.device``; implements ``cost.base.OperatorCost``.

    Peaks, bandwidths, links and the efficiencies are the device's own (they go into GenZ's ``System``).
    Raises ``InputError`` if GenZ is not installed or the device cannot compute in the dtypes.
    """

    name = "GenZ"

    def __init__(self, setting: Setting) -> None:
        self._genz = _load()
        self._setting = setting
        self._unit = self._genz.unit.Unit()
        self._origin = Origin("roofline", f"GenZ {self._genz.release}")
        compute_dtype(setting.device, setting.activation_dtype, setting.activation_dtype)

    def price(self, operators: Sequence[Operator]) -> Times:
        """See ``OperatorCost.price``."""
        times: dict[str, RowTime | AttentionTime] = {}
        for op in operators:
            time: RowTime | AttentionTime | None = None
            match op:
                case Gemm():
                    time = self._gemm(op)
                case Experts():
                    time = self._experts(op)
                case Attention():
                    time = self._attention(op)
                case Collective():
                    time = self._collective(op)
            if time is not None:
                times[op.name] = time
        return times

    def _gemm(self, op: Gemm) -> RowTime | None:
        system = self._gemm_system(op.weight_dtype)
        if system is None:
            return None
        return self._sampled(lambda rows: self._seconds("FC", (rows, op.n, op.k), system), op.count)

    def _experts(self, op: Experts) -> RowTime | None:
        """As GenZ's own models do: the experts that are expected to be hit (uniform routing) side by side in
        one wide GEMM, each with its share of the rows."""
        system = self._gemm_system(op.weight_dtype)
        if system is None:
            return None
        miss = (1.0 - op.top_k / op.total_experts) ** op.replicas
        routed = op.replicas * op.top_k * op.experts / op.total_experts

        def seconds(rows: int) -> float:
            hit = max(1, round(op.experts * (1.0 - miss**rows)))
            each = max(1, round(rows * routed / hit))
            width = hit * op.intermediate
            up = self._seconds("GEMM", (1, (op.gemms - 1) * width, each, op.hidden), system)
            return up + self._seconds("GEMM", (1, op.hidden, each, width), system)

        return self._sampled(seconds, op.count)

    def _attention(self, op: Attention) -> AttentionTime | None:
        """Scores and weighted sum, the scores kept on the chip. GenZ counts every pair of query and key: it
        is given the keys that a query of a causal chunk sees on average; all are read at least once."""
        kv = BITS.get(self._setting.kv_dtype)
        if op.prefill_dims is not None or kv is None or op.heads % op.kv_heads:
            return None
        dtype = self._setting.activation_dtype
        system = self._system(kv, dtype, self._setting.device.efficiency.attention)

        def seconds(batch: int, queries: int, keys: int) -> float:
            shape = (batch, op.heads, queries, keys)
            scores = self._seconds("Logit", (*shape, op.qk_dim, op.kv_heads), system, on_chip="output")
            summed = self._seconds("Attend", (*shape, op.v_dim, op.kv_heads), system, on_chip="input_a")
            return op.count * (scores + summed)

        return GenzAttention(seconds, op.window, self._origin)

    def _collective(self, op: Collective) -> RowTime | None:
        if op.kind not in SYNCS or op.ranks > self._setting.device.devices_per_node:
            return None
        system = self._system("bf16", self._setting.activation_dtype, 1.0, op.ranks)
        kind = getattr(self._genz.models.CollectiveType, SYNCS[op.kind])
        row = op.bytes_per_row * (op.ranks if op.kind == "all_gather" else 1)  # GenZ counts what is gathered
        return self._sampled(
            lambda rows: self._seconds("Sync", (1, 1, max(1, round(rows * row / 2)), op.ranks, kind), system),
            op.count,
        )

    def _gemm_system(self, weights: str) -> Any | None:
        """The system for weights that are multiplied as they are stored; None for all others."""
        setting = self._setting
        dtype = compute_dtype(setting.device, weights, setting.activation_dtype)
        if BYTES[dtype] != BYTES[weight_dtype(weights)]:
            return None
        efficiency = setting.device.efficiency
        share = efficiency.gemm
        if dtype != setting.activation_dtype and efficiency.gemm_low_precision is not None:
            share = efficiency.gemm_low_precision
        return self._system(BITS[dtype], dtype, share)

    def _system(self, bits: str, dtype: str, efficiency: float, ranks: int = 1) -> Any:
        """GenZ's ``System``: numbers of ``bits`` in memory, multiplied at the device's peak for ``dtype``."""
        device = self._setting.device
        make = self._genz.system.System
        peak = device.flops[compute_dtype(device, dtype, self._setting.activation_dtype)]
        gib = 2.0**30  # GenZ's GB/s are binary
        return make(
            flops=peak * make.compute_multiplier[bits] / 1e12,  # it divides by the multiplier of the format
            bits=bits,
            offchip_mem_bw=device.memory_bandwidth_bytes_per_s / gib,
            onchip_mem_bw=float("inf"),
            compute_efficiency=efficiency,
            memory_efficiency=device.efficiency.memory,
            comm_efficiency=LINK_EFFICIENCY,
            interchip_link_bw=device.intra_node.bandwidth_bytes_per_s / gib,
            interchip_link_latency=device.intra_node.latency_s * 1e6,
            num_nodes=ranks,
        )

    def _seconds(
        self, operator: str, shape: tuple[Any, ...], system: Any, on_chip: str | None = None
    ) -> float:
        """What GenZ says of one operator; ``on_chip``: the tensor that never leaves the chip."""
        kind = getattr(self._genz.models.OpType, operator)
        op = getattr(self._genz.operators, operator)([operator, *shape, kind], (1.0, 1.0, 1.0))
        if on_chip:
            op.set_mem_pin(**{on_chip: "on"})
        return float(op.get_roofline(system, self._unit)["Latency (msec)"]) * 1e-3

    def _sampled(self, seconds: Callable[[int], float], count: int) -> RowTime:
        values = np.array([seconds(rows) for rows in ROWS])
        return GenzRows(np.array(ROWS, float), values * count, self._origin)


@dataclass(frozen=True, slots=True)
class GenzRows:
    """A ``RowTime`` through GenZ's answers at ``rows``; the last line goes on."""

    rows: Floats
    answers: Floats
    where: Origin

    def seconds(self, rows: Floats) -> Floats:
        """See ``RowTime.seconds``."""
        slope = (self.answers[-1] - self.answers[-2]) / (self.rows[-1] - self.rows[-2])
        beyond = np.maximum(rows - self.rows[-1], 0.0) * slope
        return np.asarray(np.interp(rows, self.rows, self.answers) + beyond)

    def origin(self, rows: float) -> Origin:
        """See ``RowTime.origin``."""
        return self.where


class GenzAttention:
    """An ``AttentionTime``: ``seconds(batch, queries, keys)`` of GenZ, asked at a grid."""

    needs_longest = False

    def __init__(self, seconds: Callable[[int, int, int], float], window: int | None, origin: Origin) -> None:
        self._seconds = seconds
        self._window = window
        self._origin = origin
        self._chunk = [[seconds(1, queries, keys) for keys in KEYS] for queries in QUERIES]
        self._curves: dict[int, DecodeCurve] = {}

    def decode(self, requests: int) -> DecodeCurve:
        """See ``AttentionTime.decode``."""
        try:
            return self._curves[requests]
        except KeyError:
            seconds = tuple(self._seconds(requests, 1, keys) for keys in KEYS)
            curve = self._curves[requests] = DecodeCurve(tuple(map(float, KEYS)), seconds)
            return curve

    def mixed(
        self, chunks: Sequence[tuple[int, int]], requests: int, context: float, longest: float
    ) -> float:
        """See ``AttentionTime.mixed``: chunks and decodes one after another."""
        total = 0.0
        for tokens, cached in chunks:
            pairs, reads = pairs_and_reads(tokens, cached, self._window)
            total += max(self._of_chunk(tokens, pairs / tokens), self._of_chunk(1, reads))
        if requests:
            curve = self.decode(requests)
            total += _line(curve.contexts, curve.seconds, context / requests)
        return total

    def origin(
        self, chunks: Sequence[tuple[int, int]], requests: int, context: float, longest: float
    ) -> Origin:
        """See ``AttentionTime.origin``."""
        return self._origin

    def _of_chunk(self, queries: int, keys: float) -> float:
        """Linear in both, which is exact between knees: work is a product, traffic a sum."""
        i = _piece(QUERIES, queries)
        two = (_line(KEYS, self._chunk[i], keys), _line(KEYS, self._chunk[i + 1], keys))
        return _line(QUERIES[i : i + 2], two, queries)


def _piece(x: Sequence[float], at: float) -> int:
    return min(max(bisect_right(x, at) - 1, 0), len(x) - 2)


def _line(x: Sequence[float], y: Sequence[float], at: float) -> float:
    """``y`` at ``at``, straight between ``x``; the first and the last piece go on."""
    i = _piece(x, at)
    return y[i] + (y[i + 1] - y[i]) * (at - x[i]) / (x[i + 1] - x[i])


@dataclass(frozen=True, slots=True)
class _Genz:
    """The modules of GenZ that are used."""

    operators: ModuleType
    system: ModuleType
    unit: ModuleType
    models: ModuleType
    release: str


def _load() -> _Genz:
    """GenZ, imported now (it loads plotting libraries: seconds); raises ``InputError`` if it is absent."""
    from importlib.metadata import version

    try:
        operators, system, unit, models = (
            importlib.import_module(f"GenZ.{name}") for name in ("operators", "system", "unit", "Models")
        )
        return _Genz(operators, system, unit, models, version("genz-llm"))
    except ImportError as error:
        raise InputError(
            f"GenZ cannot be imported: {error}",
            where="performance.operators",
            hint="install it: pip install 'tokensim[genz]'",
        ) from error
