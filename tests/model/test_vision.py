"""Encoders: of text (BERT and its kin) and of images (the tower of Qwen2.5-VL); and what a task leaves of a
model."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from tokensim.errors import InputError
from tokensim.model import from_config, load_model, operators
from tokensim.model.operators import Attention, Elementwise, Gemm, Operator
from tokensim.model.vision import vision_operators

VL = "Qwen/Qwen2.5-VL-7B-Instruct"
BERT: dict[str, Any] = {
    "model_type": "bert",
    "architectures": ["BertModel"],
    "num_hidden_layers": 12,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_attention_heads": 12,
    "vocab_size": 30522,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
}


def named(ops: list[Operator]) -> dict[str, Any]:
    return {op.name: op for op in ops}


class TestTower:
    def test_its_size_is_what_the_checkpoint_has_beyond_the_decoder(self) -> None:
        both, text = load_model(VL), load_model("Qwen/Qwen2.5-7B")
        assert both.vision is not None
        assert both.vision.parameters == 676_550_144 == both.parameters - text.parameters

    def test_every_matrix_is_run_once_a_patch_and_the_merger_once_a_token(self) -> None:
        tower = load_model(VL).vision
        assert tower is not None
        ops = vision_operators(tower, "bfloat16")
        multiplied = sum(op.n * op.k * op.count for op in ops if isinstance(op, Gemm))
        merger = 5120 * 5120 + 5120 * 3584
        norms_and_biases = tower.parameters - 32 * (4 * 1280**2 + 3 * 1280 * 3420) - 1176 * 1280 - merger
        assert multiplied == tower.parameters - norms_and_biases - merger + merger / 4

    def test_four_layers_see_the_whole_image_the_others_a_window(self) -> None:
        tower = load_model(VL).vision
        assert tower is not None
        ops = named(vision_operators(tower, "bfloat16"))
        assert (ops["vision_attention"].count, ops["vision_attention"].causal) == (4, False)
        assert (ops["vision_attention_window"].count, ops["vision_attention_window"].window) == (28, 64)

    def test_ranks_share_it(self) -> None:
        tower = load_model(VL).vision
        assert tower is not None
        whole, half = (named(vision_operators(tower, "bfloat16", ranks)) for ranks in (1, 2))
        assert half["vision_gate_up"].n * 2 == whole["vision_gate_up"].n
        assert half["vision_all_reduce"].count == 64
        assert load_model(VL).weight_bytes("bfloat16", 2) == pytest.approx(
            load_model(VL).weight_bytes("bfloat16") / 2, rel=0.001
        )

    def test_the_decoder_may_stand_under_text_config(self) -> None:
        vision = {
            "depth": 2,
            "hidden_size": 64,
            "intermediate_size": 96,
            "num_heads": 4,
            "out_hidden_size": 32,
        }
        text = {
            "num_hidden_layers": 2,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_attention_heads": 4,
            "vocab_size": 128,
            "max_position_embeddings": 64,
        }
        flat = {"model_type": "qwen2_5_vl", **text, "vision_config": vision}
        nested = {"model_type": "qwen2_5_vl", "text_config": text, "vision_config": vision}
        one, other = (from_config(config, "m", "m") for config in (flat, nested))
        assert one == other and one.vision is not None
        with pytest.raises(InputError, match="vision_config: is missing"):
            from_config({"model_type": "qwen2_5_vl", **text}, "m", "m")


class TestEncoders:
    def test_bert_base_has_its_size(self) -> None:
        # 109,482,240 with the pooler (Devlin et al., arXiv:1810.04805: 110M), which pooling here leaves out.
        assert from_config(BERT, "bert-base", "m").parameters == 109_482_240 - (768 * 768 + 768)

    def test_it_sees_both_ways_and_keeps_nothing(self) -> None:
        model = from_config(BERT, "bert", "m")
        ops = named(operators(model, "bfloat16", "auto", 1, 1))
        assert not ops["attention"].causal
        assert model.kv_bytes_per_token() == 0
        assert ops["attention"].kv_bytes_per_token == 2 * 768 * 2
        assert "lm_head" not in ops and "sampling" not in ops

    def test_roberta_positions_start_behind_the_padding(self) -> None:
        assert load_model("BAAI/bge-m3").max_position == 8192

    def test_a_decoder_configured_as_bert_is_refused(self) -> None:
        with pytest.raises(InputError, match="is_decoder"):
            from_config({**BERT, "is_decoder": True}, "m", "m")


class TestTasks:
    @pytest.mark.parametrize(
        ("task", "last"), [("generate", "sampling"), ("embed", "pooling"), ("score", "score_head")]
    )
    def test_what_follows_the_last_layer(self, task: str, last: str) -> None:
        model = load_model("Qwen/Qwen3-Embedding-0.6B").for_task(task)
        ops = operators(model, "auto", "auto", 1, 1)
        assert ops[-1].name == last
        assert isinstance(ops[-1], Gemm | Elementwise) and ops[-1].rows == "samples"
        assert ("lm_head" in named(ops)) == (task == "generate")

    def test_a_score_needs_one_number(self) -> None:
        model = load_model("Qwen/Qwen3-Reranker-0.6B").for_task("score")
        assert named(operators(model, "bfloat16", "auto", 1, 1))["score_head"] == Gemm(
            "score_head", 1, 1024, 1, "bfloat16", "samples"
        )

    def test_an_lm_head_of_its_own_is_not_loaded(self) -> None:
        model = load_model("meta-llama/Llama-3.1-8B")
        lost = model.parameters - model.for_task("embed").parameters
        assert lost == 128256 * 4096

    @pytest.mark.parametrize(
        ("model", "task", "says"),
        [
            ("BAAI/bge-m3", "generate", "cannot generate: it is made to embed"),
            ("BAAI/bge-m3", "score", "cannot score: it is made to embed"),
            ("BAAI/bge-reranker-v2-m3", "embed", "cannot embed: it is made to score"),
        ],
    )
    def test_a_model_does_what_it_is_made_for(self, model: str, task: str, says: str) -> None:
        with pytest.raises(InputError, match=says):
            load_model(model).for_task(task)


def test_attention_without_a_mask_does_twice_the_work() -> None:
    from tokensim.cost.work import attention_work, pairs_and_reads

    op = Attention("a", 12, 12, 64, 64, 3072.0, 1, causal=False)
    causal = attention_work(dataclasses.replace(op, causal=True), "bfloat16")
    pairs, _ = pairs_and_reads(1000, 0, None)
    flops = attention_work(op, "bfloat16").prefill_flops_pair * pairs
    assert flops == 2 * causal.prefill_flops_pair * pairs
    assert flops == pytest.approx(4 * 12 * 64 * 1000**2, rel=0.0011)
