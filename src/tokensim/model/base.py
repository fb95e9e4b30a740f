"""A model: the facts of its architecture, and what follows from them.

A multimodal model is described by its text decoder, and its vision tower where that is modelled
(``tokensim.model.vision``); of others the tower is neither counted nor run.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from tokensim.errors import InputError
from tokensim.model import dtypes, weights
from tokensim.model.vision import VisionTower

Head = Literal["lm", "pool", "score"]
TASKS: dict[str, Head] = {"generate": "lm", "embed": "pool", "score": "score"}
"""What follows the last layer, by the task."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MoE:
    """Expert layers: each token goes to ``top_k`` of ``experts`` gated FFNs of width ``intermediate``.

    ``layers`` of the model's layers are such; the others are dense. ``shared_intermediate`` is the total
    width of the experts that every token visits (0: none); ``shared_gate`` weighs them by a learned scalar
    (Qwen2-MoE).
    """

    experts: int
    top_k: int
    intermediate: int
    layers: int
    shared_intermediate: int = 0
    shared_gate: bool = False
    router_bias: bool = False
    expert_bias: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MLA:
    """Multi-head latent attention (DeepSeek-V2, arXiv:2405.04434): what is cached is one latent a token.

    ``q_lora_rank`` None means that queries are projected directly.
    """

    q_lora_rank: int | None
    kv_lora_rank: int
    qk_nope_head_dim: int
    qk_rope_head_dim: int
    v_head_dim: int

    @property
    def latent_dim(self) -> int:
        """Numbers cached for one token in one layer: the latent and the rotary part of the key."""
        return self.kv_lora_rank + self.qk_rope_head_dim


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """A decoder-only transformer, or an encoder.

    ``intermediate`` is the FFN width of dense layers, ``gated`` says that the FFN has a gate (three
    matrices). ``norms_per_layer`` counts norms over the hidden size; ``qk_norm`` adds two over the head size.
    ``embedding_dim`` differs from ``hidden`` only where embeddings are projected (OPT-350M).
    ``learned_positions`` is the number of learned position vectors (OPT), ``rotary_dim`` the rotated numbers
    a head in ``rotary_layers`` layers. ``window_layers`` layers attend to the last ``window`` tokens only;
    Llama 4's chunks of local attention are described by their length, which is the most that a token there
    can see. ``native_dtype`` is the format in which the weights are published.

    ``head``: what follows the last layer: logits and sampling (``lm``), nothing but the pooled vector
    (``pool``), or one score (``score``; ``head_dense``: behind a square matrix). ``causal`` false is an
    encoder: every token sees all others, and no KV is kept.

    A stage of a pipeline (``stages.py``) may be without the embeddings (``has_embedding``), or without final
    norm and LM head (``has_head``).
    """

    name: str = ""
    family: str
    layers: int
    hidden: int
    vocab: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    max_position: int
    gated: bool = True
    tied_embeddings: bool = False
    embedding_dim: int
    learned_positions: int = 0
    rotary_dim: int
    rotary_layers: int
    norms_per_layer: int = 2
    norm_bias: bool = False
    final_norm: bool = True
    qk_norm: bool = False
    qkv_bias: bool = False
    o_bias: bool = False
    mlp_bias: bool = False
    lm_head_bias: bool = False
    attention_sinks: bool = False
    window: int | None = None
    window_layers: int = 0
    moe: MoE | None = None
    mla: MLA | None = None
    vision: VisionTower | None = None
    head: Head = "lm"
    head_dense: bool = False
    causal: bool = True
    native_dtype: str = "bfloat16"
    source: str = ""
    has_embedding: bool = True
    has_head: bool = True

    @property
    def parameters(self) -> int:
        """All parameters, those of a modelled vision tower included; tied embeddings count once."""
        return sum(t.elements * t.count for t in weights.tensors(self))

    @property
    def active_parameters(self) -> int:
        """Parameters that one token meets: all but the routed experts that it does not go to."""
        if self.moe is None:
            return self.parameters
        experts = sum(t.elements * t.count for t in weights.tensors(self) if t.shard == "expert")
        return self.parameters - experts + experts * self.moe.top_k // self.moe.experts

    @property
    def dense_layers(self) -> int:
        """Layers with a dense FFN."""
        return self.layers - (self.moe.layers if self.moe else 0)

    @property
    def windows(self) -> tuple[int | None, int]:
        """The sliding window in tokens (None: no layer has one) and the number of layers that have it."""
        return self.window, self.window_layers

    def weight_dtype(self, dtype: str) -> str:
        """The canonical name of a weight format; ``auto`` is the one in which the model is published."""
        return self.native_dtype if dtype == "auto" else dtypes.weight_dtype(dtype)

    def weight_bytes(self, dtype: str = "auto", tensor: int = 1, expert: int = 1, data: int = 1) -> float:
        """Bytes of weights on the fullest rank when they are stored as ``dtype`` (``tokensim.model.dtypes``).

        ``tensor`` slices matrices and vocabulary as vLLM does: norms, router and MLA's down-projections
        are on every rank, KV heads are repeated when there are fewer than ranks. ``expert`` > 1 deals whole
        experts to the ranks instead of slicing each over the ranks of all ``data`` replicas.
        """
        return weights.rank_bytes(self, self.weight_dtype(dtype), tensor, expert, data)

    def kv_heads_per_rank(self, tensor: int = 1) -> int:
        """Cached KV heads on one of ``tensor`` ranks; at least one, so that few heads repeat."""
        return 1 if self.mla else max(1, self.kv_heads // tensor)

    def kv_bytes_per_layer(self, dtype: str = "auto", tensor: int = 1) -> float:
        """Bytes of KV cache of one token in one layer on one rank (MLA's latent is whole on every rank)."""
        if not self.causal:
            return 0.0
        numbers = self.mla.latent_dim if self.mla else 2 * self.kv_heads_per_rank(tensor) * self.head_dim
        return numbers * dtypes.kv_bytes(dtype)

    def kv_bytes_per_token(self, dtype: str = "auto", tensor: int = 1) -> float:
        """Bytes of KV cache of one token in all layers on one rank, sliding-window layers included."""
        return self.layers * self.kv_bytes_per_layer(dtype, tensor)

    def for_task(self, task: str, where: str = "workload.task") -> ModelSpec:
        """The model as it serves ``task`` (see ``TASKS``): a decoder of any family loses its LM head for
        ``embed`` and gets one of size 1 for ``score``, as vLLM converts it. Raises ``InputError`` at
        ``where`` for a model that cannot."""
        head = TASKS[task]
        if head == self.head:
            return self
        if self.head != "lm":
            fits = next(name for name, needed in TASKS.items() if needed == self.head)
            raise InputError(
                f"{self.name or self.family} cannot {task}: it is made to {fits}",
                where=where,
                hint=f"set task: {fits}, or take another model",
            )
        return replace(self, head=head)

    def check_parallel(self, tensor: int, expert: int = 1, data: int = 1, where: str = "parallel") -> None:
        """Refuse a plan that vLLM could not shard.

        Raises ``InputError`` at ``where.tensor`` or ``where.expert``.

        ``expert`` is 1 (every expert is sliced over the ranks of all ``data`` replicas), or ``tensor`` times
        the number of data-parallel replicas among which whole experts are dealt (vLLM's
        ``--enable-expert-parallel``).
        """

        def refuse(field: str, message: str, hint: str) -> InputError:
            return InputError(f"{message} ({self.name or self.family})", where=f"{where}.{field}", hint=hint)

        for field, ranks in (("tensor", tensor), ("expert", expert)):
            if ranks < 1:
                raise refuse(field, f"{ranks} is not a number of ranks", "give 1 or more")
        width = self.moe.intermediate if self.moe else 0
        if data > 1 and expert == 1 and width % (tensor * data):
            raise refuse(
                "tensor",
                f"tensor × data = {tensor * data} does not divide the model's expert width, {width}",
                f"give expert: {tensor * data}, so that whole experts are dealt to the ranks",
            )
        if not self._shardable(tensor, expert > 1):
            problem = next(p for p in self._sizes(expert > 1).items() if not _divides(tensor, p))
            possible = [t for t in range(1, self.heads + 1) if self._shardable(t, expert > 1)]
            raise refuse(
                "tensor",
                f"{tensor} does not divide the model's {problem[0]}, {problem[1]}",
                "possible: " + ", ".join(map(str, possible)),
            )
        if expert == 1:
            return
        if self.moe is None:
            raise refuse("expert", f"{expert}, but the model has no experts", "give 1")
        if expert % tensor:
            raise refuse(
                "expert",
                f"{expert} is not a multiple of tensor = {tensor}",
                f"give 1 (slice every expert), or {tensor} times the number of data-parallel replicas",
            )
        if expert > self.moe.experts:
            raise refuse(
                "expert", f"{expert} ranks for {self.moe.experts} experts", f"at most {self.moe.experts}"
            )

    def _sizes(self, whole_experts: bool) -> dict[str, int]:
        sizes = {"attention heads": self.heads}
        if self.mla is None:
            sizes["KV heads"] = self.kv_heads
        if self.dense_layers:
            sizes["FFN width"] = self.intermediate
        if self.moe and not whole_experts:
            sizes["expert width"] = self.moe.intermediate
        if self.vision is not None:
            sizes["vision heads"] = self.vision.heads
        if self.moe and self.moe.shared_intermediate:
            sizes["shared expert width"] = self.moe.shared_intermediate
        sizes["padded vocabulary"] = weights.padded_vocab(self.vocab)
        return sizes

    def _shardable(self, tensor: int, whole_experts: bool) -> bool:
        return all(_divides(tensor, size) for size in self._sizes(whole_experts).items())


def _divides(tensor: int, size: tuple[str, int]) -> bool:
    """Whether ``tensor`` ranks share ``size`` evenly; KV heads may also be repeated evenly."""
    name, value = size
    return value % tensor == 0 or (name == "KV heads" and tensor % value == 0)
