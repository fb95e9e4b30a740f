"""Attention from measured tables of pure decodes and of full prefills.

A decode batch is read from the grid (batch, context), linear in both. The chunks of a step run in one call:
its work is summed over them, each with its own context, and the launch is paid once, also when decodes run
beside them. Heads that were not measured are read from the nearest measured ones with the batch scaled to
equal work: decode reads every key-value head of every request, prefill multiplies for every query head.

Two kinds of kernels differ where a call mixes chunks and decodes. Those that split long contexts over the
device (FlashInfer) take the sum of both. FlashAttention does not split then: no call is shorter than one
block of queries takes to walk the longest context, which a prefill on a single head shows.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from tokensim.cost.base import DecodeCurve, Origin, Setting
from tokensim.cost.tables.grids import DecodeGrid, PrefillGrid, Walk
from tokensim.cost.tables.heads import kv_rows, shape_of
from tokensim.model.operators import Attention

if TYPE_CHECKING:
    import polars as pl

UNSPLIT = ("ampere", "ada", "hopper")
"""Architectures on which vLLM runs a 16-bit KV cache through FlashAttention 2 or, on Hopper, 3; so it does on
those boards of Blackwell that have no NVLink (compute capability 12; ``kernel_source`` in the tables of
aiconfigurator-core). A chunk of 16 tokens after 16,384 takes 6 to 9 times as long there as one decode of that
context (LLMServingSim's profiles of an RTX 4090 and an RTX PRO 6000). That FlashAttention 3 behaves so beside
chunks is inferred: on a vLLM server with an H100, 1,000 tokens of prefill delay decodes by 31 ms beside 4 of
them and by 40 ms beside 43, where the sum of two calls would predict 31 and 36."""

DECODE_BLOCKS = 1.4
"""Blocks of a decode walk faster than the full ones of a prefill, by this factor: fitted to LLMServingSim's
mixed calls on an RTX PRO 6000 (Llama-3.1-8B), where it takes the median error from 19 to 10 %; without walks
it is 39 %."""

MIXED_ERROR = 0.025
"""Median error of the decomposition of prefill calls, over H100's grid (head size 128, up to 32 sequences; a
test measures it)."""


class TableAttention:
    """The ``AttentionTime`` of one operator. ``walk_s`` is, for kernels that do not split contexts, what a
    block of queries takes to walk past one key (else 0), ``blocks`` how many blocks walk at a time."""

    def __init__(
        self,
        op: Attention,
        decode: DecodeGrid,
        prefill: PrefillGrid,
        walk: Walk | None,
        source: str,
        exact: bool,
    ) -> None:
        self._decode = decode
        self._prefill = prefill
        self._walk_s = walk.key_s if walk else 0.0
        self.needs_longest = walk is not None and op.window is None
        self._decode_walk_s = walk.key_s * op.heads / (walk.blocks * DECODE_BLOCKS) if walk else 0.0
        self._count = op.count
        self._source = source
        self._exact = exact
        self._window = op.window
        self._lines: dict[int, tuple[tuple[float, ...], tuple[float, ...]]] = {}

    def decode(self, requests: int) -> DecodeCurve:
        """See ``AttentionTime.decode``."""
        contexts, seconds = self._line(requests)
        return DecodeCurve(contexts, tuple(s * self._count for s in seconds))

    def mixed(
        self, chunks: Sequence[tuple[int, int]], requests: int, context: float, longest: float
    ) -> float:
        """See ``AttentionTime.mixed``. HOT PATH."""
        prefill = self._prefill
        rows = ends = before = 0
        far = longest
        work = 0.0
        for new, cached in chunks:
            rows += new
            last = cached + new
            ends += last
            if last > far:
                far = last
            work += prefill.work(last)
            if cached:
                before += cached
                work -= prefill.work(cached)
        work *= prefill.slowdown(rows)
        launch = prefill.launch
        if work < 0.0:  # by noise, of a few tokens after many
            work = 0.0
        if before and self._window is None:  # never faster than reading the keys
            read = self._at(len(chunks), ends / len(chunks)) - launch
            if read > work:
                work = read
        if requests:
            decode = self._at(requests, context / requests) - launch
            walked = context * self._decode_walk_s
            work += decode if decode > walked else walked
        if self._walk_s:
            if self._window is not None and far > self._window:
                far = self._window
            path = far * self._walk_s
            if path > work:
                work = path
        return (launch + work) * self._count

    def origin(
        self, chunks: Sequence[tuple[int, int]], requests: int, context: float, longest: float
    ) -> Origin:
        """See ``AttentionTime.origin``."""
        mean = context / requests if requests else 0.0
        inside = not requests or self._decode.covers(requests, mean)
        if not inside or any(new + cached > self._prefill.tokens[-1] for new, cached in chunks):
            return Origin("extrapolated", self._source)
        measured = not chunks and self._decode.has(requests, mean)
        if len(chunks) == 1 and not requests and not chunks[0][1]:
            measured = chunks[0][0] in self._prefill.tokens
        if measured and self._exact:
            return Origin("exact", self._source)
        return Origin("interpolated", self._source, MIXED_ERROR if chunks else self._decode.left_out_error())

    def _line(self, requests: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
        line = self._lines.get(requests)
        if line is None:
            seconds = self._decode.line(requests).tolist()
            line = self._lines[requests] = (tuple(self._decode.contexts.tolist()), tuple(seconds))
        return line

    def _at(self, requests: int, context: float) -> float:
        """Seconds of a layer that decodes ``requests`` of mean ``context``."""
        x, y = self._line(requests)
        i = bisect_left(x, context)
        if i < 1:
            i = 1
        elif i >= len(x):
            i = len(x) - 1
        return y[i - 1] + (y[i] - y[i - 1]) * (context - x[i - 1]) / (x[i] - x[i - 1])


class AttentionTables:
    """Attention of one profile: ``decode`` and ``prefill`` have the columns of ``decode_attention`` and
    ``prefill_attention``."""

    def __init__(self, decode: pl.DataFrame, prefill: pl.DataFrame, setting: Setting, source: str) -> None:
        self._decode = kv_rows(decode, setting.kv_dtype)
        self._prefill = kv_rows(prefill.filter(prefill["cached"] == 0), setting.kv_dtype)
        self._splits = not unsplit(setting)
        self._source = source

    def price(self, op: Attention) -> TableAttention | None:
        """The time of ``op``; None where its head size or KV dtype was not measured."""
        if op.prefill_dims is not None or op.qk_dim != op.v_dim:
            return None
        decodes = shape_of(self._decode, op, by="kv_heads")
        prefills = shape_of(self._prefill, op, by="heads")
        if decodes is None or prefills is None:
            return None
        if decodes.rows["context"].n_unique() < 2:
            return None
        decode = DecodeGrid(decodes.columns("batch", "context", "seconds"), op.kv_heads / decodes.kv_heads)
        cap = None if prefills.window else op.window
        prefill = PrefillGrid(prefills.columns("batch", "tokens", "seconds"), op.heads / prefills.heads, cap)
        walk = None
        if not self._splits:
            single = shape_of(self._prefill, replace(op, heads=1, kv_heads=1, window=None), by="heads")
            if single is not None:
                walk = Walk.of(single, prefills)
        exact = decodes.exact and prefills.exact
        return TableAttention(op, decode, prefill, walk, self._source, exact)


def unsplit(setting: Setting) -> bool:
    """Whether mixed calls of ``setting`` do not split contexts (see ``UNSPLIT``)."""
    device = setting.device
    if setting.engine != "vllm" or setting.kv_dtype.startswith("fp8"):
        return False
    board = device.architecture == "blackwell" and not device.intra_node.direct
    return device.architecture in UNSPLIT or board
