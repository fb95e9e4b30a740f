"""The operators of one step of a model on one rank, under tensor and expert parallelism, as in vLLM.

Column-parallel matrices lose rows of their output, row-parallel ones rows of their input and end in an
all-reduce; norms, router and MLA's down-projections run whole on every rank. ``x`` is the bytes of one
activation.
"""

from __future__ import annotations

import math

from tokensim.model import dtypes
from tokensim.model.base import MLA, ModelSpec, MoE
from tokensim.model.operators import Attention, Collective, Elementwise, Experts, Gemm, Operator
from tokensim.model.weights import padded_vocab


def operators(
    model: ModelSpec,
    weights: str,
    kv_dtype: str,
    tensor: int,
    expert: int,
    activation_dtype: str = "bfloat16",
    data: int = 1,
) -> list[Operator]:
    """Every operator of one step of ``model`` on one rank, in the order in which they run.

    ``weights`` is a weight format or ``auto``, ``kv_dtype`` that of the KV cache, ``tensor`` and ``expert``
    the degrees of parallelism (``expert`` > 1: whole experts on each rank). ``data`` replicas share the
    experts: dealt to the ranks of all of them if ``expert`` is so many, else each expert is sliced over all
    those ranks. Raises ``InputError`` for a plan or a format that is impossible.
    """
    model.check_parallel(tensor, expert, data)
    plan = _Plan(model, model.weight_dtype(weights), kv_dtype, tensor, expert, activation_dtype, data)
    start = plan.start() if model.has_embedding else plan.received()
    end = plan.end() if model.has_head else []
    norms = plan.norms()
    return [op for op in (*start, *norms, *plan.attention(), *plan.ffn(), *end) if op.count]


def stage_output_bytes(model: ModelSpec, bytes_each: float) -> float:
    """Bytes of one token that a pipeline stage hands to the next: hidden state and residual
    (``make_empty_intermediate_tensors_factory`` in ``vllm/model_executor/models/llama.py``)."""
    return 2 * model.hidden * bytes_each


class _Plan:
    """One model under one parallel plan: what every operator's shape depends on."""

    def __init__(
        self,
        model: ModelSpec,
        weights: str,
        kv_dtype: str,
        tensor: int,
        expert: int,
        activation_dtype: str,
        data: int,
    ) -> None:
        self.model = model
        self.tensor = tensor
        self.expert = expert
        self.replicas = max(data, expert // tensor)  # data-parallel replicas that share the experts
        self.kv_dtype = kv_dtype
        self.x = dtypes.BYTES[dtypes.weight_dtype(activation_dtype)]
        self.linear = dtypes.stored_as(weights, "linear")
        self.routed = dtypes.stored_as(weights, "expert")
        self.rest = dtypes.stored_as(weights, "rest")

    def start(self) -> list[Operator]:
        """Token embeddings (and learned positions, if any)."""
        m = self.model
        reads = 1 + (m.learned_positions > 0)
        ops: list[Operator] = [Elementwise("embedding", (reads * m.embedding_dim + m.hidden) * self.x, 1)]
        ops += self._reduced("embedding_all_reduce", 1)
        if m.embedding_dim != m.hidden:
            ops.append(Gemm("embedding_projection", m.hidden, m.embedding_dim, 1, self.rest))
        return ops

    def received(self) -> list[Operator]:
        """What a later stage of a pipeline starts with: each rank has got its slice of the hidden states and
        the residual from its counterpart, and gathers the others' (``recv_tensor_dict`` in
        ``vllm/distributed/parallel_state.py``)."""
        if self.tensor == 1:
            return []
        slice_ = stage_output_bytes(self.model, self.x) / self.tensor
        return [Collective("stage_all_gather", "all_gather", slice_, self.tensor, 1)]

    def norms(self) -> list[Operator]:
        """Norms over the hidden size; one is fused with the residual before it: reads both, writes the sum
        and the normalised."""
        m = self.model
        return [Elementwise("norm", 4 * m.hidden * self.x, m.norms_per_layer * m.layers)]

    def attention(self) -> list[Operator]:
        """Projections, attention over the cache, and the way back to the hidden size."""
        m = self.model
        ops = self._latent(m.mla) if m.mla else self._grouped()
        # With one norm (Phi) attention and FFN run side by side and share one all-reduce.
        parallel = m.norms_per_layer == 1
        return ops if parallel else ops + self._reduced("attention_all_reduce", m.layers)

    def ffn(self) -> list[Operator]:
        """Dense FFNs, and expert layers where the model has them."""
        m = self.model
        ops = self._mlp("ffn", m.intermediate, m.dense_layers)
        if m.moe is None or self.replicas == 1:
            return ops + (self._experts(m.moe) if m.moe else []) + self._reduced("ffn_all_reduce", m.layers)
        return [
            *ops,
            *self._reduced("ffn_all_reduce", m.dense_layers),
            *self._exchanged(m.moe, self._experts(m.moe)),
        ]

    def end(self) -> list[Operator]:
        """The last norm, and what the task needs of each request's last token: logits and sampling, its
        hidden state (normalised, in 32 bits), or a score."""
        m = self.model
        vocab = padded_vocab(m.vocab) // self.tensor
        ops: list[Operator] = [Elementwise("final_norm", 4 * m.hidden * self.x, int(m.final_norm))]
        if m.head_dense:
            ops.append(Gemm("score_dense", m.hidden, m.hidden, 1, self.rest, "samples"))
        if m.head == "pool":
            return [*ops, Elementwise("pooling", m.hidden * (self.x + 4), 1, "samples")]
        if m.head == "score":
            return [*ops, Gemm("score_head", 1, m.hidden, 1, self.rest, "samples")]
        if m.embedding_dim != m.hidden:
            ops.append(Gemm("output_projection", m.embedding_dim, m.hidden, 1, self.rest))
        ops.append(Gemm("lm_head", vocab, m.embedding_dim, 1, self.rest, "samples"))
        if self.tensor > 1:
            ops.append(
                Collective("logits_all_gather", "all_gather", vocab * self.x, self.tensor, 1, "samples")
            )
        # vLLM's random sampling (vllm/v1/sample): cast to float32 (x in, 4 out), softmax (4 in, 4 out),
        # exponential noise (4 out), probabilities over noise (8 in, 4 out), argmax (4 in).
        ops.append(Elementwise("sampling", m.vocab * (self.x + 32), 1, "samples"))
        return ops

    def _grouped(self) -> list[Operator]:
        """Multi-head, grouped-query and multi-query attention."""
        m = self.model
        heads, kv_heads = m.heads // self.tensor, m.kv_heads_per_rank(self.tensor)
        rotated = 2 * (heads + kv_heads) * m.rotary_dim * self.x
        normed = 2 * (heads + kv_heads) * m.head_dim * self.x
        ops: list[Operator] = [
            Gemm("qkv_proj", (heads + 2 * kv_heads) * m.head_dim, m.hidden, m.layers, self.linear),
            Elementwise("qk_norm", normed, m.layers if m.qk_norm else 0),
            Elementwise("rotary", rotated, m.rotary_layers),
        ]
        for window, layers in ((None, m.layers - m.window_layers), (m.window, m.window_layers)):
            ops.append(
                Attention(
                    name="attention" if window is None else "attention_window",
                    heads=heads,
                    kv_heads=kv_heads,
                    qk_dim=m.head_dim,
                    v_dim=m.head_dim,
                    kv_bytes_per_token=m.kv_bytes_per_layer(self.kv_dtype, self.tensor)
                    if m.causal
                    else 2 * kv_heads * m.head_dim * self.x,
                    count=layers,
                    window=window,
                    causal=m.causal,
                )
            )
        ops.append(Gemm("o_proj", m.hidden, heads * m.head_dim, m.layers, self.linear))
        return ops

    def _latent(self, mla: MLA) -> list[Operator]:
        """Latent attention: decode works on latents, the up-projection absorbed into queries and outputs.

        For each new token the absorbed form and the expansion that prefill uses do the same multiplications;
        the absorbed weights are kept in the activations' format. Prefill attends with the expanded heads.
        """
        m, n = self.model, self.model.layers
        heads = m.heads // self.tensor
        qk = mla.qk_nope_head_dim + mla.qk_rope_head_dim
        if mla.q_lora_rank is None:
            ops: list[Operator] = [Gemm("q_proj", heads * qk, m.hidden, n, self.linear)]
        else:
            ops = [
                Gemm("q_a_proj", mla.q_lora_rank, m.hidden, n, self.linear),
                Elementwise("q_a_norm", 2 * mla.q_lora_rank * self.x, n),
                Gemm("q_b_proj", heads * qk, mla.q_lora_rank, n, self.linear),
            ]
        absorbed = "bfloat16" if self.linear not in dtypes.FULL_PRECISION else self.linear
        return [
            *ops,
            Gemm("kv_a_proj", mla.latent_dim, m.hidden, n, self.linear),
            Elementwise("kv_a_norm", 2 * mla.kv_lora_rank * self.x, n),
            Elementwise("rotary", 2 * (heads + 1) * m.rotary_dim * self.x, m.rotary_layers),
            Gemm("q_absorb", heads * mla.kv_lora_rank, mla.qk_nope_head_dim, n, absorbed),
            Attention(
                name="attention",
                heads=heads,
                kv_heads=1,
                qk_dim=mla.latent_dim,
                v_dim=mla.kv_lora_rank,
                kv_bytes_per_token=m.kv_bytes_per_layer(self.kv_dtype, self.tensor),
                count=n,
                prefill_dims=(qk, mla.v_head_dim),
            ),
            Gemm("v_up_proj", heads * mla.v_head_dim, mla.kv_lora_rank, n, absorbed),
            Gemm("o_proj", m.hidden, heads * mla.v_head_dim, n, self.linear),
        ]

    def _mlp(self, name: str, intermediate: int, layers: int) -> list[Operator]:
        """One FFN of width ``intermediate``, sliced over the ranks, without its all-reduce."""
        m = self.model
        width = intermediate // self.tensor
        up = 2 if m.gated else 1
        return [
            Gemm(f"{name}_gate_up" if m.gated else f"{name}_up", up * width, m.hidden, layers, self.linear),
            Elementwise(f"{name}_activation", (up + 1) * width * self.x, layers),
            Gemm(f"{name}_down", m.hidden, width, layers, self.linear),
        ]

    def _experts(self, moe: MoE) -> list[Operator]:
        """Router, routed experts and what is shared beside them.

        On one replica every rank has every token, so that expert parallelism needs no exchange before the
        all-reduce that tensor parallelism ends with as well (vLLM's ``FusedMoE`` without data parallelism).
        """
        m = self.model
        local = math.ceil(moe.experts / self.expert)
        slices = 1 if self.expert > 1 else self.tensor * self.replicas
        width = moe.intermediate // slices
        pooled = self.replicas > 1
        rows = self.replicas * moe.top_k * local / moe.experts  # expert rows on this rank for each token
        ops: list[Operator] = [
            Gemm("router", moe.experts, m.hidden, moe.layers, self.rest),
            Elementwise("router_top_k", moe.experts * self.x + 8 * moe.top_k, moe.layers),
            Experts(
                name="experts",
                experts=local,
                total_experts=moe.experts,
                top_k=moe.top_k,
                hidden=m.hidden,
                intermediate=width,
                gemms=3,
                count=moe.layers,
                weight_dtype=self.routed,
                replicas=self.replicas,
            ),
            Elementwise("experts_activation", 3 * rows * width * self.x, moe.layers, pooled=pooled),
            Elementwise("experts_combine", (rows + 1) * m.hidden * self.x, moe.layers, pooled=pooled),
        ]
        if moe.shared_intermediate:
            ops += self._mlp("shared_expert", moe.shared_intermediate, moe.layers)
            ops.append(Gemm("shared_expert_gate", 1, m.hidden, moe.layers * moe.shared_gate, self.rest))
        return ops

    def _exchanged(self, moe: MoE, layer: list[Operator]) -> list[Operator]:
        """An expert layer between the collectives by which data-parallel replicas share experts.

        vLLM's default backend ``allgather_reducescatter``: all ranks gather all tokens (each brings its
        slice) and which experts they go to, with what weight (4 bytes each), run their experts, and
        reduce-scatter the sums; the ranks of a replica then gather theirs (``AgRsAll2AllManager`` in
        ``vllm/distributed/device_communicators/all2all.py``).
        """
        row = self.model.hidden * self.x
        slice_ = row / self.tensor
        ranks = self.tensor * self.replicas
        routing = 8 * moe.top_k / self.tensor
        ops: list[Operator] = [
            Collective("experts_all_gather", "all_gather", slice_, ranks, moe.layers, pooled=True),
            Collective("routing_all_gather", "all_gather", routing, ranks, moe.layers, pooled=True),
            *layer,
            Collective(
                "experts_reduce_scatter",
                "reduce_scatter",
                row * self.replicas,
                ranks,
                moe.layers,
                pooled=True,
            ),
        ]
        if self.tensor > 1:
            ops.append(Collective("ffn_all_gather", "all_gather", slice_, self.tensor, moe.layers))
        return ops

    def _reduced(self, name: str, count: int) -> list[Operator]:
        """The all-reduce of one hidden vector a token, if there is more than one rank."""
        if self.tensor == 1:
            return []
        return [Collective(name, "all_reduce", self.model.hidden * self.x, self.tensor, count)]
