"""Attention from a grid of mixed calls: chunks beside decodes, measured together, and its skew correction.

Several chunks of a step are looked up as the one chunk of equal tokens and equal (query, key) pairs. A chunk
longer than any measured one is taken in pieces, one after another. Unequal contexts in a batch take

    t = t(mean) + alpha · (t(longest) − t(mean)),

alpha by the number of decodes, fitted to the measured skewed batches: apart for pure decodes and for mixed
calls, where few decodes wait for the longest (alpha near 1).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import TYPE_CHECKING

import numpy as np

from tokensim.cost.base import DecodeCurve, Origin, Setting
from tokensim.cost.tables.heads import kv_rows
from tokensim.cost.tables.ragged import Ragged, along
from tokensim.cost.tables.skew import Skew
from tokensim.model.operators import Attention

if TYPE_CHECKING:
    import polars as pl

SHAPE = ("heads", "kv_heads", "head_dim")


class MixedTables:
    """Mixed attention of one profile; ``skewed`` has the columns of ``skewed_attention``."""

    def __init__(
        self, mixed: pl.DataFrame, skewed: pl.DataFrame | None, setting: Setting, source: str
    ) -> None:
        self._mixed = kv_rows(mixed, setting.kv_dtype)
        self._skewed = None if skewed is None else kv_rows(skewed, setting.kv_dtype)
        self._source = source

    def price(self, op: Attention) -> MixedAttention | None:
        """The time of ``op``; None where its heads, head size or KV dtype were not measured, or where it has
        a sliding window (none was measured)."""
        if op.window is not None or op.prefill_dims is not None or op.qk_dim != op.v_dim:
            return None
        shape = (op.heads, op.kv_heads, op.qk_dim)
        mixed = _of(self._mixed, shape)
        if mixed.filter(mixed["tokens"] == 0)["context"].n_unique() < 2:
            return None
        if not mixed.filter(mixed["tokens"] > 0).height:
            return None
        skewed = None if self._skewed is None else _of(self._skewed, shape)
        return MixedAttention(op, mixed, skewed, self._source)


def _of(table: pl.DataFrame, shape: tuple[int, int, int]) -> pl.DataFrame:
    for name, value in zip(SHAPE, shape, strict=True):
        table = table.filter(table[name] == value)
    return table


class MixedAttention:
    """The ``AttentionTime`` of one operator."""

    def __init__(self, op: Attention, mixed: pl.DataFrame, skewed: pl.DataFrame | None, source: str) -> None:
        rows = mixed.select("tokens", "cached", "decodes", "context", "seconds")
        self._grid = Ragged(rows.filter(rows["tokens"] > 0).iter_rows())
        self._longest_chunk = self._grid.tokens[-1]
        self._launch = float(rows["seconds"].min())  # type: ignore[arg-type]  # a float: not empty
        pure = rows.filter(rows["tokens"] == 0)
        self._decodes = np.unique(pure["decodes"].to_numpy())
        self._contexts = np.unique(pure["context"].to_numpy()).astype(float)
        self._points = {(n, x): s for _, _, n, x, s in pure.iter_rows()}
        self._pure = [self._measured(int(n)) for n in self._decodes]
        self._pure_skew = Skew.fit(skewed, mixed=False)
        self._mixed_skew = Skew.fit(skewed, mixed=True)
        self.needs_longest = skewed is not None
        self._count = op.count
        self._source = source

    def _measured(self, decodes: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        """The line of a measured number of decodes at all contexts (further out, its last piece goes on)."""
        known = [x for x in self._contexts if (decodes, x) in self._points]
        seconds = [self._points[decodes, x] for x in known]
        return np.asarray([along(known, seconds, x) for x in self._contexts])

    def decode(self, requests: int) -> DecodeCurve:
        """See ``AttentionTime.decode``: linear between the measured numbers of decodes."""
        axis, lines = self._decodes, self._pure
        i = int(np.searchsorted(axis, requests))
        if len(axis) == 1 or i == 0:
            seconds = lines[0]
        else:
            i = min(i, len(axis) - 1)
            share = (requests - axis[i - 1]) / (axis[i] - axis[i - 1])
            seconds = lines[i - 1] + share * (lines[i] - lines[i - 1])
        return DecodeCurve(
            tuple(self._contexts.tolist()),
            tuple((seconds * self._count).tolist()),
            self._pure_skew.alpha(requests),
        )

    def mixed(
        self, chunks: Sequence[tuple[int, int]], requests: int, context: float, longest: float
    ) -> float:
        """See ``AttentionTime.mixed``. HOT PATH."""
        if len(chunks) == 1:
            new, cached = chunks[0]
            tokens, before = float(new), float(cached)
        else:  # the one chunk with as many tokens and (query, key) pairs
            tokens = pairs = 0.0
            for new, cached in chunks:
                tokens += new
                pairs += new * (cached + 0.5 * new)
            before = pairs / tokens - 0.5 * tokens
            if before < 0.0:
                tokens, before = sqrt(2.0 * pairs), 0.0
        at = self._grid.at
        seconds = 0.0
        while tokens > self._longest_chunk:
            seconds += at(self._longest_chunk, before, 0, 0.0) - self._launch
            tokens -= self._longest_chunk
            before += self._longest_chunk
        if not requests:
            return (seconds + at(tokens, before, 0, 0.0)) * self._count
        mean = context / requests
        here = at(tokens, before, requests, mean)
        if longest > mean:
            alpha = self._mixed_skew.alpha(requests)
            if alpha:
                here += alpha * (at(tokens, before, requests, longest) - here)
        return (seconds + here) * self._count

    def origin(
        self, chunks: Sequence[tuple[int, int]], requests: int, context: float, longest: float
    ) -> Origin:
        """See ``AttentionTime.origin``."""
        mean = context / requests if requests else 0.0
        error = (self._mixed_skew if chunks else self._pure_skew).error
        if requests > self._decodes[-1] or mean > self._contexts[-1]:
            return Origin("extrapolated", self._source, error)
        if any(new > self._longest_chunk or cached > self._contexts[-1] for new, cached in chunks):
            return Origin("extrapolated", self._source, error)
        if not chunks and (requests, mean) in self._points and longest <= mean:
            return Origin("exact", self._source)
        return Origin("interpolated", self._source, error)
