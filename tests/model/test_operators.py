"""The operators of a step: their shapes add up to the model, alone and shared among ranks."""

import pytest

from tokensim.errors import InputError
from tokensim.model import ModelSpec, catalog_names, load_model, operators
from tokensim.model.operators import Attention, Collective, Elementwise, Experts, Gemm, Operator

LLAMA = "meta-llama/Llama-3.1-8B"
DENSE = "Qwen/Qwen3-8B"
MOE = "Qwen/Qwen3-30B-A3B"


def multiplied(ops: list[Operator], rank_share: bool = False) -> float:
    """Weights that one token is multiplied with (``rank_share``: only with the experts of this rank)."""
    total = 0.0
    for op in ops:
        if isinstance(op, Gemm):
            total += op.n * op.k * op.count
        elif isinstance(op, Experts):
            rows = op.top_k * op.experts / op.total_experts if rank_share else op.top_k
            total += rows * op.gemms * op.hidden * op.intermediate * op.count
    return total


def unmultiplied(model: ModelSpec) -> float:
    """Active parameters that no GEMM touches: the input embedding, if no LM head shares it; positions of
    encoders."""
    if model.head != "lm":
        return (model.vocab + model.learned_positions) * model.embedding_dim
    return 0 if model.tied_embeddings else model.vocab * model.embedding_dim


def by_name(ops: list[Operator]) -> dict[str, Operator]:
    names = [op.name for op in ops]
    assert len(names) == len(set(names))
    return {op.name: op for op in ops}


@pytest.mark.parametrize("name", catalog_names())
def test_a_token_is_multiplied_with_the_active_parameters(name: str) -> None:
    model = load_model(name)
    expected = model.active_parameters - unmultiplied(model)
    if model.vision is not None:  # it runs on other rows, and has its own test
        expected -= model.vision.parameters
    # left over: norms, biases, learned positions and the padding of the vocabulary
    assert multiplied(operators(model, "auto", "auto", 1, 1)) == pytest.approx(expected, rel=0.015)


def test_llama_by_hand() -> None:
    ops = by_name(operators(load_model(LLAMA), "bfloat16", "auto", 1, 1))
    assert ops["qkv_proj"] == Gemm("qkv_proj", 4096 + 2 * 1024, 4096, 32, "bfloat16")
    assert ops["o_proj"] == Gemm("o_proj", 4096, 4096, 32, "bfloat16")
    assert ops["ffn_gate_up"] == Gemm("ffn_gate_up", 2 * 14336, 4096, 32, "bfloat16")
    assert ops["ffn_down"] == Gemm("ffn_down", 4096, 14336, 32, "bfloat16")
    assert ops["lm_head"] == Gemm("lm_head", 128256, 4096, 1, "bfloat16", "samples")
    assert ops["attention"] == Attention("attention", 32, 8, 128, 128, 4096, 32)
    assert ops["rotary"] == Elementwise("rotary", 2 * 40 * 128 * 2, 32)
    assert ops["norm"] == Elementwise("norm", 4 * 4096 * 2, 64)
    assert not any(isinstance(op, Collective) for op in ops.values())


def test_tensor_parallel_by_hand() -> None:
    ops = by_name(operators(load_model(LLAMA), "bfloat16", "auto", 4, 1))
    assert ops["qkv_proj"] == Gemm("qkv_proj", 1024 + 2 * 256, 4096, 32, "bfloat16")
    assert ops["o_proj"] == Gemm("o_proj", 4096, 1024, 32, "bfloat16")
    assert ops["attention"] == Attention("attention", 8, 2, 128, 128, 1024, 32)
    collectives = [op for op in ops.values() if isinstance(op, Collective)]
    assert collectives == [
        Collective("embedding_all_reduce", "all_reduce", 8192, 4, 1),
        Collective("attention_all_reduce", "all_reduce", 8192, 4, 32),
        Collective("ffn_all_reduce", "all_reduce", 8192, 4, 32),
        Collective("logits_all_gather", "all_gather", 128256 / 4 * 2, 4, 1, "samples"),
    ]


@pytest.mark.parametrize("tensor", [2, 4])
def test_ranks_share_the_work_of_a_dense_model(tensor: int) -> None:
    model = load_model(DENSE)
    whole = multiplied(operators(model, "bfloat16", "auto", 1, 1))
    assert tensor * multiplied(operators(model, "bfloat16", "auto", tensor, 1)) == whole


def test_attention_and_ffn_of_phi_2_run_side_by_side_with_one_all_reduce() -> None:
    ops = by_name(operators(load_model("microsoft/phi-2"), "float16", "auto", 2, 1))
    assert "attention_all_reduce" not in ops
    assert ops["ffn_all_reduce"].count == 32
    assert ops["ffn_up"] == Gemm("ffn_up", 5120, 2560, 32, "float16")


def test_layers_with_and_without_a_window_are_two_operators() -> None:
    ops = [
        op
        for op in operators(load_model("openai/gpt-oss-20b"), "auto", "auto", 1, 1)
        if isinstance(op, Attention)
    ]
    assert [(op.name, op.window, op.count) for op in ops] == [
        ("attention", None, 12),
        ("attention_window", 128, 12),
    ]
    ops = [
        op
        for op in operators(load_model("mistralai/Mistral-7B-v0.1"), "auto", "auto", 1, 1)
        if isinstance(op, Attention)
    ]
    assert [(op.window, op.count) for op in ops] == [(4096, 32)]


def test_sliced_and_whole_experts_do_the_same_work() -> None:
    model = load_model(MOE)
    sliced = by_name(operators(model, "bfloat16", "auto", 4, 1))["experts"]
    whole = by_name(operators(model, "bfloat16", "auto", 4, 4))["experts"]
    assert sliced == Experts("experts", 128, 128, 8, 2048, 192, 3, 48, "bfloat16")
    assert whole == Experts("experts", 32, 128, 8, 2048, 768, 3, 48, "bfloat16")
    assert multiplied([sliced], True) == multiplied([whole], True)


def test_one_replica_exchanges_no_tokens_for_its_experts() -> None:
    ops = operators(load_model(MOE), "bfloat16", "auto", 4, 4)
    assert {op.kind for op in ops if isinstance(op, Collective) and op.rows == "tokens"} == {"all_reduce"}


def test_replicas_that_share_experts_gather_tokens_and_scatter_sums() -> None:
    ops = by_name(operators(load_model(MOE), "bfloat16", "auto", 1, 2))
    experts = ops["experts"]
    assert isinstance(experts, Experts)
    assert (experts.experts, experts.replicas) == (64, 2)
    assert ops["experts_all_gather"] == Collective(
        "experts_all_gather", "all_gather", 4096, 2, 48, pooled=True
    )
    assert ops["experts_reduce_scatter"] == Collective(
        "experts_reduce_scatter", "reduce_scatter", 8192, 2, 48, pooled=True
    )
    assert "ffn_all_reduce" not in ops
    both = by_name(operators(load_model(MOE), "bfloat16", "auto", 2, 4))
    assert both["experts_all_gather"] == Collective(
        "experts_all_gather", "all_gather", 2048, 4, 48, pooled=True
    )
    assert both["ffn_all_gather"] == Collective("ffn_all_gather", "all_gather", 2048, 2, 48)


def test_what_replicas_run_together_is_pooled() -> None:
    alone = operators(load_model(MOE), "bfloat16", "auto", 2, 2)
    assert not any(getattr(op, "pooled", False) for op in alone)
    shared = operators(load_model(MOE), "bfloat16", "auto", 2, 4, data=2)
    assert {op.name for op in shared if getattr(op, "pooled", False)} == {
        *("experts", "experts_activation", "experts_combine"),
        *("experts_all_gather", "routing_all_gather", "experts_reduce_scatter"),
    }


def test_replicas_without_expert_parallelism_slice_every_expert_over_all_ranks() -> None:
    ops = by_name(operators(load_model(MOE), "bfloat16", "auto", 2, 1, data=2))
    assert ops["experts"] == Experts("experts", 128, 128, 8, 2048, 192, 3, 48, "bfloat16", replicas=2)
    assert ops["experts_all_gather"] == Collective(
        "experts_all_gather", "all_gather", 2048, 4, 48, pooled=True
    )
    with pytest.raises(InputError, match="tensor × data = 5 does not divide the model's expert width, 768"):
        operators(load_model(MOE), "bfloat16", "auto", 1, 1, data=5)


def test_deepseek_v3_by_hand() -> None:
    ops = by_name(operators(load_model("deepseek-ai/DeepSeek-V3"), "auto", "auto", 8, 1))
    assert ops["q_a_proj"] == Gemm("q_a_proj", 1536, 7168, 61, "fp8")  # whole on every rank
    assert ops["q_b_proj"] == Gemm("q_b_proj", 16 * 192, 1536, 61, "fp8")
    assert ops["kv_a_proj"] == Gemm("kv_a_proj", 576, 7168, 61, "fp8")
    assert ops["q_absorb"] == Gemm("q_absorb", 16 * 512, 128, 61, "bfloat16")
    assert ops["v_up_proj"] == Gemm("v_up_proj", 16 * 128, 512, 61, "bfloat16")
    assert ops["attention"] == Attention("attention", 16, 1, 576, 512, 1152, 61, prefill_dims=(192, 128))
    assert ops["router"] == Gemm("router", 256, 7168, 58, "bfloat16")
    assert ops["experts"] == Experts("experts", 256, 256, 8, 7168, 256, 3, 58, "fp8")
    assert ops["shared_expert_gate_up"] == Gemm("shared_expert_gate_up", 2 * 256, 7168, 58, "fp8")
    assert ops["ffn_gate_up"] == Gemm("ffn_gate_up", 2 * 2304, 7168, 3, "fp8")


def test_quantised_formats_apply_where_vllm_applies_them() -> None:
    ops = by_name(operators(load_model("openai/gpt-oss-20b"), "auto", "auto", 1, 1))
    assert isinstance(ops["experts"], Experts) and ops["experts"].weight_dtype == "mxfp4"
    assert isinstance(ops["qkv_proj"], Gemm) and ops["qkv_proj"].weight_dtype == "bfloat16"
    ops = by_name(operators(load_model(LLAMA), "fp8", "fp8", 1, 1))
    assert isinstance(ops["qkv_proj"], Gemm) and ops["qkv_proj"].weight_dtype == "fp8"
    assert isinstance(ops["lm_head"], Gemm) and ops["lm_head"].weight_dtype == "bfloat16"
    assert isinstance(ops["attention"], Attention) and ops["attention"].kv_bytes_per_token == 2 * 8 * 128


def test_opt_has_no_rotary_and_350m_projects_its_embeddings() -> None:
    ops = by_name(operators(load_model("facebook/opt-350m"), "float16", "auto", 1, 1))
    assert "rotary" not in ops and "final_norm" not in ops
    assert ops["embedding_projection"] == Gemm("embedding_projection", 1024, 512, 1, "float16")
    assert ops["output_projection"] == Gemm("output_projection", 512, 1024, 1, "float16")
