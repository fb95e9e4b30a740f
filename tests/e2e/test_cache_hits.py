"""What prefix caching finds: the traces' own hit rates with endless memory, sessions and agents."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tokensim import Scenario, simulate
from tokensim.assemble import Result
from tokensim.scenario.workload import WorkloadSpec
from tokensim.workload import build_workload

TRACE_BLOCK, BLOCK = 512, 16  # tokens: of the trace's ids, and of the engine
ENDLESS = {"num_gpu_blocks": 40_000_000, "max_num_batched_tokens": 262_144}
ONE_BY_ONE = {"process": "closed-loop", "concurrency": 1}


def run(workload: dict[str, Any], exact_steps: bool = False, **engine: Any) -> Result:
    """On one instance with as much memory as it likes, for contexts as long as those of the traces."""
    scenario = {
        "model": {"base": "meta-llama/Llama-3.1-8B", "max_position_embeddings": 262_144},
        "cluster": {"pools": [{"hardware": "h100-sxm-80gb"}]},
        "performance": {"operators": "roofline"},
        "engine": {**ENDLESS, **engine},
        "workload": workload,
    }
    return simulate(Scenario.model_validate(scenario), exact_steps=exact_steps)


def known_tokens(path: Path) -> tuple[list[int], float]:
    """For each request of a Mooncake trace the tokens of its prompt that an endless cache has, counted from
    the ids alone; and the share of blocks."""
    seen: set[int] = set()
    tokens, hits, blocks = [], 0, 0
    for line in path.read_text().splitlines():
        row = json.loads(line)
        ids = row["hash_ids"]
        known = next((i for i, block in enumerate(ids) if block not in seen), len(ids))
        tokens.append(min(known * TRACE_BLOCK, row["input_length"]))
        hits, blocks = hits + known, blocks + len(ids)
        seen.update(ids)
    return tokens, hits / blocks


@pytest.mark.parametrize(
    ("trace", "share", "arrivals"),
    [
        ("mooncake_conversation.jsonl", 0.366, ONE_BY_ONE),
        ("mooncake_synthetic.jsonl", 0.640, None),  # at the trace's own times
    ],
)
def test_an_endless_cache_hits_as_often_as_the_trace_repeats_itself(
    shared: Path, trace: str, share: float, arrivals: dict[str, Any] | None
) -> None:
    path = shared / "traces" / trace
    if not path.is_file():
        pytest.skip(f"{trace} is not there")
    known, direct = known_tokens(path)
    assert direct == pytest.approx(share, abs=0.0005)
    workload: dict[str, Any] = {"trace": {"path": str(path)}}
    if arrivals is not None:
        workload["arrivals"] = arrivals
    requests = run(workload).log.requests
    # The engine finds whole blocks of 16 tokens, and computes the last token of a prompt whatever it has.
    most = np.minimum(known, requests.input_tokens - 1) // BLOCK * BLOCK
    if arrivals is not None:
        assert requests.cached_tokens.tolist() == most.tolist()
    blocks = -(-requests.input_tokens // TRACE_BLOCK)
    hits = -(-requests.cached_tokens // TRACE_BLOCK)
    # A last block of at most 16 tokens is lost to those two rules: some 20 of 121,877 in the synthetic trace.
    assert hits.sum() / blocks.sum() == pytest.approx(direct, abs=0.0005)
    assert hits.sum() / blocks.sum() == pytest.approx(share, abs=0.001)


CHAT: dict[str, Any] = {
    "arrivals": {"process": "poisson", "rate": 2},
    "input_tokens": {"distribution": "uniform", "min": 20, "max": 300},
    "output_tokens": {"distribution": "uniform", "min": 1, "max": 200},
    "shared_prefix": {"tokens": 200, "groups": 2},
    "sessions": {
        "count": 40,
        "rounds": {"distribution": "uniform", "min": 1, "max": 6},
        "branches": {"distribution": "uniform", "min": 1, "max": 3},
        "think_time": "500ms",
    },
}


def test_a_round_finds_its_history_answer_included() -> None:
    chain = {key: value for key, value in CHAT["sessions"].items() if key != "branches"}
    chat = {**CHAT, "sessions": chain}
    asked = build_workload(WorkloadSpec.model_validate(chat), 0)
    requests = run(chat).log.requests
    assert asked.after is not None
    follows = asked.after >= 0
    above = asked.after[follows]
    # All but the last token of an answer has been computed when it ends.
    history = asked.input_tokens[above] + asked.output_tokens[above] - 1
    assert requests.cached_tokens[follows].tolist() == (history // BLOCK * BLOCK).tolist()


def test_sessions_take_the_same_time_in_single_steps() -> None:
    small = {**CHAT, "sessions": {**CHAT["sessions"], "count": 12}}
    for blocks in (200, 4000):
        more = {"num_gpu_blocks": blocks, "max_num_batched_tokens": 2048, "max_model_len": 3000}
        runs, steps = (run(small, exact_steps=exact, **more).log.requests for exact in (False, True))
        assert (runs.preemptions.sum() > 0) == (blocks == 200)
        assert runs.cached_tokens.tolist() == steps.cached_tokens.tolist()
        np.testing.assert_allclose(runs.finish_s, steps.finish_s, rtol=1e-9)


def test_without_caching_rounds_compute_everything_again() -> None:
    with_cache, without = run(CHAT), run(CHAT, enable_prefix_caching=False)
    assert without.summary.tokens.cached == 0
    assert (with_cache.summary.tokens.cached_share or 0) > 0.5
    fast, slow = with_cache.summary.latency.ttft_s.mean, without.summary.latency.ttft_s.mean
    assert fast is not None and slow is not None and fast < slow
