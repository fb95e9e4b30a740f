"""Attention of the shipped model: decode as curves, mixed steps as one call of all their chunks.

Decode curves keep as few points of the form as straight lines between them need. A step with prefill chunks
is one kernel launch over the sums of the chunks' work, and the decodes beside them.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tokensim.cost.base import DecodeCurve, Origin
from tokensim.cost.builtin.attention_forms import DecodeForm, PrefillForm
from tokensim.cost.builtin.primitives import TILE
from tokensim.cost.tables.attention import DECODE_BLOCKS
from tokensim.model.operators import Attention
from tokensim.workload.base import Floats

LONGEST = 1 << 20
"""Tokens of context up to which curves are sampled; they go on straight."""

STRAIGHT = 0.004
"""Relative error that a straight line between two knots of a curve may have."""

_SAMPLES = np.unique(np.round(np.geomspace(1.0, LONGEST, 560)))


def knots(x: Floats, y: Floats) -> list[int]:
    """Indices of few points of the positive curve ``y`` over ``x`` between which straight lines are off by
    less than ``STRAIGHT`` at all other points: the ends, then where a line is worst (Douglas and Peucker)."""
    kept = {0, len(x) - 1}
    spans = [(0, len(x) - 1)]
    while spans:
        first, last = spans.pop()
        inner = slice(first + 1, last)
        line = np.interp(x[inner], x[[first, last]], y[[first, last]])
        off = np.abs(line / y[inner] - 1.0)
        if off.size and off.max() > STRAIGHT:
            middle = first + 1 + int(off.argmax())
            kept.add(middle)
            spans += [(first, middle), (middle, last)]
    return sorted(kept)


@dataclass(frozen=True, slots=True)
class Layer:
    """The shapes of an attention operator, as the forms want them."""

    heads: float
    kv_heads: float
    prefill_kv_heads: float
    decode_size: float
    prefill_size: float
    token_bytes: float
    prefill_token_bytes: float
    window: float
    count: int

    @classmethod
    def of(cls, op: Attention) -> Layer:
        """The layer of ``op``. Latent attention expands its cache before prefill: every head has keys and
        values of its own then, in 16 bits."""
        decode_size = (op.qk_dim + op.v_dim) / 2
        prefill_size = decode_size if op.prefill_dims is None else sum(op.prefill_dims) / 2
        expanded = op.prefill_dims is not None
        return cls(
            heads=float(op.heads),
            kv_heads=float(op.kv_heads),
            prefill_kv_heads=float(op.heads if expanded else op.kv_heads),
            decode_size=decode_size,
            prefill_size=prefill_size,
            token_bytes=op.kv_bytes_per_token,
            prefill_token_bytes=4.0 * op.heads * prefill_size if expanded else op.kv_bytes_per_token,
            window=math.inf if op.window is None else float(op.window),
            count=op.count,
        )


class ShippedAttention:
    """An ``AttentionTime``: all layers of one attention operator. ``origins`` are of decode and prefill.

    ``walks``: the kernels do not split contexts in a call that has chunks (see ``tables.attention``), so that
    a decode there occupies as many blocks as it has heads, each for a whole walk along the context.
    """

    needs_longest = False

    def __init__(
        self,
        decode: DecodeForm,
        prefill: PrefillForm,
        layer: Layer,
        flop_rate: float,
        byte_rate: float,
        origins: tuple[Origin, Origin],
        walks: bool,
    ) -> None:
        self._form = decode
        self._layer = layer
        self._rates = (flop_rate, byte_rate)
        self._origins = origins
        self._count = layer.count
        self._window = layer.window
        self._wide = layer.window + prefill.window_tokens
        self._edge = 1.0 + prefill.edge_tokens
        self._shared_launch_s = min(decode.launch_s, prefill.launch_s)
        kv_heads, size, token_bytes = layer.prefill_kv_heads, layer.prefill_size, layer.prefill_token_bytes
        law = prefill.law(layer.heads, kv_heads, size, token_bytes, flop_rate, byte_rate)
        self._law = law.plain()
        self._walk_s = self._law.pair_s * TILE / DECODE_BLOCKS if walks else 0.0
        self._curves: dict[int, DecodeCurve] = {}

    def decode(self, requests: int) -> DecodeCurve:
        """See ``AttentionTime.decode``; the same object for the same ``requests``."""
        curve = self._curves.get(requests)
        if curve is None:
            layer = self._layer
            contexts = np.unique(np.minimum(_SAMPLES, max(layer.window, 2.0)))
            shape = (layer.heads, layer.kv_heads, layer.decode_size, layer.token_bytes)
            seconds = layer.count * self._form.seconds(requests, contexts, *shape, *self._rates)
            some = knots(contexts, seconds)
            curve = DecodeCurve(tuple(contexts[some].tolist()), tuple(seconds[some].tolist()))
            self._curves[requests] = curve
        return curve

    def mixed(
        self, chunks: Sequence[tuple[int, int]], requests: int, context: float, longest: float
    ) -> float:
        """See ``AttentionTime.mixed``. HOT PATH."""
        wide, edge, window = self._wide, self._edge, self._window
        pairs = reads = 0.0
        far = context / requests if requests and self._walk_s else 0.0
        tokens = 0
        for new, cached in chunks:
            last = cached + new
            under: float = new
            if last > wide:  # some queries see a full window
                under = wide - cached if cached < wide else 0.0
                pairs += (new - under) * wide
            mean = cached + (under + edge) / 2
            pairs += under * (mean if mean < wide else wide)
            tokens += new
            reads += last if last <= window + new else window + new
            if last > far:
                far = last
        seconds: float = self._law.seconds(pairs, tokens, reads, len(chunks), far if far < wide else wide)
        if requests:
            decode = self._at(requests, context / requests) - self._shared_launch_s
            walked = context * self._walk_s
            seconds += decode if decode > walked else walked
        return self._count * seconds

    def origin(
        self, chunks: Sequence[tuple[int, int]], requests: int, context: float, longest: float
    ) -> Origin:
        """See ``AttentionTime.origin``."""
        return self._origins[1] if chunks else self._origins[0]

    def _at(self, requests: int, context: float) -> float:
        """Seconds of one layer that decodes ``requests`` with a mean ``context``."""
        curve = self.decode(requests)
        x, y = curve.contexts, curve.seconds
        i = min(max(bisect_left(x, context), 1), len(x) - 1)
        return (y[i - 1] + (y[i] - y[i - 1]) * (context - x[i - 1]) / (x[i] - x[i - 1])) / self._count
