"""Bytes of weights and of KV cache, against figures computed by hand."""

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tokensim.errors import InputError
from tokensim.model import catalog_names, load_model

LLAMA = "meta-llama/Llama-3.1-8B"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (LLAMA, 2 * 8 * 128 * 2 * 32),  # 131,072: GQA
        ("meta-llama/Llama-2-7b-hf", 2 * 32 * 128 * 2 * 32),  # 524,288: MHA
        ("Qwen/Qwen3-14B", 2 * 8 * 128 * 2 * 40),  # 163,840
        ("google/gemma-3-1b-pt", 2 * 1 * 256 * 2 * 26),  # MQA
        ("deepseek-ai/DeepSeek-V3", (512 + 64) * 2 * 61),  # 70,272: MLA
        ("facebook/opt-66b", 2 * 72 * 128 * 2 * 64),
        ("openai/gpt-oss-120b", 2 * 8 * 64 * 2 * 36),
    ],
)
def test_kv_bytes_of_a_token(name: str, expected: int) -> None:
    assert load_model(name).kv_bytes_per_token("auto") == expected
    assert load_model(name).kv_bytes_per_token("fp8") == expected / 2


def test_kv_heads_are_divided_and_then_repeated() -> None:
    model = load_model(LLAMA)  # 8 KV heads
    assert [model.kv_bytes_per_token("auto", t) for t in (1, 2, 8, 16, 32)] == [
        131072,
        65536,
        16384,
        16384,
        16384,
    ]


def test_the_latent_of_mla_is_whole_on_every_rank() -> None:
    model = load_model("deepseek-ai/DeepSeek-V3")
    assert model.kv_bytes_per_token("auto", 8) == model.kv_bytes_per_token("auto", 1)


@pytest.mark.parametrize(
    ("name", "window", "layers", "of"),
    [
        (LLAMA, None, 0, 32),
        ("mistralai/Mistral-7B-v0.1", 4096, 32, 32),
        ("google/gemma-2-27b", 4096, 23, 46),
        ("google/gemma-3-27b-it", 1024, 52, 62),
        ("openai/gpt-oss-20b", 128, 12, 24),
        ("meta-llama/Llama-4-Scout-17B-16E", 8192, 36, 48),
        ("Qwen/Qwen3-8B", None, 0, 36),
        ("microsoft/Phi-3.5-mini-instruct", None, 0, 32),  # its window is longer than its context
    ],
)
def test_sliding_windows(name: str, window: int | None, layers: int, of: int) -> None:
    model = load_model(name)
    assert model.windows == (window, layers)
    assert model.layers == of


def test_sixteen_bit_weights_are_two_bytes_a_parameter() -> None:
    model = load_model(LLAMA)  # its vocabulary is a multiple of 64: nothing is padded
    assert model.weight_bytes("bfloat16") == 2 * model.parameters
    assert model.weight_bytes("float32") == 4 * model.parameters


def test_quantised_weights_leave_embeddings_head_and_norms_in_sixteen_bits() -> None:
    model = load_model(LLAMA)
    kept = 2 * 128_256 * 4096 + (2 * 32 + 1) * 4096
    assert model.weight_bytes("fp8") == 2 * kept + (model.parameters - kept)
    assert model.weight_bytes("int4") == pytest.approx(2 * kept + (model.parameters - kept) * (0.5 + 2 / 128))


def test_tensor_parallel_slices_all_but_the_norms() -> None:
    model = load_model(LLAMA)
    norms = 2 * (2 * 32 + 1) * 4096
    for tensor in (2, 4, 8):
        assert model.weight_bytes("bfloat16", tensor) == (2 * model.parameters - norms) / tensor + norms


def test_kv_projections_are_repeated_when_ranks_outnumber_kv_heads() -> None:
    model = load_model(LLAMA)
    norms, kv = (2 * 32 + 1) * 4096, 2 * 32 * 4096 * 1024
    expected = (model.parameters - norms - kv) / 16 + norms + kv / 8
    assert model.weight_bytes("bfloat16", 16) == pytest.approx(2 * expected)


def test_gpt_oss_as_published_has_four_bit_experts_only() -> None:
    model = load_model("openai/gpt-oss-120b")
    experts = 36 * 128 * 3 * 2880 * 2880
    padding = 2 * 2880 * (-201_088 % 64)
    assert model.native_dtype == "mxfp4"
    assert model.weight_bytes("auto") == pytest.approx(
        experts * (0.5 + 1 / 32) + 2 * (model.parameters - experts + padding)
    )
    # the checkpoint is 65.2e9 bytes ("60.8 GiB", arXiv:2508.10925 table 1)
    assert model.weight_bytes("auto") == pytest.approx(60.8 * 2**30, rel=0.01)


def test_whole_experts_and_sliced_experts_take_the_same_room() -> None:
    model = load_model("Qwen/Qwen3-30B-A3B")
    assert model.weight_bytes("bfloat16", 4, 4) == pytest.approx(model.weight_bytes("bfloat16", 4, 1))


def test_experts_that_do_not_divide_evenly_fill_the_fullest_rank() -> None:
    model = load_model("Qwen/Qwen1.5-MoE-A2.7B")  # 60 experts
    one_layer = 3 * 2048 * 1408 * 2 * 24
    assert model.weight_bytes("bfloat16", 1, 8) - model.weight_bytes("bfloat16", 1, 60) == 7 * one_layer


def test_deepseek_v3_on_eight_ranks_is_an_eighth_and_what_is_repeated() -> None:
    model = load_model("deepseek-ai/DeepSeek-V3")
    # 671e9 bytes in fp8; embeddings, the absorbed projection and the repeated parts are a few GB on top
    assert 671e9 / 8 < model.weight_bytes("auto", 8) < 671e9 / 8 + 3e9


@settings(deadline=None)
@given(
    st.sampled_from(catalog_names()),
    st.sampled_from([1, 2, 4, 8]),
    st.sampled_from(["bfloat16", "fp8", "int4"]),
)
def test_ranks_together_hold_the_whole_model(name: str, tensor: int, dtype: str) -> None:
    model = load_model(name)
    try:
        model.check_parallel(tensor)
    except InputError:
        assume(False)
    assert tensor * model.weight_bytes(dtype, tensor) >= model.weight_bytes(dtype, 1) * (1 - 1e-12)
    assert model.weight_bytes(dtype, tensor) <= model.weight_bytes(dtype, 1)


def test_unknown_formats_are_refused() -> None:
    model = load_model(LLAMA)
    with pytest.raises(InputError, match=r"weights: unknown weight format 'fp9'(.|\n)*'fp8'"):
        model.weight_bytes("fp9")
    with pytest.raises(InputError, match=r"engine\.kv_cache_dtype: unknown KV cache format 'int3'"):
        model.kv_bytes_per_token("int3")


@pytest.mark.parametrize(
    ("name", "tensor", "expert", "message"),
    [
        (LLAMA, 3, 1, "at.tensor: 3 does not divide the model's attention heads, 32"),
        (LLAMA, 0, 1, "at.tensor: 0 is not a number of ranks"),
        (LLAMA, 2, 2, "at.expert: 2, but the model has no experts"),
        ("microsoft/phi-4", 4, 1, "at.tensor: 4 does not divide the model's KV heads, 10"),
        ("Qwen/Qwen2.5-0.5B", 4, 1, "at.tensor: 4 does not divide the model's attention heads, 14"),
        ("Qwen/Qwen3-30B-A3B", 2, 3, "at.expert: 3 is not a multiple of tensor = 2"),
        ("mistralai/Mixtral-8x7B-v0.1", 1, 16, "at.expert: 16 ranks for 8 experts"),
    ],
)
def test_impossible_plans_are_refused(name: str, tensor: int, expert: int, message: str) -> None:
    with pytest.raises(InputError) as caught:
        load_model(name).check_parallel(tensor, expert, where="at")
    assert str(caught.value).startswith(message)


def test_the_refusal_names_the_degrees_that_are_possible() -> None:
    with pytest.raises(InputError, match="possible: 1, 2, 4, 8, 16, 32"):
        load_model(LLAMA).check_parallel(5)


def test_whole_experts_need_not_be_divisible() -> None:
    model = load_model("Qwen/Qwen3-30B-A3B")  # expert width 768
    model.check_parallel(4, 4)
    model.check_parallel(1, 2)
