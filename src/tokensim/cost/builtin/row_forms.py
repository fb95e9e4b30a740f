"""Formulas of operators whose time depends on the number of rows: GEMM, experts, streams, collectives."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tokensim.cost.builtin.primitives import TILE, Numbers, smooth_max, through_cache
from tokensim.workload.base import Floats

WIDTH = 4e6
"""Elements of an expert's matrix at which ``width_growth`` changes nothing: 2048 by 2048, the middle of those
measured."""


@dataclass(frozen=True, slots=True)
class GemmForm:
    """``y[m, n] = x[m, k] @ w[k, n]``.

    ``chain_s`` is the latency of one step along k, which only the first ``chain_steps`` add (kernels split a
    longer k); ``row_s`` and ``row_element_s`` are what a row, and one element of it, costs besides (the
    quantisation of activations). Arithmetic far longer than ``sag_s`` takes the share ``sag`` more: clocks
    fall under sustained load.
    """

    launch_s: float
    compute_share: float
    memory_share: float
    sharpness: float
    edge_rows: float
    edge_columns: float
    edge_depth: float
    fill: float
    chain_s: float
    chain_steps: float
    row_s: float
    row_element_s: float
    sag: float
    sag_s: float
    cache_bytes: float
    cache_speed: float

    def sustained(self) -> GemmForm:
        """The same in a step, where GEMM follows GEMM: clocks are down however short each is."""
        return replace(self, sag_s=0.0)

    def seconds(
        self, m: Numbers, n: Numbers, k: Numbers, weight_bytes: float, flop_rate: float, byte_rate: float
    ) -> Floats:
        """Seconds for weights of ``weight_bytes`` each and 16-bit activations; peaks in FLOP/s, bytes/s."""
        flops = 2.0 * (m + self.edge_rows) * (n + self.edge_columns) * (k + self.edge_depth)
        alone = 1.0 + self.fill / ((m / TILE + 1.0) * (n / TILE + 1.0))
        moved = through_cache(weight_bytes * n * k + 2.0 * m * (k + n), self.cache_bytes, self.cache_speed)
        arithmetic = flops * alone / (flop_rate * self.compute_share)
        arithmetic = arithmetic * (1.0 + self.sag * arithmetic / (arithmetic + self.sag_s))
        chain = self.chain_s * k / np.sqrt(1.0 + np.square(k / self.chain_steps))
        return np.asarray(
            self.launch_s
            + chain
            + m * (self.row_s + k * self.row_element_s)
            + smooth_max(
                self.sharpness,
                arithmetic,
                moved / (byte_rate * self.memory_share),
            )
        )


@dataclass(frozen=True, slots=True)
class ExpertsForm:
    """A layer of routed experts of one rank: routing, gathering, the FFNs, and their sum.

    ``expert_s`` is paid for each expert on the rank, ``choice_s`` for each (token, expert) pair of all ranks,
    ``element_s`` for each element of the tokens' hidden vectors. An expert that is hit pads its rows by
    ``tile_rows``; wide ones compute at other rates (``width_growth``). ``activation_traffic`` multiplies the
    bytes of activations. A spread of tokens over experts (``balanced``, or a power law) hits experts as
    ``hits_*`` times as many independent uniform choices would; the busiest rank of several has ``busiest_*``
    times its share of the rows, and at least about ``least_rows``.
    """

    launch_s: float
    compute_share: float
    memory_share: float
    sharpness: float
    edge_columns: float
    edge_depth: float
    tile_rows: float
    expert_s: float
    choice_s: float
    element_s: float
    activation_traffic: float
    hits_balanced: float
    hits_mild: float
    hits_strong: float
    busiest_mild: float
    busiest_strong: float
    least_rows: float
    width_growth: float
    cache_bytes: float
    cache_speed: float

    def hits(self, spread: Numbers) -> Any:
        """The factor on the choices for each ``spread``: 0 balanced, 1 a mild, 2 a strong power law."""
        return np.take([self.hits_balanced, self.hits_mild, self.hits_strong], np.asarray(spread, int))

    def busiest(self, spread: Numbers) -> Any:
        """The factor on the rows of the busiest rank for each ``spread``."""
        return np.take([1.0, self.busiest_mild, self.busiest_strong], np.asarray(spread, int))

    def seconds(
        self,
        tokens: Numbers,
        hidden: Numbers,
        intermediate: Numbers,
        gemms: Numbers,
        top_k: Numbers,
        experts: Numbers,
        ranks: Numbers,
        spread: Numbers,
        weight_bytes: float,
        flop_rate: float,
        byte_rate: float,
    ) -> Floats:
        """Seconds for ``tokens`` of all ranks together; ``intermediate`` and ``experts`` are of one rank."""
        rows = tokens * top_k / ranks
        busiest = np.hypot(rows * self.busiest(spread), self.least_rows)
        rows = np.where(np.greater(ranks, 1), busiest, rows)
        hit = experts * -np.expm1(-(rows / experts) * self.hits(spread))
        return self.loaded(
            tokens, rows, hit, hidden, intermediate, gemms, top_k, experts, weight_bytes, flop_rate, byte_rate
        )

    def loaded(
        self,
        tokens: Numbers,
        rows: Numbers,
        hit: Numbers,
        hidden: Numbers,
        intermediate: Numbers,
        gemms: Numbers,
        top_k: Numbers,
        experts: Numbers,
        weight_bytes: float,
        flop_rate: float,
        byte_rate: float,
    ) -> Floats:
        """Seconds of a rank that gets ``rows`` (token, expert) pairs, for ``hit`` of its experts."""
        flops = 2.0 * gemms * (hidden + self.edge_depth) * (intermediate + self.edge_columns)
        flops = flops * np.power(hidden * intermediate / WIDTH, self.width_growth)
        moved = hit * gemms * hidden * intermediate * weight_bytes
        moved = moved + self.activation_traffic * 2.0 * rows * (2.0 * hidden + gemms * intermediate)
        moved = through_cache(moved, self.cache_bytes, self.cache_speed)
        return np.asarray(
            self.launch_s
            + self.expert_s * experts
            + self.choice_s * tokens * top_k
            + self.element_s * tokens * hidden
            + smooth_max(
                self.sharpness,
                flops * (rows + hit * self.tile_rows) / (flop_rate * self.compute_share),
                moved / (byte_rate * self.memory_share),
            )
        )


@dataclass(frozen=True, slots=True)
class StreamForm:
    """Norms, activations and the like: a launch, and traffic at ``memory_share`` of the bandwidth."""

    launch_s: float
    memory_share: float
    cache_bytes: float
    cache_speed: float

    def seconds(self, size: Numbers, byte_rate: float) -> Floats:
        """Seconds for ``size`` bytes read and written."""
        moved = through_cache(size, self.cache_bytes, self.cache_speed)
        return np.asarray(self.launch_s + moved / (byte_rate * self.memory_share))


@dataclass(frozen=True, slots=True)
class CollectiveForm:
    """A collective over a fixed number of ranks: a launch with its hops, then the buffer at a rate that rises
    from ``small_rate`` (one-shot kernels) to ``large_rate`` beyond ``turn_bytes`` (rings, switches)."""

    launch_s: float
    small_rate: float
    large_rate: float
    turn_bytes: float

    def seconds(self, size: Numbers) -> Floats:
        """Seconds for a buffer of ``size`` bytes."""
        slow = size / self.small_rate
        return np.asarray(self.launch_s + size / self.large_rate + slow / (1.0 + size / self.turn_bytes))
