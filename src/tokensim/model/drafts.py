"""What drafts tokens for a model: a smaller model, or one layer on top of the model's own hidden states.

EAGLE (arXiv:2401.15077) and multi-token prediction (DeepSeek-V3, arXiv:2412.19437, section 2.2) join the
hidden state with the embedding of the next token (a matrix of 2·h x h), run one decoder layer and the model's
own LM head; EAGLE-3 (arXiv:2503.01840) first joins hidden states of three depths (3·h x h), and its layer
reads both halves side by side. They draft one token a pass, the next one from the last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from tokensim.errors import InputError
from tokensim.model import dtypes
from tokensim.model.base import ModelSpec
from tokensim.model.operators import Elementwise, Gemm, Operator
from tokensim.model.shards import operators

MTP_FAMILIES = ("deepseek_v3",)
"""Families published with a layer for multi-token prediction (``num_nextn_predict_layers``), of those known
here."""

Head = Literal["eagle", "eagle3", "mtp"]


@dataclass(frozen=True, slots=True)
class Draft:
    """A drafter. ``runs`` is what one pass runs, ``holds`` what of it takes memory besides the target model
    (None: all of it); ``joins`` are the matrices (n, k) that join hidden states in each pass,
    ``first_joins`` those in the first pass of a step only. ``weights`` is the format of its weights."""

    runs: ModelSpec
    weights: str = "auto"
    holds: ModelSpec | None = None
    joins: tuple[tuple[int, int], ...] = ()
    first_joins: tuple[tuple[int, int], ...] = ()

    def operators(
        self, kv_dtype: str, tensor: int, expert: int, activation_dtype: str, *, first: bool
    ) -> list[Operator]:
        """Every operator of one pass on one rank; ``first``: of the pass that reads the target's states."""
        ops = operators(self.runs, self.weights, kv_dtype, tensor, expert, activation_dtype)
        x = dtypes.BYTES[dtypes.weight_dtype(activation_dtype)]
        joins = (*self.joins, *(self.first_joins if first else ()))
        joined: Sequence[Operator] = [
            Gemm(f"join_{number}", n, k, 1, activation_dtype) for number, (n, k) in enumerate(joins)
        ]
        # vLLM drafts greedily: the largest logit instead of a sample (``compute_logits(...).argmax``).
        greedy = Elementwise("argmax", self.runs.vocab * x, 1, "samples")
        return [*joined, *(op for op in ops if op.name != "sampling"), greedy]

    def weight_bytes(self, tensor: int, expert: int, activation_dtype: str) -> float:
        """Bytes of weights on the fullest rank, without what the target model has anyway."""
        joined = sum(n * k for n, k in (*self.joins, *self.first_joins))
        held = self.runs if self.holds is None else self.holds
        own = held.weight_bytes(self.weights, tensor, expert)
        return own + joined * dtypes.BYTES[dtypes.weight_dtype(activation_dtype)]

    def kv_bytes_per_token(self, kv_dtype: str, tensor: int) -> float:
        """Bytes of its KV cache of one token on one rank."""
        return self.runs.kv_bytes_per_token(kv_dtype, tensor)


def draft_head(target: ModelSpec, method: Head, activation_dtype: str, weights: str, where: str) -> Draft:
    """The one-layer drafter of ``target``: MTP's layer is like the model's own (with experts and their weight
    format), EAGLE's is dense, in the format of the activations. Raises ``InputError`` at ``where``."""
    hidden = target.hidden
    if method == "mtp" and target.family not in MTP_FAMILIES:
        raise InputError(
            f"{target.name or target.family} has no layer for multi-token prediction",
            where=where,
            hint=f"families with one: {', '.join(MTP_FAMILIES)}; others take eagle, eagle3, draft_model or"
            " ngram",
        )
    moe = replace(target.moe, layers=1) if method == "mtp" and target.moe else None
    layer = replace(
        target,
        layers=1,
        moe=moe,
        window=None,
        window_layers=0,
        rotary_layers=min(1, target.rotary_layers),
        has_embedding=True,
        has_head=True,
    )
    held = replace(layer, has_embedding=False, has_head=method == "eagle3", tied_embeddings=False)
    if method == "eagle3":
        heads = target.heads + 2 * target.kv_heads
        return Draft(
            layer,
            activation_dtype,
            held,
            joins=((heads * target.head_dim, hidden),),
            first_joins=((hidden, 3 * hidden),),
        )
    return Draft(layer, weights if method == "mtp" else activation_dtype, held, joins=((hidden, 2 * hidden),))
