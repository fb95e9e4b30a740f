"""The weights of a model as a table: a row a kind of tensor, with its size, number and split over ranks.

Parameter counts and bytes are sums over this table, so they cannot disagree.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tokensim.model import dtypes

if TYPE_CHECKING:
    from tokensim.model.base import ModelSpec

Shard = Literal["none", "tensor", "kv", "vocab", "expert"]


@dataclass(frozen=True, slots=True)
class Tensor:
    """``count`` tensors of ``elements`` numbers: ``shard`` is how ranks share each, ``part`` what quantises
    it."""

    name: str
    elements: int
    count: int
    shard: Shard = "none"
    part: dtypes.Part = "rest"


def padded_vocab(vocab: int) -> int:
    """The vocabulary as vLLM stores it, a multiple of 64 (``DEFAULT_VOCAB_PADDING_SIZE``)."""
    return math.ceil(vocab / 64) * 64


def tensors(model: ModelSpec) -> list[Tensor]:
    """Every kind of weight tensor of ``model``."""
    return [
        t
        for t in (*_ends(model), *_attention(model), *_norms(model), *_dense_ffn(model), *_experts(model))
        if t.elements and t.count
    ]


def rank_bytes(model: ModelSpec, dtype: str, tensor: int, expert: int, data: int = 1) -> float:
    """Bytes on the fullest rank; ``dtype`` is canonical."""
    total = 0.0
    for t in tensors(model):
        each = dtypes.BYTES[dtypes.stored_as(dtype, t.part)]
        total += t.elements * t.count * each * _share(model, t.shard, tensor, expert, data)
    if model.mla and dtypes.stored_as(dtype, "linear") not in dtypes.FULL_PRECISION:
        # vLLM keeps a 16-bit copy of the up-projection, absorbed into the decode path
        # (vllm/model_executor/layers/attention/mla_attention.py, process_weights_after_loading).
        total += _kv_up(model) * model.layers * 2 / tensor
    return total


def _share(model: ModelSpec, shard: Shard, tensor: int, expert: int, data: int) -> float:
    """The part of a tensor that the fullest rank holds."""
    if shard == "tensor":
        return 1 / tensor
    if shard == "kv":
        return model.kv_heads_per_rank(tensor) / model.kv_heads
    if shard == "vocab":
        return padded_vocab(model.vocab) / model.vocab / tensor
    if shard == "expert":
        assert model.moe is not None
        if expert == 1:
            return 1 / (tensor * data)
        return math.ceil(model.moe.experts / expert) / model.moe.experts
    return 1.0


def _ends(m: ModelSpec) -> list[Tensor]:
    """Embeddings in, LM head out, and what lies between them and the blocks.

    Tied embeddings are on both ends of a pipeline.
    """
    start, end = m.has_embedding, m.has_head
    projected = m.embedding_dim != m.hidden
    return [
        Tensor("embedding", m.vocab * m.embedding_dim, int(start), "vocab"),
        Tensor("embedding_projection", m.embedding_dim * m.hidden if projected else 0, start + end),
        Tensor("positions", m.learned_positions * m.hidden, int(start)),
        Tensor("vision_tower", m.vision.parameters if m.vision else 0, int(start), "tensor"),
        *_head(m),
        Tensor("final_norm", m.hidden * (1 + m.norm_bias) if m.final_norm else 0, int(end)),
    ]


def _head(m: ModelSpec) -> list[Tensor]:
    """What turns the last hidden state into logits or a score."""
    end, logits = m.has_head, m.head == "lm"
    own_head = end and logits and not (m.tied_embeddings and m.has_embedding)
    dense = m.hidden * m.hidden + m.hidden if m.head_dense else 0
    return [
        Tensor("lm_head", m.vocab * m.embedding_dim, int(own_head), "vocab"),
        Tensor("lm_head_bias", m.vocab if m.lm_head_bias and logits else 0, int(end), "vocab"),
        Tensor("score_dense", dense, int(end)),
        Tensor("score_head", m.hidden if m.head == "score" else 0, int(end)),
    ]


def _norms(m: ModelSpec) -> list[Tensor]:
    return [
        Tensor("norm", m.hidden * (1 + m.norm_bias), m.norms_per_layer * m.layers),
        Tensor("qk_norm", m.head_dim if m.qk_norm else 0, 2 * m.layers),
    ]


def _attention(m: ModelSpec) -> list[Tensor]:
    if m.mla:
        return _latent_attention(m)
    q, kv = m.heads * m.head_dim, m.kv_heads * m.head_dim
    return [
        Tensor("q_proj", m.hidden * q, m.layers, "tensor", "linear"),
        Tensor("kv_proj", m.hidden * kv, 2 * m.layers, "kv", "linear"),
        Tensor("o_proj", q * m.hidden, m.layers, "tensor", "linear"),
        Tensor("q_bias", q if m.qkv_bias else 0, m.layers, "tensor"),
        Tensor("kv_bias", kv if m.qkv_bias else 0, 2 * m.layers, "kv"),
        Tensor("o_bias", m.hidden if m.o_bias else 0, m.layers),
        Tensor("sinks", m.heads if m.attention_sinks else 0, m.layers, "tensor"),
    ]


def _latent_attention(m: ModelSpec) -> list[Tensor]:
    assert m.mla is not None
    q = m.heads * (m.mla.qk_nope_head_dim + m.mla.qk_rope_head_dim)
    rank = m.mla.q_lora_rank
    queries = [Tensor("q_proj", m.hidden * q, m.layers, "tensor", "linear")]
    if rank is not None:
        queries = [
            Tensor("q_a_proj", m.hidden * rank, m.layers, "none", "linear"),
            Tensor("q_a_norm", rank, m.layers),
            Tensor("q_b_proj", rank * q, m.layers, "tensor", "linear"),
        ]
    return [
        *queries,
        Tensor("kv_a_proj", m.hidden * m.mla.latent_dim, m.layers, "none", "linear"),
        Tensor("kv_a_norm", m.mla.kv_lora_rank, m.layers),
        Tensor("kv_b_proj", _kv_up(m), m.layers, "tensor", "linear"),
        Tensor("o_proj", m.heads * m.mla.v_head_dim * m.hidden, m.layers, "tensor", "linear"),
    ]


def _kv_up(m: ModelSpec) -> int:
    """Elements of one layer's up-projection from the latent to keys and values."""
    assert m.mla is not None
    return m.mla.kv_lora_rank * m.heads * (m.mla.qk_nope_head_dim + m.mla.v_head_dim)


def _dense_ffn(m: ModelSpec) -> list[Tensor]:
    up = 2 if m.gated else 1
    return [
        Tensor("ffn", m.hidden * m.intermediate, (up + 1) * m.dense_layers, "tensor", "linear"),
        Tensor("ffn_up_bias", m.intermediate if m.mlp_bias else 0, up * m.dense_layers, "tensor"),
        Tensor("ffn_down_bias", m.hidden if m.mlp_bias else 0, m.dense_layers),
    ]


def _experts(m: ModelSpec) -> list[Tensor]:
    if m.moe is None:
        return []
    e, width = m.moe.experts, m.moe.intermediate
    bias = 2 * width + m.hidden if m.moe.expert_bias else 0
    return [
        Tensor("router", m.hidden * e, m.moe.layers),
        Tensor("router_bias", e if m.moe.router_bias else 0, m.moe.layers),
        Tensor("experts", 3 * m.hidden * width * e, m.moe.layers, "expert", "expert"),
        Tensor("expert_bias", bias * e, m.moe.layers, "expert"),
        Tensor("shared_expert", m.hidden * m.moe.shared_intermediate, 3 * m.moe.layers, "tensor", "linear"),
        Tensor("shared_gate", m.hidden if m.moe.shared_gate else 0, m.moe.layers),
    ]
