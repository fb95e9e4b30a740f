"""Memory tiers on a real trace: hits grow with what the tiers hold, up to what the trace itself repeats."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tokensim import Result, Scenario, simulate

REQUESTS = 400
BLOCK = 512  # tokens of one hash id


def replay(shared: Path, *tiers: dict[str, Any], **memory: Any) -> Result:
    return simulate(
        Scenario.model_validate(
            {
                "model": "meta-llama/Llama-3.1-8B",
                "weights": "bfloat16",
                "cluster": {"pools": [{"hardware": "h100-sxm-80gb"}]},
                "performance": {"operators": "roofline"},
                "workload": {
                    "trace": {
                        "path": str(shared / "traces" / "mooncake_conversation.jsonl"),
                        "limit": REQUESTS,
                        "rate_scale": 0.25,
                    }
                },
                "memory": {"tiers": list(tiers), **memory},
            }
        )
    )


def own_share(shared: Path) -> float:
    """The share of input tokens that earlier prompts of the trace contain as a prefix, in blocks of 16 and
    without the last token, which is always computed."""
    seen: set[int] = set()
    again = total = 0
    with (shared / "traces" / "mooncake_conversation.jsonl").open() as file:
        for line, _ in zip(file, range(REQUESTS), strict=False):
            row = json.loads(line)
            ids, tokens = row["hash_ids"], row["input_length"]
            known = next((i for i, block in enumerate(ids) if block not in seen), len(ids))
            again += min(known * BLOCK, (tokens - 1) // 16 * 16)
            total += tokens
            seen.update(ids)
    return again / total


def test_hits_grow_with_the_tiers_up_to_what_the_trace_repeats(shared: Path) -> None:
    host = {"kind": "host", "capacity": "256GiB"}
    none = replay(shared)
    small = replay(shared, host)
    large = replay(shared, host, {"kind": "ssd", "capacity": "8TiB", "write": "back"})
    hits = [result.summary.tokens.cached_share or 0.0 for result in (none, small, large)]
    assert hits[0] + 0.005 < hits[1] < hits[2] - 0.01
    assert hits[2] == pytest.approx(own_share(shared), abs=0.002)
    ttft = [result.summary.latency.ttft_s.mean or 0.0 for result in (none, small, large)]
    assert ttft[0] > ttft[1] > ttft[2]
    loads = large.summary.tiers
    assert none.summary.tiers is None and loads is not None
    below = large.requests.select("cached_tokens_host", "cached_tokens_ssd").sum().row(0)
    assert below == tuple(tier.hit_tokens for tier in loads)
    device = large.summary.tokens.cached - sum(below)
    assert device == pytest.approx(none.summary.tokens.cached, rel=0.1)
    for tier in loads:
        use = tier.use
        came = use.stored_bytes + use.demoted_bytes + use.promoted_bytes
        assert came == use.used_bytes + use.evicted_bytes


def test_single_steps_tell_the_same_of_loads_beside_the_compute(shared: Path) -> None:
    memory = {"tiers": [{"kind": "host", "capacity": "64GiB", "write": "back"}], "load": "overlap"}
    scenario = Scenario.model_validate(
        {
            "model": "meta-llama/Llama-3.1-8B",
            "weights": "bfloat16",
            "cluster": {"pools": [{"hardware": "l40s-48gb", "replicas": 2}]},
            "performance": {"operators": "roofline"},
            "workload": {
                "trace": {"path": str(shared / "traces" / "mooncake_conversation.jsonl"), "limit": 40}
            },
            "memory": memory,
        }
    )
    runs, steps = simulate(scenario), simulate(scenario, exact_steps=True)
    for name in ("finish_s", "first_token_s"):
        one, other = runs.requests[name].to_numpy(), steps.requests[name].to_numpy()
        assert one == pytest.approx(other, rel=1e-9)
    assert runs.summary.tokens.cached == steps.summary.tokens.cached
    assert runs.summary.time.step_s == pytest.approx(steps.summary.time.step_s)
