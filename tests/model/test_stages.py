"""Pipeline stages: how layers are dealt, and that the parts make up the whole."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokensim.errors import InputError
from tokensim.model import load_model, operators
from tokensim.model.drafts import Draft, draft_head
from tokensim.model.operators import Gemm
from tokensim.model.stages import layer_split, stage_models

MODELS = ("meta-llama/Llama-3.1-8B", "deepseek-ai/DeepSeek-V3", "Qwen/Qwen3-30B-A3B", "google/gemma-2-9b")


def test_layers_left_over_go_to_the_stages_before_the_last() -> None:
    # The examples of vLLM's own test of its rule: (layers, stages).
    assert layer_split(20, 4) == (5, 5, 5, 5)
    assert layer_split(5, 3) == (2, 2, 1)
    assert layer_split(22, 4) == (5, 6, 6, 5)
    assert layer_split(23, 4) == (6, 6, 6, 5)


@given(layers=st.integers(1, 200), stages=st.integers(1, 64))
def test_every_layer_is_dealt_once_and_the_last_stage_has_the_fewest(layers: int, stages: int) -> None:
    split = layer_split(layers, stages)
    assert sum(split) == layers and len(split) == stages
    assert max(split) - min(split) <= 1 and split[-1] == min(split)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("stages", [2, 3, 4])
def test_stages_have_the_weights_and_operators_of_the_whole(name: str, stages: int) -> None:
    model = load_model(name, "model")
    parts = stage_models(model, stages)
    weights, kv = sum(p.weight_bytes() for p in parts), sum(p.kv_bytes_per_token() for p in parts)
    again = model.vocab * model.embedding_dim * 2 if model.tied_embeddings else 0
    assert weights == pytest.approx(model.weight_bytes() + again, rel=1e-4)  # the vocabulary is padded
    assert kv == model.kv_bytes_per_token()
    counts: dict[str, int] = {}
    for part in parts:
        for op in operators(part, "auto", "bfloat16", 2, 1):
            counts[op.name] = counts.get(op.name, 0) + op.count
    assert counts.pop("stage_all_gather") == stages - 1
    assert counts == {op.name: op.count for op in operators(model, "auto", "bfloat16", 2, 1)}
    names = [{op.name for op in operators(part, "auto", "bfloat16", 1, 1)} for part in parts]
    assert ["embedding" in n for n in names] == [True] + [False] * (stages - 1)
    assert ["lm_head" in n for n in names] == [False] * (stages - 1) + [True]


def test_dense_layers_of_a_model_of_experts_come_first() -> None:
    parts = stage_models(load_model("deepseek-ai/DeepSeek-V3", "model"), 2)
    assert [(p.layers, p.dense_layers) for p in parts] == [(31, 3), (30, 0)]


def test_more_stages_than_layers_are_refused() -> None:
    with pytest.raises(InputError, match="33 stages for 32 layers"):
        stage_models(load_model("meta-llama/Llama-3.1-8B", "model"), 33)


def test_an_eagle_head_is_a_layer_and_a_matrix() -> None:
    model = load_model("meta-llama/Llama-3.1-8B", "model")
    h = model.hidden
    layer = (model.weight_bytes("bfloat16") - 2 * model.vocab * h * 2 - 2 * h) / model.layers
    eagle = draft_head(model, "eagle", "bfloat16", "bfloat16", "x")
    assert eagle.weight_bytes(1, 1, "bfloat16") == pytest.approx(layer + 2 * h * h * 2)
    assert eagle.kv_bytes_per_token("bfloat16", 1) == model.kv_bytes_per_token("bfloat16") / model.layers
    eagle3 = draft_head(model, "eagle3", "bfloat16", "bfloat16", "x")
    wider = (model.heads + 2 * model.kv_heads) * model.head_dim * h * 2
    head = model.vocab * h * 2 + 2 * h
    assert eagle3.weight_bytes(1, 1, "bfloat16") == pytest.approx(
        layer + wider + 3 * h * h * 2 + head, rel=1e-3
    )
    first, later = (eagle3.operators("bfloat16", 1, 1, "bfloat16", first=f) for f in (True, False))
    assert sum(isinstance(op, Gemm) for op in first) == sum(isinstance(op, Gemm) for op in later) + 1
    assert {op.count for op in later} <= {1, 2}  # of one layer, which has two norms
    assert "sampling" not in {op.name for op in later}


def test_multi_token_prediction_needs_a_model_that_has_it() -> None:
    deepseek = load_model("deepseek-ai/DeepSeek-V3", "model")
    mtp = draft_head(deepseek, "mtp", "bfloat16", "fp8", "x")
    assert mtp.runs.moe is not None and mtp.runs.moe.layers == 1
    assert "experts" in {op.name for op in mtp.operators("bfloat16", 8, 1, "bfloat16", first=True)}
    with pytest.raises(InputError, match="no layer for multi-token prediction"):
        draft_head(load_model("meta-llama/Llama-3.1-8B", "model"), "mtp", "bfloat16", "auto", "x")


def test_a_draft_model_holds_all_that_it_runs() -> None:
    small = load_model("meta-llama/Llama-3.2-1B", "model")
    assert Draft(small).weight_bytes(1, 1, "bfloat16") == small.weight_bytes()
