"""The shipped model's formulas: a roofline whose efficiency is a smooth function of shape.

Every operator lasts a launch, plus latencies that nothing hides, plus a smooth maximum of its arithmetic and
its traffic. Shares of the peaks fall with the edges of tiles (``edge_rows`` and the like: what a dimension is
padded by, on average) and with too few tiles to fill the device (``fill``); data that a cache may hold comes
faster (``cache_bytes``, ``cache_speed``). The coefficients of a form are its fields, in SI units, fitted by
``tools/fit_builtin.py``; all functions take arrays that broadcast, and give seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from tokensim.workload.base import Floats

TILE = 128.0
"""Rows and columns of the tile that ``fill`` and the blocks of attention are counted in: the usual one of
dense kernels (CUTLASS, FlashAttention) on all devices fitted."""

HEAD_SIZE = 128.0
"""The head size at which the coefficients of attention hold as they are."""

Numbers = Floats | float
"""What the formulas take: arrays that broadcast, or plain numbers."""

SPLIT = 180.0
"""Context from which on decode kernels split it: times jump between 128 and 256 on A100, L40S and B200."""

WIDTH = 4e6
"""Elements of an expert's matrix at which ``width_growth`` changes nothing: 2048 by 2048, the middle of those
measured."""

_CACHE_EDGE = 6.0
"""How sharply a working set falls out of the cache: as the inverse of 1 + (bytes / cache_bytes)^6. Of 3, 4, 6
and 9 the one that fits decode attention on L40S best; others hardly care."""


def smooth_max(sharpness: float, *terms: Numbers) -> Floats:
    """The p-norm of positive ``terms``, p = 1 + ``sharpness``: their sum at 0, their maximum far above."""
    arrays = np.broadcast_arrays(*terms)
    largest = np.maximum.reduce(arrays)
    power = 1.0 + sharpness
    total = np.add.reduce([np.power(one / largest, power) for one in arrays])
    return np.asarray(largest * np.power(total, 1.0 / power))


def through_cache(size: Numbers, cache_bytes: float, cache_speed: float) -> Any:
    """Bytes of memory traffic that take as long as ``size`` bytes of a working set measured over and over.

    Far below ``cache_bytes`` they come ``1 + cache_speed`` times as fast as from memory. Rises with ``size``.
    """
    saved = 1.0 - 1.0 / (1.0 + cache_speed)
    return size * (1.0 - saved / (1.0 + (size / cache_bytes) ** _CACHE_EDGE))


def by_head_size(head_sizes: tuple[float, ...], values: tuple[float, ...], size: Numbers) -> Any:
    """``values`` at ``head_sizes``, linear in the logarithm between them, the last ones beyond."""
    return np.interp(np.log2(size), np.log2(head_sizes), values)


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
class DecodeForm:
    """Attention of one new token each of ``requests`` over ``context`` cached tokens, one layer.

    Blocks of threads stand for (request, key-value head) pairs, ``head_share`` of the query heads that share
    one in addition (0: they are packed into one block, 1: each reads the cache for itself). ``block_s`` is
    paid for each, ``walk_s`` for each token along the context, and ``lone_walk_s`` where no heads share keys
    (which kernels do not split then); ``split_s`` for each doubling of the context beyond 128, ``merge_s``
    once beyond some 180 (splits and their merging). ``padded_heads``: query heads that a block computes
    besides its own.
    """

    launch_s: float
    split_s: float
    merge_s: float
    block_s: float
    block_growth: float
    walk_s: float
    lone_walk_s: float
    head_share: float
    compute_share: float
    padded_heads: float
    sharpness: float
    cache_bytes: float
    cache_speed: float
    head_sizes: tuple[float, ...]
    memory_share: tuple[float, ...]

    def seconds(
        self,
        requests: Numbers,
        context: Numbers,
        heads: Numbers,
        kv_heads: Numbers,
        head_size: Numbers,
        token_bytes: Numbers,
        flop_rate: float,
        byte_rate: float,
    ) -> Floats:
        """Seconds; ``head_size`` is the mean of the sizes of keys and values, ``token_bytes`` what one token
        takes in the cache (one layer, one rank)."""
        grown = head_size / HEAD_SIZE
        blocks = kv_heads + self.head_share * np.maximum(heads - kv_heads, 0.0)
        cached = requests * context * token_bytes * blocks / kv_heads
        moved = through_cache(cached, self.cache_bytes, self.cache_speed) + 4.0 * requests * heads * head_size
        flops = 4.0 * requests * context * head_size * (heads + kv_heads * self.padded_heads)
        walk_s = self.walk_s + self.lone_walk_s * np.equal(heads, kv_heads)
        return np.asarray(
            self.launch_s
            + self.split_s * np.log2(1.0 + context / TILE)
            + self.merge_s / (1.0 + np.power(SPLIT / context, 4.0))
            + smooth_max(
                self.sharpness,
                moved / (byte_rate * by_head_size(self.head_sizes, self.memory_share, head_size)),
                flops / (flop_rate * self.compute_share),
                self.block_s * requests * blocks * np.power(grown, self.block_growth)
                + walk_s * context * grown,
            )
        )


@dataclass(frozen=True, slots=True)
class PrefillForm:
    """Causal attention of chunks of new tokens over themselves and what is cached before them, one layer.

    ``block_s`` is paid for each tile of query rows of each head (and once for each sequence and block, see
    ``DecodeForm``), ``walk_s`` for each token along the longest context. Tiles at the edges add
    ``edge_tokens`` to the tokens that a query sees, and ``window_tokens`` to a sliding window.
    ``cache_traffic`` multiplies the bytes of keys and values.
    """

    launch_s: float
    block_s: float
    block_growth: float
    walk_s: float
    head_share: float
    memory_share: float
    sharpness: float
    edge_tokens: float
    window_tokens: float
    cache_traffic: float
    cache_bytes: float
    cache_speed: float
    head_sizes: tuple[float, ...]
    compute_share: tuple[float, ...]

    def pairs(self, tokens: Numbers, cached: Numbers, window: Numbers) -> Floats:
        """(query, context) pairs that a chunk computes; ``window`` is infinite for full attention."""
        wide = window + self.window_tokens
        under = np.clip(wide - cached, 0.0, tokens)
        beyond = (tokens - under) * np.minimum(wide, cached + tokens)
        mean = np.minimum(cached + (under + 1.0 + self.edge_tokens) / 2.0, wide)
        return np.asarray(under * mean + beyond)

    def law(
        self,
        heads: Numbers,
        kv_heads: Numbers,
        head_size: Numbers,
        token_bytes: Numbers,
        flop_rate: float,
        byte_rate: float,
    ) -> PrefillLaw:
        """The form for one shape of attention (or arrays of them)."""
        grown = head_size / HEAD_SIZE
        share = by_head_size(self.head_sizes, self.compute_share, head_size)
        block_s = self.block_s * np.power(grown, self.block_growth)
        packed = kv_heads + self.head_share * np.maximum(heads - kv_heads, 0.0)
        return PrefillLaw(
            form=self,
            pair_s=4.0 * heads * head_size / (flop_rate * share),
            token_s=block_s * heads / TILE,
            sequence_s=block_s * packed,
            context_s=self.walk_s * grown,
            token_bytes=4.0 * heads * head_size,
            read_bytes=token_bytes * self.cache_traffic,
            byte_s=1.0 / (byte_rate * self.memory_share),
        )


@dataclass(frozen=True, slots=True)
class PrefillLaw:
    """``PrefillForm`` for one shape: coefficients that the sums over a call's chunks are multiplied by."""

    form: PrefillForm
    pair_s: Any
    token_s: Any
    sequence_s: Any
    context_s: Any
    token_bytes: Any
    read_bytes: Any
    byte_s: float

    def plain(self) -> PrefillLaw:
        """The same with plain numbers, which the interpreter multiplies faster than NumPy's."""
        given: dict[str, Any] = {f.name: float(getattr(self, f.name)) for f in fields(self)[1:]}
        return replace(self, **given)

    def seconds(self, pairs: Any, tokens: Any, reads: Any, sequences: Any, longest: Any) -> Any:
        """Seconds of one call, from sums over its chunks of ``pairs``, new ``tokens`` and tokens ``reads``
        from the cache, and the ``longest`` context (window and its edge included). HOT PATH with plain
        numbers."""
        form = self.form
        compute = pairs * self.pair_s + tokens * self.token_s + sequences * self.sequence_s
        size = tokens * self.token_bytes + reads * self.read_bytes
        memory = through_cache(size, form.cache_bytes, form.cache_speed) * self.byte_s
        power = 1.0 + form.sharpness
        # as ``smooth_max``, without its care for extreme powers: times of 1 ns to 100 s, powers up to 21
        worked = (compute**power + memory**power) ** (1.0 / power)
        return form.launch_s + longest * self.context_s + worked


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


Form = GemmForm | ExpertsForm | DecodeForm | PrefillForm | StreamForm | CollectiveForm

FORMS: dict[str, type[Form]] = {
    "gemm": GemmForm,
    "experts": ExpertsForm,
    "prefill": PrefillForm,
    "prefill_window": PrefillForm,
    "prefill_latent": PrefillForm,
    "decode": DecodeForm,
    "decode_window": DecodeForm,
    "decode_latent": DecodeForm,
    "elementwise": StreamForm,
    "all_reduce": CollectiveForm,
    "all_gather": CollectiveForm,
    "reduce_scatter": CollectiveForm,
    "all_to_all": CollectiveForm,
}
"""The form of each kind of fit; ``_window``: layers with a sliding window (other kernels, or others of their
settings), ``_latent``: multi-head latent attention."""
