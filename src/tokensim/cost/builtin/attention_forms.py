"""Formulas of attention: decode, and prefill with its law for one shape."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from tokensim.cost.builtin.primitives import TILE, Numbers, smooth_max, through_cache
from tokensim.workload.base import Floats

HEAD_SIZE = 128.0
"""The head size at which the coefficients of attention hold as they are."""

SPLIT = 180.0
"""Context from which on decode kernels split it: times jump between 128 and 256 on A100, L40S and B200."""


def by_head_size(head_sizes: tuple[float, ...], values: tuple[float, ...], size: Numbers) -> Any:
    """``values`` at ``head_sizes``, linear in the logarithm between them, the last ones beyond."""
    return np.interp(np.log2(size), np.log2(head_sizes), values)


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
