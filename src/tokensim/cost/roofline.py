"""The plain roofline as a step cost: compiled once into coefficients, then a few additions a step.

A step of ``m`` tokens, ``s`` samples, ``n`` decodes with context sum ``C`` and some prefill chunks lasts

    host + rows(m, s) + query·n + slope·C + window_slope·W + Σ chunks max(pairs, bytes)

``rows`` is remembered for every ``m`` and ``s`` that occurred, so that the loop of the engine never walks
operators. Two things that real engines do are left to measured tables: CUDA graphs pad a decode batch to the
next captured size, and attention kernels lose occupancy on short chunks over long contexts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from tokensim.cost.base import DecodeLine, OperatorTime, StepColumns
from tokensim.cost.pricing import (
    AttentionPrice,
    RowPrice,
    pairs_and_reads,
    pairs_and_reads_array,
    price_operators,
)
from tokensim.errors import InputError
from tokensim.hardware.base import Device
from tokensim.model.operators import Operator
from tokensim.registry import register
from tokensim.workload.base import Floats

HOST_STEP_S = 0.3e-3
"""Seconds of the engine process between two steps that the device does not hide. Between 0.2 and 1 ms were
measured on vLLM V1 with asynchronous scheduling (what TPOT of single streams leaves over operator tables,
H100 and RTX 4090); the low end is taken, as the kernels' own launch gaps are in
``Efficiency.kernel_overhead_s``."""

HOST_REQUEST_S = 0.0
"""Seconds a step for each request in it. None by default: under asynchronous scheduling (vLLM's default) what
grows with the batch (input preparation, output processing) runs while the device does."""


@register.operator_cost("roofline")
class RooflineCost:
    """Step cost of ``operators`` (one rank of one model) on ``device``; implements ``cost.base.StepCost``.

    ``activation_dtype`` is the model's 16-bit (or 32-bit) dtype. ``host_step_s`` is added to every step and
    ``host_request_s`` for each request in it. Raises ``InputError`` if the device cannot compute in the
    dtypes, or if layers have different sliding windows.
    """

    window: int | None

    def __init__(
        self,
        operators: Sequence[Operator],
        device: Device,
        *,
        activation_dtype: str = "bfloat16",
        host_step_s: float = HOST_STEP_S,
        host_request_s: float = HOST_REQUEST_S,
    ) -> None:
        for name, value in (("host_step_s", host_step_s), ("host_request_s", host_request_s)):
            if not (math.isfinite(value) and value >= 0):
                raise InputError(f"{name} is {value!r}", where="performance", hint="give seconds, 0 or more")
        self.device = device
        self.host_step_s = host_step_s
        self.host_request_s = host_request_s
        rows, self._attention = price_operators(operators, device, activation_dtype)
        self._token_prices = [price for price in rows if price.rows == "tokens"]
        self._sample_prices = [price for price in rows if price.rows == "samples"]
        self.window = _single_window(self._attention)
        self._slope = sum(a.decode_s for a in self._attention if a.window is None)
        self._window_slope = sum(a.decode_s for a in self._attention if a.window is not None)
        self._decode_s = sum(a.query_s for a in self._attention) + host_request_s
        # plain tuples: what the hot path unpacks for each chunk
        self._chunk_prices = tuple((a.window, a.pair_s, a.token_s, a.query_s) for a in self._attention)
        self._token_seconds: dict[int, float] = {}
        self._sample_seconds: dict[int, float] = {0: 0.0}
        self._lines: dict[int, DecodeLine] = {}

    # Hot path: the two methods below run once or twice a simulated request.

    def decode_line(self, decode: int) -> DecodeLine:
        """The line for decode-only steps of ``decode`` ≥ 1 requests; the same object for the same ``decode``.

        It has no knee: arithmetic and traffic of decode attention are both proportional to the contexts.
        """
        try:
            return self._lines[decode]
        except KeyError:
            line = DecodeLine(
                base=self._rows(decode, decode) + self.host_step_s + self._decode_s * decode,
                slope=self._slope,
                window_slope=self._window_slope,
                limit=math.inf,
            )
            self._lines[decode] = line
            return line

    def step_time(
        self,
        decode: int,
        context: float,
        window_context: float,
        chunks: Sequence[tuple[int, int]],
        samples: int,
    ) -> float:
        """Seconds of one step: ``decode`` requests (C, W) and prefill ``chunks`` of (tokens, cached
        before)."""
        if not chunks and samples == decode:
            line = self.decode_line(decode)
            return line.base + line.slope * context + line.window_slope * window_context
        tokens = decode
        chunk_s = 0.0
        for new, cached in chunks:
            tokens += new
            for window, pair_s, token_s, query_s in self._chunk_prices:
                reads = cached + new
                if window is None or reads <= window:
                    compute = pair_s * (new * (cached + reads + 1)) / 2
                else:
                    pairs, reads = pairs_and_reads(new, cached, window)
                    compute = pair_s * pairs
                memory = token_s * reads + query_s * new
                chunk_s += compute if compute > memory else memory
        return (
            self._rows(tokens, samples)
            + self.host_step_s
            + self.host_request_s * len(chunks)
            + self._decode_s * decode
            + self._slope * context
            + self._window_slope * window_context
            + chunk_s
        )

    def _rows(self, tokens: int, samples: int) -> float:
        """Seconds of everything that depends on the number of rows alone."""
        try:
            token_s = self._token_seconds[tokens]
        except KeyError:
            token_s = math.fsum(price.seconds(tokens) for price in self._token_prices)
            self._token_seconds[tokens] = token_s
        try:
            return token_s + self._sample_seconds[samples]
        except KeyError:
            sample_s = math.fsum(price.seconds(samples) for price in self._sample_prices)
            self._sample_seconds[samples] = sample_s
            return token_s + sample_s

    # Afterwards: where the time went.

    def breakdown(self, steps: StepColumns) -> list[OperatorTime]:
        """Where the time of all these steps went, by operator in the order of a step, the host last.

        Entries with chunks are single steps. The fixed overhead of kernels counts under the bound ``host``.
        The seconds sum to the total of the steps' times (within rounding).
        """
        times = steps.steps.astype(np.float64)
        size = len(times)
        chunk_tokens = steps.chunk_tokens.astype(np.float64)
        chunk_context = steps.chunk_context.astype(np.float64)
        tokens = steps.decode + np.bincount(steps.chunk_row, weights=chunk_tokens, minlength=size)
        tallies: dict[tuple[str, str], _Tally] = {}
        for prices, rows in ((self._token_prices, tokens), (self._sample_prices, steps.samples)):
            values, which = np.unique(rows, return_inverse=True)
            counts = np.bincount(which, weights=times, minlength=len(values))
            some = values > 0
            for price in prices:
                tally = tallies.setdefault((price.operator, price.kind), _Tally())
                tally.add_rows(price, values[some].astype(np.float64), counts[some])
        later = times * (times - 1.0) / 2.0
        decodes = float(times @ steps.decode)
        sums = {
            False: float(times @ steps.context + later @ steps.decode),
            True: float(times @ steps.window_context + later @ steps.window_growth),
        }
        for attention in self._attention:
            tally = tallies[(attention.operator, "attention")]
            tally.add_decodes(attention, decodes, sums[attention.window is not None])
            tally.add_chunks(attention, chunk_tokens, chunk_context)
        host = self.host_step_s * times.sum() + self.host_request_s * (decodes + len(chunk_tokens))
        tallies[("host", "host")] = _Tally(bounds={"host": float(host)})
        return [tally.result(operator, kind) for (operator, kind), tally in tallies.items()]


class _Tally:
    """Sums for one operator."""

    def __init__(self, bounds: dict[str, float] | None = None) -> None:
        self.flops = 0.0
        self.bytes = 0.0
        self.bounds: dict[str, float] = bounds or {}

    def add(self, bound: str, seconds: float) -> None:
        """``seconds`` more under ``bound``."""
        if seconds > 0.0:
            self.bounds[bound] = self.bounds.get(bound, 0.0) + float(seconds)

    def add_slower(self, compute: Floats, memory: Floats, counts: Floats) -> None:
        """The slower of two times for each entry, under its own bound, ``counts`` times."""
        bound_by_compute = compute > memory
        self.add("compute", float(np.where(bound_by_compute, compute, 0.0) @ counts))
        self.add("memory", float(np.where(bound_by_compute, 0.0, memory) @ counts))

    def add_rows(self, price: RowPrice, rows: Floats, counts: Floats) -> None:
        """Steps of ``rows`` rows, each ``counts`` times."""
        self.add_slower(price.compute_s * rows, price.memory_seconds(rows), counts)
        self.add("network", float((price.network_s + price.network_row_s * rows) @ counts))
        self.add("host", price.overhead_s * float(counts.sum()))
        self.flops += price.flops_row * float(rows @ counts)
        self.bytes += float(price.traffic(rows) @ counts)

    def add_decodes(self, price: AttentionPrice, decodes: float, contexts: float) -> None:
        """``decodes`` decoded tokens whose contexts sum to ``contexts``."""
        self.add("memory", price.query_s * decodes)
        self.add(price.decode_bound, price.decode_s * contexts)
        self.flops += price.flops_pair * contexts
        self.bytes += price.bytes_token * contexts + price.bytes_query * decodes

    def add_chunks(self, price: AttentionPrice, tokens: Floats, cached: Floats) -> None:
        """Prefill chunks of ``tokens`` new tokens after ``cached``."""
        pairs, reads = pairs_and_reads_array(tokens, cached, price.window)
        self.add_slower(
            price.pair_s * pairs, price.token_s * reads + price.query_s * tokens, np.ones_like(pairs)
        )
        self.flops += price.prefill_flops_pair * float(pairs.sum())
        self.bytes += price.bytes_token * float(reads.sum()) + price.bytes_query * float(tokens.sum())

    def result(self, operator: str, kind: str) -> OperatorTime:
        """The sums as the interface wants them."""
        return OperatorTime(
            operator=operator,
            kind=kind,
            seconds=math.fsum(self.bounds.values()),
            flops=self.flops,
            bytes=self.bytes,
            bound_seconds=self.bounds,
            source="roofline",
        )


def _single_window(attention: Sequence[AttentionPrice]) -> int | None:
    """The one sliding window of the model, or None; raises ``InputError`` if layers have different ones."""
    windows = sorted({a.window for a in attention if a.window is not None})
    if len(windows) > 1:
        raise InputError(
            f"layers with different sliding windows: {windows}",
            where="model",
            hint="all layers with a window must share one",
        )
    return windows[0] if windows else None
