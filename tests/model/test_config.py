"""Reading a ``config.json``: what is understood, and how everything else is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tokensim import errors
from tokensim.model import ModelSpec, from_config, load_model
from tokensim.registry import register

TINY: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 1000,
    "max_position_embeddings": 512,
    "hidden_act": "silu",
    "rope_theta": 10000.0,
    "torch_dtype": "bfloat16",
}
MISTRAL = {**TINY, "model_type": "mistral", "architectures": ["MistralForCausalLM"]}
MIXTRAL = {
    **TINY,
    "model_type": "mixtral",
    "architectures": None,
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
}
QWEN = {**TINY, "model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"]}


def read(**changes: Any) -> ModelSpec:
    return from_config({**TINY, **changes}, "tiny", "config.json")


def test_a_tiny_llama_by_hand() -> None:
    model = read()
    attention = 64 * 64 * 2 + 64 * 32 * 2
    assert model.parameters == 2 * 1000 * 64 + 2 * (attention + 3 * 64 * 128 + 2 * 64) + 64
    assert (model.name, model.head_dim, model.kv_heads) == ("tiny", 16, 2)


def test_biases_and_tied_embeddings_count() -> None:
    plain = read().parameters
    assert read(tie_word_embeddings=True).parameters == plain - 64_000
    assert read(attention_bias=True).parameters == plain + 2 * (64 + 2 * 32 + 64)
    assert read(mlp_bias=True).parameters == plain + 2 * (2 * 128 + 64)


def test_absent_and_null_kv_heads_mean_one_for_each_head() -> None:
    assert read(num_key_value_heads=None).kv_heads == 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": None}, "config.json: model_type: is missing"),
        ({"model_type": "lama"}, "config.json: model_type: 'lama' is not a known model type"),
        ({"model_type": 7}, "config.json: model_type: must be text, got 7"),
        ({"model_type": "t5"}, "config.json: model_type: 't5' is not a known model type"),
        (
            {"architectures": ["LlamaForSequenceClassification"]},
            "config.json: architectures: 'LlamaForSequence",
        ),
        ({"architectures": "LlamaForCausalLM"}, "config.json: architectures: must be a list of str"),
        (
            {"is_encoder_decoder": True},
            "config.json: is_encoder_decoder: encoder-decoder models are not modelled",
        ),
        ({"hidden_size": None}, "config.json: hidden_size: is missing"),
        (
            {"hidden_size": "4096"},
            "config.json: hidden_size: must be a whole number of at least 1, got '4096'",
        ),
        ({"hidden_size": True}, "config.json: hidden_size: must be a whole number of at least 1, got True"),
        ({"hidden_size": 64.0}, "config.json: hidden_size: must be a whole number of at least 1, got 64.0"),
        (
            {"num_hidden_layers": 0},
            "config.json: num_hidden_layers: must be a whole number of at least 1, got 0",
        ),
        ({"vocab_size": -1}, "config.json: vocab_size: must be a whole number of at least 1, got -1"),
        (
            {"num_attention_heads": 5, "num_key_value_heads": 5},
            "config.json: num_attention_heads: 5 does not divide",
        ),
        (
            {"num_key_value_heads": 3},
            "config.json: num_key_value_heads: 3 does not divide num_attention_heads = 4",
        ),
        (
            {"tie_word_embeddings": "yes"},
            "config.json: tie_word_embeddings: must be true or false, got 'yes'",
        ),
        ({"num_experts": 8}, "config.json: num_experts: 8 experts in a model type without experts"),
        ({"kv_lora_rank": 512}, "config.json: kv_lora_rank: latent attention in a model type without it"),
        ({"mamba_d_state": 16}, "config.json: mamba_d_state: 16 is not modelled: state-space layers"),
        ({"torch_dtype": "float8"}, "config.json: torch_dtype: 'float8' is not modelled"),
        ({"rope_scaling": "yarn"}, "config.json: rope_scaling: must be a mapping, got 'yarn'"),
        (
            {"rope_scaling": {"type": "linear", "factor": -2}},
            "config.json: rope_scaling: factor: must be a positive",
        ),
        (
            {"quantization_config": {"quant_method": "magic"}},
            "config.json: quantization_config: quant_method: 'magic'",
        ),
        (
            {"quantization_config": {"quant_method": "gptq", "bits": 3}},
            "config.json: quantization_config: bits: 3-bit",
        ),
    ],
)
def test_what_is_not_understood_is_refused_by_name(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(errors.InputError) as caught:
        read(**changes)
    assert str(caught.value).startswith(message)


def test_a_near_model_type_is_suggested_and_custom_code_is_explained() -> None:
    with pytest.raises(errors.InputError, match="did you mean 'llama'"):
        read(model_type="lama")
    with pytest.raises(errors.InputError, match="auto_map"):
        read(model_type="mine", auto_map={"AutoModel": "mine.Model"})


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({**MIXTRAL, "num_experts_per_tok": 9}, "num_experts_per_tok: 9 is more than num_local_experts = 8"),
        ({**MIXTRAL, "num_local_experts": None}, "num_local_experts: is missing"),
        ({**QWEN, "layer_types": ["full_attention"]}, "layer_types: has 1 entries for num_hidden_layers = 2"),
        (
            {**QWEN, "layer_types": ["linear_attention", "full_attention"]},
            "layer_types: 'linear_attention' is not modelled",
        ),
        ({**QWEN, "layer_types": ["sliding_attention"] * 2}, "layer_types: names sliding layers"),
        ({**TINY, "architectures": None, "model_type": "gemma3"}, "text_config: is missing"),
        ({**TINY, "architectures": None, "model_type": "deepseek_v3"}, "q_lora_rank: is missing"),
        (
            {**TINY, "architectures": None, "model_type": "phi", "qk_layernorm": True},
            "qk_layernorm: True is not",
        ),
        (
            {**TINY, "architectures": None, "model_type": "phi3", "attention_bias": True},
            "attention_bias: True is",
        ),
        (
            {**TINY, "architectures": None, "model_type": "opt", "ffn_dim": 8, "enable_bias": False},
            "enable_bias: False",
        ),
    ],
)
def test_families_refuse_what_they_do_not_model(config: dict[str, Any], message: str) -> None:
    with pytest.raises(errors.InputError) as caught:
        from_config(config, "tiny", "c")
    assert str(caught.value).startswith("c: " + message)


def test_windows_come_from_the_family_or_from_layer_types() -> None:
    assert from_config({**MISTRAL, "sliding_window": 100}, "m", "c").windows == (100, 2)
    assert from_config({**MISTRAL, "sliding_window": None}, "m", "c").windows == (None, 0)
    assert from_config({**MISTRAL, "sliding_window": 512}, "m", "c").windows == (
        None,
        0,
    )  # as long as the context
    off = {**QWEN, "sliding_window": 100, "use_sliding_window": False, "max_window_layers": 1}
    assert from_config(off, "q", "c").windows == (None, 0)
    assert from_config({**off, "use_sliding_window": True}, "q", "c").windows == (100, 1)
    listed = {**MISTRAL, "sliding_window": 100, "layer_types": ["full_attention", "sliding_attention"]}
    assert from_config(listed, "m", "c").windows == (100, 1)


def test_a_multimodal_wrapper_is_read_through_its_text_config() -> None:
    text = {**TINY, "model_type": "gemma3_text", "head_dim": 16, "architectures": None}
    wrapped = {
        "model_type": "gemma3",
        "architectures": ["Gemma3ForConditionalGeneration"],
        "text_config": text,
    }
    assert from_config(wrapped, "g", "c").parameters == from_config(text, "g", "c").parameters
    with pytest.raises(errors.InputError, match="c: text_config: hidden_size: must be a whole number"):
        from_config({**wrapped, "text_config": {**text, "hidden_size": 1.5}}, "g", "c")


def test_the_context_is_stretched_as_vllm_stretches_it() -> None:
    assert read(rope_scaling={"rope_type": "llama3", "factor": 8.0}).max_position == 512
    assert read(rope_scaling={"type": "linear", "factor": 2.0}).max_position == 1024
    yarn = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 256}
    assert read(rope_scaling=yarn).max_position == 1024
    assert read(rope_parameters=yarn).max_position == 1024


@pytest.mark.parametrize(
    ("quantised", "dtype"),
    [
        ({"quant_method": "fp8"}, "fp8"),
        ({"quant_method": "awq", "bits": 4}, "int4"),
        ({"quant_method": "gptq", "bits": 8}, "int8"),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, "fp4"),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {"group_0": {"weights": {"num_bits": 8, "type": "float"}}},
            },
            "fp8",
        ),
    ],
)
def test_the_native_format_is_that_of_the_published_weights(quantised: dict[str, Any], dtype: str) -> None:
    model = read(quantization_config=quantised)
    assert model.native_dtype == dtype
    assert model.weight_bytes("auto") == model.weight_bytes(dtype)


def test_float32_checkpoints_are_served_in_sixteen_bits() -> None:
    assert read(torch_dtype="float32").native_dtype == "bfloat16"
    assert read(torch_dtype=None, dtype="float16").native_dtype == "float16"


def test_a_file_and_its_folder_give_the_same_model(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps(TINY))
    assert load_model(file).parameters == load_model(str(tmp_path)).parameters == read().parameters
    assert load_model(file).name == str(file)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not valid JSON"),
        (b'{"model_type": "llama", ', "is not valid JSON"),
        (b"\x80\x81\x00", "is not a text file"),
        (b"[1, 2]", "must hold a JSON object, got list"),
        (b"{}", "model_type: is missing"),
        (b"[" * 100_000, "is not valid JSON"),
    ],
)
def test_a_bad_file_is_refused_by_name(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "config.json"
    file.write_bytes(content)
    with pytest.raises(errors.InputError) as caught:
        load_model(file, where="scenario.yaml: model")
    assert str(caught.value).startswith(f"scenario.yaml: model: {file}: {message}")


@pytest.mark.parametrize(
    ("ref", "message"),
    [
        ("./nowhere/config.json", "model: no such file or folder './nowhere/config.json'"),
        ("a" * 5000, "model: unknown model 'aaa"),
        ("a" * 5000 + "/b", "model: unknown model 'aaa"),
        ("nul\0/l", "model: unknown model"),
        ("../../no-such-model", "model: no such file or folder"),
        (7, "model: must be a name, a path or a mapping, got 7"),
        (None, "model: must be a name, a path or a mapping, got None"),
        ({}, "model: model_type: is missing"),
    ],
)
def test_a_bad_reference_is_refused(ref: Any, message: str) -> None:
    with pytest.raises(errors.InputError) as caught:
        load_model(ref)
    assert str(caught.value).startswith(message)


def test_a_folder_without_a_config_is_refused(tmp_path: Path) -> None:
    with pytest.raises(errors.InputError, match=r"the folder has no config\.json"):
        load_model(str(tmp_path))


def test_inline_configs_and_changes_to_a_base() -> None:
    assert load_model(TINY).parameters == read().parameters
    model = load_model({"base": "meta-llama/Llama-3.1-8B", "num_hidden_layers": 16, "name": "half"})
    assert (model.name, model.layers, model.hidden) == ("half", 16, 4096)
    assert load_model({"base": "Qwen/Qwen3-8B"}).parameters == load_model("Qwen/Qwen3-8B").parameters


@pytest.mark.parametrize(
    ("ref", "message"),
    [
        ({"base": "Qwen/Qwen3-8C"}, "model.base: unknown model 'Qwen/Qwen3-8C'"),
        ({"base": 3}, "model.base: must be a catalog id or a path, got 3"),
        ({"base": "Qwen/Qwen3-8B", "num_hiden_layers": 3}, "model: 'num_hiden_layers' has no influence"),
        ({**TINY, "name": 3}, "model.name: must be text, got 3"),
    ],
)
def test_bad_inline_models_are_refused(ref: dict[str, Any], message: str) -> None:
    with pytest.raises(errors.InputError) as caught:
        load_model(ref)
    assert str(caught.value).startswith(message)


def test_a_misspelt_change_gets_the_right_name() -> None:
    with pytest.raises(errors.InputError, match="did you mean 'num_hidden_layers'"):
        load_model({"base": "Qwen/Qwen3-8B", "num_hiden_layers": 3})


def test_a_registered_model_wins_over_the_catalog(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(register.model, "_parts", {})
    register.model("Qwen/Qwen3-8B")(read)
    register.model("mine")(read())
    register.model("wrong")(lambda: 3)
    assert load_model("Qwen/Qwen3-8B") == load_model("mine") == read()
    with pytest.raises(errors.InputError, match="the model registered as 'wrong' is a int"):
        load_model("wrong")


values = (
    st.none()
    | st.booleans()
    | st.integers(-3, 10_000)
    | st.floats()
    | st.text(max_size=5)
    | st.just([])
    | st.just({})
)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    st.sampled_from([TINY, MISTRAL, MIXTRAL, QWEN]),
    st.dictionaries(
        st.sampled_from([*MIXTRAL, "head_dim", "sliding_window", "layer_types", "rope_scaling"]), values
    ),
)
def test_any_config_gives_a_model_or_a_clear_refusal(config: dict[str, Any], changes: dict[str, Any]) -> None:
    try:
        model = from_config({**config, **changes}, "any", "config.json")
    except errors.InputError as error:
        assert str(error).startswith("config.json: ")
    else:
        assert model.parameters > 0
        assert model.kv_bytes_per_token() > 0
