"""Requests without an answer (embedding, reranking) and images in prompts, from scenario to summary."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tokensim import Scenario, simulate
from tokensim.assemble import Result
from tokensim.errors import InputError

EMBED: dict[str, Any] = {
    "arrivals": {"process": "poisson", "rate": 300},
    "input_tokens": {"distribution": "uniform", "min": 10, "max": 900},
    "num_requests": 60,
    "task": "embed",
}
CHAT: dict[str, Any] = {
    "arrivals": {"process": "constant", "rate": 0.5},
    "input_tokens": 100,
    "output_tokens": 5,
    "num_requests": 3,
}
VL, DECODER, ENCODER = "Qwen/Qwen2.5-VL-7B-Instruct", "Qwen/Qwen3-Embedding-0.6B", "BAAI/bge-m3"


def run(model: str, workload: dict[str, Any], exact_steps: bool = False, **engine: Any) -> Result:
    scenario = {
        "model": model,
        "cluster": {"pools": [{"hardware": "h100-sxm-80gb"}]},
        "performance": {"operators": "roofline"},
        "engine": engine,
        "workload": workload,
    }
    return simulate(Scenario.model_validate(scenario), exact_steps=exact_steps)


def shares(result: Result) -> dict[str, float]:
    return {o.operator: o.share for o in result.summary.time.operators}


@pytest.mark.parametrize("model", [DECODER, ENCODER])
@pytest.mark.parametrize("asynchronous", [True, False])
def test_a_request_ends_with_its_prompt(model: str, asynchronous: bool) -> None:
    result = run(model, EMBED, async_scheduling=asynchronous)
    summary, log = result.summary, result.log
    assert summary.requests.finished == 60
    assert summary.tokens.output == 0
    assert summary.latency.tpot_s.count == summary.latency.itl_s.count == 0
    assert log.requests.first_token_s.tolist() == log.requests.finish_s.tolist()
    assert summary.latency.ttft_s == summary.latency.e2e_s
    assert int(log.steps.what.decode.sum()) == 0
    assert int(log.steps.prefill_tokens.sum()) == summary.tokens.input
    assert "lm_head" not in shares(result)
    exact = run(model, EMBED, exact_steps=True, async_scheduling=asynchronous).log.requests
    np.testing.assert_allclose(exact.finish_s, log.requests.finish_s, rtol=1e-9)


def test_a_score_takes_hardly_longer_than_an_embedding() -> None:
    embed, score = (
        run(DECODER, {**EMBED, "task": task}).summary.latency.e2e_s.mean for task in ("embed", "score")
    )
    assert embed is not None and score is not None
    assert score == pytest.approx(embed, rel=0.02)


def test_an_encoder_runs_every_prompt_whole() -> None:
    result = run(ENCODER, {**EMBED, "arrivals": "all-at-once", "input_tokens": 3000})
    what = result.log.steps.what
    assert set(what.chunk_tokens) == {3000} and set(what.chunk_context) == {0}
    assert any("neither chunked prefill nor prefix caching" in note for note in result.summary.notes)


def test_a_budget_below_the_context_of_an_encoder_is_refused() -> None:
    with pytest.raises(InputError, match="a whole prompt must fit into one step"):
        run(ENCODER, EMBED, max_num_batched_tokens=4096)


def test_prompts_that_are_too_long_are_rejected() -> None:
    lengths = {"distribution": "uniform", "min": 7000, "max": 9000}
    summary = run(ENCODER, {**EMBED, "input_tokens": lengths}).summary
    assert summary.requests.rejected > 0
    assert summary.requests.finished + summary.requests.rejected == 60


def test_an_image_makes_its_step_longer_by_what_the_tower_takes() -> None:
    image = {**CHAT, "images": {"tokens": 400}}
    seen, read = run(VL, image), run(VL, {**CHAT, "input_tokens": 500})
    assert seen.summary.tokens.input == read.summary.tokens.input == 1500
    extra = seen.log.requests.first_token_s - read.log.requests.first_token_s
    encoder_s = next(o.seconds for o in seen.summary.time.operators if o.operator == "vision_encoder")
    np.testing.assert_allclose(extra, encoder_s / 3, rtol=1e-9)
    # 1,600 patches meet the tower's 6.3e8 weights in layers: at 1e15 FLOP/s at least 2 ms.
    assert 2e-3 < encoder_s / 3 < 20e-3
    assert sum(shares(seen).values()) == pytest.approx(1.0)
    assert "vision_encoder" not in shares(read)


def test_an_image_is_encoded_whole_in_the_first_chunk_that_needs_it() -> None:
    """A prompt of 100 tokens and three images of 100, in chunks of 128."""
    images = {"tokens": 100, "per_request": {"distribution": "fixed", "value": 3}}
    workload = {**CHAT, "num_requests": 1, "images": images}
    result = run(VL, workload, max_num_batched_tokens=128, max_num_seqs=16)
    assert result.log.steps.what.chunk_tokens.tolist() == [128, 128, 128, 16]
    encoder_s = result.log.steps.what.encoder_s
    assert encoder_s is not None
    # Images start at 100, 200 and 300; chunks at 0, 128, 256 and 384.
    assert (encoder_s > 0).tolist()[:4] == [True, True, True, False]
    one_by_one = encoder_s[:3]
    assert one_by_one[0] == one_by_one[1] == one_by_one[2]


def test_images_take_the_same_time_in_single_steps() -> None:
    many = {
        **CHAT,
        "num_requests": 30,
        "arrivals": {"process": "poisson", "rate": 20},
        "images": {"tokens": 700},
    }
    runs, steps = (run(VL, many, exact_steps=exact).log.requests for exact in (False, True))
    np.testing.assert_allclose(runs.finish_s, steps.finish_s, rtol=1e-9)


def test_a_model_that_sees_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="no vision tower"):
        run("meta-llama/Llama-3.1-8B", {**CHAT, "images": {"tokens": 400}})
