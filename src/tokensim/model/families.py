"""One small parser a model family: from the fields of its ``config.json`` to a ``ModelSpec``.

Defaults are those of the family's configuration class in Hugging Face transformers 4.57, used when a config
leaves the field out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from tokensim.model.base import MLA, ModelSpec, MoE
from tokensim.model.fields import Fields
from tokensim.model.vision import VisionTower, qwen2_5_vision


@dataclass(frozen=True, slots=True)
class Family:
    """How to read one ``model_type``: its parser, its ``architectures``, and what else it may have.

    ``nested``: a multimodal wrapper whose text decoder is under ``text_config``. ``vision`` reads its
    ``vision_config``; the fields of the decoder may then stand beside it or under ``text_config``.
    """

    parse: Callable[[Fields], ModelSpec]
    architectures: tuple[str, ...]
    moe: bool = False
    mla: bool = False
    nested: bool = False
    vision: Callable[[Fields], VisionTower] | None = None


def decoder(
    f: Fields,
    *,
    heads: int | None = None,
    kv_heads: int | None = None,
    head_dim: int | None = None,
    vocab: int | None = None,
    max_position: int | None = None,
    tied: bool = False,
    ffn: str = "intermediate_size",
) -> ModelSpec:
    """The fields that every family has; arguments are the family's defaults (None: required or derived)."""
    hidden = f.integer("hidden_size")
    layers = f.integer("num_hidden_layers")
    heads = f.integer("num_attention_heads", heads)
    kv_heads = f.integer("num_key_value_heads", kv_heads or heads)
    if heads % kv_heads:
        raise f.error("num_key_value_heads", f"{kv_heads} does not divide num_attention_heads = {heads}")
    if head_dim is None and f.get("head_dim") is None and hidden % heads:
        raise f.error(
            "num_attention_heads",
            f"{heads} does not divide hidden_size = {hidden}",
            "give head_dim if the heads have their own size",
        )
    head_dim = f.integer("head_dim", head_dim or hidden // heads)
    rope = f.section("rope_parameters")
    share = f.number("partial_rotary_factor", rope.number("partial_rotary_factor", 1.0) if rope else 1.0)
    return ModelSpec(
        family=str(f.config.get("model_type", "")),
        layers=layers,
        hidden=hidden,
        vocab=f.integer("vocab_size", vocab),
        intermediate=f.integer(ffn),
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        max_position=f.integer("max_position_embeddings", max_position),
        tied_embeddings=f.flag("tie_word_embeddings", tied),
        embedding_dim=hidden,
        rotary_dim=int(head_dim * share),
        rotary_layers=layers,
    )


def windowed(f: Fields, model: ModelSpec, window: int | None, layers: int) -> ModelSpec:
    """``model`` with a sliding ``window`` on ``layers`` layers, or on those that ``layer_types`` names."""
    kinds = f.items("layer_types", str)
    if kinds is not None:
        if len(kinds) != model.layers:
            raise f.error("layer_types", f"has {len(kinds)} entries for num_hidden_layers = {model.layers}")
        for kind in kinds:
            if kind not in ("full_attention", "sliding_attention", "chunked_attention"):
                raise f.error(
                    "layer_types", f"'{kind}' is not modelled", "attention layers only: full or sliding"
                )
        layers = sum(kind != "full_attention" for kind in kinds)
        if layers and window is None:
            raise f.error(
                "layer_types", "names sliding layers, but the config gives no window", "set sliding_window"
            )
    if window is None or layers == 0 or window >= model.max_position:
        return model  # a window as long as the context is none
    return replace(model, window=window, window_layers=layers)


def experts(f: Fields, count: str, width: str, layers: int, top_k: int | None = None) -> MoE:
    """The routed experts of ``layers`` layers, from the fields named ``count`` and ``width``."""
    number = f.integer(count)
    chosen = f.integer("num_experts_per_tok", top_k)
    if chosen > number:
        raise f.error("num_experts_per_tok", f"{chosen} is more than {count} = {number}")
    return MoE(experts=number, top_k=chosen, intermediate=f.integer(width), layers=layers)


def llama(f: Fields) -> ModelSpec:
    """Llama 1 to 3 and everything that copies it."""
    bias = f.flag("attention_bias", False)
    return replace(decoder(f), qkv_bias=bias, o_bias=bias, mlp_bias=f.flag("mlp_bias", False))


def mistral(f: Fields) -> ModelSpec:
    """Mistral: Llama with a sliding window on every layer (7B v0.1) or on none."""
    model = decoder(f, kv_heads=8)
    return windowed(f, model, f.optional_integer("sliding_window"), model.layers)


def mixtral(f: Fields) -> ModelSpec:
    """Mixtral: Mistral with routed experts in every layer."""
    model = mistral(f)
    return replace(model, moe=experts(f, "num_local_experts", "intermediate_size", model.layers, 2))


def _qwen_windowed(f: Fields, model: ModelSpec) -> ModelSpec:
    """Off unless ``use_sliding_window``; then layers from ``max_window_layers`` on have the window."""
    from_layer = f.integer("max_window_layers", 28, minimum=0)
    window = f.optional_integer("sliding_window")
    if not f.flag("use_sliding_window", False):
        return windowed(f, model, None, 0)
    return windowed(f, model, window, max(0, model.layers - from_layer))


def qwen2(f: Fields) -> ModelSpec:
    """Qwen 2 and 2.5: Llama with biases on Q, K and V."""
    return _qwen_windowed(f, replace(decoder(f), qkv_bias=True))


def qwen3(f: Fields) -> ModelSpec:
    """Qwen 3: no biases, a norm on each head of Q and K."""
    bias = f.flag("attention_bias", False)
    model = replace(decoder(f, head_dim=128), qk_norm=True, qkv_bias=bias, o_bias=bias)
    return _qwen_windowed(f, model)


def _qwen_experts(f: Fields, model: ModelSpec) -> MoE:
    step = f.integer("decoder_sparse_step", 1)
    dense = f.items("mlp_only_layers", int) or []
    sparse = sum(i not in dense and (i + 1) % step == 0 for i in range(model.layers))
    return experts(f, "num_experts", "moe_intermediate_size", sparse)


def qwen2_moe(f: Fields) -> ModelSpec:
    """Qwen 1.5 and 2 MoE: routed experts, and a shared one behind a gate."""
    model = qwen2(f)
    shared = f.integer("shared_expert_intermediate_size")
    return replace(model, moe=replace(_qwen_experts(f, model), shared_intermediate=shared, shared_gate=True))


def qwen3_moe(f: Fields) -> ModelSpec:
    """Qwen 3 MoE: routed experts only."""
    bias = f.flag("attention_bias", False)
    model = _qwen_windowed(f, replace(decoder(f), qk_norm=True, qkv_bias=bias, o_bias=bias))
    return replace(model, moe=_qwen_experts(f, model))


def gemma2(f: Fields) -> ModelSpec:
    """Gemma 2: norms before and after each block, every other layer with a window."""
    model = replace(decoder(f, head_dim=256, tied=True), norms_per_layer=4)
    f.refuse("attention_bias", False, "Gemma has no biases")
    return windowed(f, model, f.integer("sliding_window", 4096), (model.layers + 1) // 2)


def gemma3(f: Fields) -> ModelSpec:
    """Gemma 3: five layers with a window to one without, a norm on each head of Q and K."""
    model = decoder(f, heads=8, kv_heads=4, head_dim=256, vocab=262_208, max_position=131_072, tied=True)
    f.refuse("attention_bias", False, "Gemma has no biases")
    every = f.integer("sliding_window_pattern", 6)
    model = replace(model, norms_per_layer=4, qk_norm=True)
    return windowed(f, model, f.integer("sliding_window", 4096), model.layers - model.layers // every)


def _deepseek(f: Fields, router_bias: bool) -> ModelSpec:
    model = decoder(f)
    f.refuse("attention_bias", False, "biases of latent attention are not counted")
    if "q_lora_rank" not in f.config:
        raise f.error("q_lora_rank", "is missing", "give the rank, or null if queries are projected directly")
    mla = MLA(
        q_lora_rank=f.optional_integer("q_lora_rank"),
        kv_lora_rank=f.integer("kv_lora_rank"),
        qk_nope_head_dim=f.integer("qk_nope_head_dim"),
        qk_rope_head_dim=f.integer("qk_rope_head_dim"),
        v_head_dim=f.integer("v_head_dim"),
    )
    first, step = f.integer("first_k_dense_replace", 0, minimum=0), f.integer("moe_layer_freq", 1)
    sparse = sum(i >= first and i % step == 0 for i in range(model.layers))
    moe = experts(f, "n_routed_experts", "moe_intermediate_size", sparse)
    shared = f.integer("n_shared_experts", 0, minimum=0) * moe.intermediate
    moe = replace(moe, shared_intermediate=shared, router_bias=router_bias)
    head_dim = mla.qk_nope_head_dim + mla.qk_rope_head_dim
    return replace(model, mla=mla, moe=moe, head_dim=head_dim, rotary_dim=mla.qk_rope_head_dim)


def deepseek_v2(f: Fields) -> ModelSpec:
    """DeepSeek V2 (arXiv:2405.04434): latent attention, many small experts, shared experts."""
    return _deepseek(f, router_bias=f.text("topk_method") == "noaux_tc")


def deepseek_v3(f: Fields) -> ModelSpec:
    """DeepSeek V3 and R1 (arXiv:2412.19437): V2 with a load-balancing bias in the router."""
    return _deepseek(f, router_bias=True)


def gpt_oss(f: Fields) -> ModelSpec:
    """GPT-OSS (arXiv:2508.10925): biases everywhere, attention sinks, every other layer with a window."""
    model = decoder(f, kv_heads=8, head_dim=64)
    bias = f.flag("attention_bias", True)
    moe = experts(f, "num_local_experts", "intermediate_size", model.layers, 4)
    model = replace(
        model,
        qkv_bias=bias,
        o_bias=bias,
        attention_sinks=True,
        moe=replace(moe, router_bias=True, expert_bias=True),
    )
    return windowed(f, model, f.integer("sliding_window", 128), (model.layers + 1) // 2)


def phi(f: Fields) -> ModelSpec:
    """Phi 1 to 2: attention and FFN in parallel after one LayerNorm, biases everywhere."""
    f.refuse("qk_layernorm", False, "norms with biases on Q and K are not counted")
    return replace(
        decoder(f),
        gated=False,
        norms_per_layer=1,
        norm_bias=True,
        qkv_bias=True,
        o_bias=True,
        mlp_bias=True,
        lm_head_bias=True,
    )


def phi3(f: Fields) -> ModelSpec:
    """Phi 3 and 4: Llama with fused projections."""
    model = decoder(f)
    f.refuse("attention_bias", False, "Phi-3 has no biases")
    return windowed(f, model, f.optional_integer("sliding_window"), model.layers)


def phimoe(f: Fields) -> ModelSpec:
    """Phi-3.5-MoE: LayerNorms and attention with biases, routed experts in every layer."""
    model = decoder(f, kv_heads=8)
    bias = f.flag("attention_bias", False)
    model = replace(
        model,
        norm_bias=True,
        qkv_bias=bias,
        o_bias=bias,
        lm_head_bias=f.flag("lm_head_bias", False),
        moe=experts(f, "num_local_experts", "intermediate_size", model.layers, 2),
    )
    return windowed(f, model, f.optional_integer("sliding_window"), model.layers)


def opt(f: Fields) -> ModelSpec:
    """OPT (arXiv:2205.01068): learned positions (offset by 2), ReLU FFN, LayerNorms and biases."""
    model = decoder(f, tied=True, ffn="ffn_dim")
    f.refuse("enable_bias", True, "OPT without biases")
    f.refuse("layer_norm_elementwise_affine", True, "OPT without norm weights")
    return replace(
        model,
        gated=False,
        embedding_dim=f.integer("word_embed_proj_dim", model.hidden),
        learned_positions=model.max_position + 2,
        rotary_dim=0,
        rotary_layers=0,
        norm_bias=True,
        qkv_bias=True,
        o_bias=True,
        mlp_bias=True,
        final_norm=f.flag("do_layer_norm_before", True) and not f.flag("_remove_final_layer_norm", False),
    )


def bert(f: Fields) -> ModelSpec:
    """BERT, RoBERTa and XLM-R: encoders with learned positions and token types, LayerNorms behind the blocks,
    biases everywhere, GELU FFNs; published to embed, or with a classifier to score.

    The norm of the embeddings is the one outside the layers. RoBERTa's positions start behind the padding id
    (vllm/config/model.py shortens the context by it).
    """
    f.refuse("is_decoder", False, "an encoder is modelled")
    f.refuse("position_embedding_type", "absolute", "learned positions are modelled")
    model = decoder(f)
    scores = any("SequenceClassification" in name for name in f.items("architectures", str) or [])
    skipped = f.integer("pad_token_id", 1, minimum=0) + 1 if "roberta" in model.family else 0
    return replace(
        model,
        causal=False,
        head="score" if scores else "pool",
        head_dense=scores,
        gated=False,
        max_position=model.max_position - skipped,
        learned_positions=model.max_position + f.integer("type_vocab_size", 2),
        rotary_dim=0,
        rotary_layers=0,
        norm_bias=True,
        qkv_bias=True,
        o_bias=True,
        mlp_bias=True,
    )


def llama4(f: Fields) -> ModelSpec:
    """Llama 4: experts in every (other) layer beside a shared one; three of four layers attend in chunks."""
    model = decoder(f, kv_heads=8, head_dim=128, ffn="intermediate_size_mlp")
    step = f.integer("interleave_moe_layer_step", 1)
    listed = f.items("moe_layers", int)
    moe = experts(
        f,
        "num_local_experts",
        "intermediate_size",
        len(range(step - 1, model.layers, step)) if listed is None else len(listed),
        1,
    )
    interval = f.integer("no_rope_layer_interval", 4)
    local = f.items("no_rope_layers", int) or [int((i + 1) % interval != 0) for i in range(model.layers)]
    if len(local) != model.layers:
        raise f.error("no_rope_layers", f"has {len(local)} entries for num_hidden_layers = {model.layers}")
    bias = f.flag("attention_bias", False)
    model = replace(
        model,
        rotary_layers=sum(local),
        qkv_bias=bias,
        o_bias=bias,
        moe=replace(moe, shared_intermediate=moe.intermediate),
    )
    return windowed(f, model, f.integer("attention_chunk_size", 8192), sum(local))


FAMILIES: dict[str, Family] = {
    "llama": Family(llama, ("LlamaForCausalLM",)),
    "mistral": Family(mistral, ("MistralForCausalLM",)),
    "mistral3": Family(mistral, ("Mistral3ForConditionalGeneration",), nested=True),
    "mixtral": Family(mixtral, ("MixtralForCausalLM",), moe=True),
    "qwen2": Family(qwen2, ("Qwen2ForCausalLM",)),
    "qwen2_5_vl": Family(qwen2, ("Qwen2_5_VLForConditionalGeneration",), vision=qwen2_5_vision),
    "bert": Family(bert, ("BertModel", "BertForSequenceClassification")),
    "roberta": Family(bert, ("RobertaModel", "RobertaForSequenceClassification")),
    "xlm-roberta": Family(bert, ("XLMRobertaModel", "XLMRobertaForSequenceClassification")),
    "qwen2_moe": Family(qwen2_moe, ("Qwen2MoeForCausalLM",), moe=True),
    "qwen3": Family(qwen3, ("Qwen3ForCausalLM",)),
    "qwen3_moe": Family(qwen3_moe, ("Qwen3MoeForCausalLM",), moe=True),
    "gemma2": Family(gemma2, ("Gemma2ForCausalLM",)),
    "gemma3_text": Family(gemma3, ("Gemma3ForCausalLM",)),
    "gemma3": Family(gemma3, ("Gemma3ForConditionalGeneration",), nested=True),
    "deepseek_v2": Family(deepseek_v2, ("DeepseekV2ForCausalLM",), moe=True, mla=True),
    "deepseek_v3": Family(deepseek_v3, ("DeepseekV3ForCausalLM",), moe=True, mla=True),
    "gpt_oss": Family(gpt_oss, ("GptOssForCausalLM",), moe=True),
    "phi": Family(phi, ("PhiForCausalLM",)),
    "phi3": Family(phi3, ("Phi3ForCausalLM",)),
    "phimoe": Family(phimoe, ("PhiMoEForCausalLM", "PhimoeForCausalLM"), moe=True),
    "opt": Family(opt, ("OPTForCausalLM",)),
    "llama4_text": Family(llama4, ("Llama4ForCausalLM",), moe=True),
    "llama4": Family(llama4, ("Llama4ForConditionalGeneration",), moe=True, nested=True),
}
