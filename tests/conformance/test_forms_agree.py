"""The two forms of the scheduler take the same decisions on random recordings that nobody made.

What the recorded scenarios exercise, mixed anew: conversations whose later turns contain earlier answers,
answers still being generated when they are looked up, shared prefixes, priorities, scarce memory, all three
versions, both time axes, pipelines, drafts.
"""

from __future__ import annotations

import random
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from conformance.replay import Replay
from tokensim.scheduling.local.versions import queue_size, rules_of

NEWEST_ONLY: dict[str, Any] = {
    "max_num_active_seqs": None,
    "long_prefill_token_threshold_adaptive": False,
    "watermark": 0.0,
    "prefill_schedule_interval": 1,
}


def draw_header(rng: random.Random) -> dict[str, Any]:
    """A recording's first line: configuration and requests."""
    version = rng.choice(["0.33.0", "0.33.0", "0.23.0", "0.19.0"])
    asynchronous = rng.random() < 0.5
    stages = rng.choice([1, 1, 1, 2, 3])
    drafts = rng.choice([0, 0, 2]) if stages == 1 else 0
    runner = rng.random() < 0.8 and version != "0.19.0"
    blocks, size = rng.choice([20, 30, 60, 200]), rng.choice([1, 4, 8])
    config: dict[str, Any] = {
        "num_gpu_blocks": blocks,
        "block_size": size,
        "max_num_seqs": rng.choice([2, 6, 32]),
        "max_num_batched_tokens": rng.choice([32, 48, 200]),
        "max_num_scheduled_tokens": None,
        "max_model_len": rng.choice([100, 4096]),
        "enable_chunked_prefill": True,
        "long_prefill_token_threshold": rng.choice([0, 0, 9]),
        "enable_prefix_caching": rng.random() < 0.85,
        "policy": rng.choice(["fcfs", "priority"]),
        "scheduler_reserve_full_isl": rng.random() < 0.8,
        "async_scheduling": asynchronous,
        "pipeline_parallel_size": stages,
        "batch_queue_size": queue_size(
            rules_of(version), stages, asynchronous=asynchronous, v2_model_runner=runner
        ),
        "spec_tokens": drafts,
        "spec_accept": [rng.randrange(3) for _ in range(5)] if drafts else None,
    }
    if version == "0.33.0":
        config |= NEWEST_ONLY | {
            "watermark": rng.choice([0.0, 0.1]),
            "prefill_schedule_interval": rng.choice([1, 1, 4]),
        }
    return {
        "vllm": version,
        "use_v2_model_runner": runner,
        "config": config,
        "requests": draw_requests(rng, (blocks - 1) * size, config["max_model_len"]),
    }


def draw_requests(rng: random.Random, room: int, max_model_len: int) -> list[dict[str, Any]]:
    """Requests that fit, many of which go on from an earlier one, finished or not."""
    requests: list[dict[str, Any]] = []
    arrive = 0
    for number in range(rng.randrange(2, 22)):
        prompt = [[rng.randrange(3), rng.randrange(1, 12)], [100 + number, rng.randrange(1, 25)]]
        if requests and rng.random() < 0.5:
            earlier = rng.choice(requests)
            prompt = [
                *earlier["prompt"],
                [earlier["oseed"], earlier["out"]],
                [100 + number, rng.randrange(1, 9)],
            ]
        tokens = sum(length for _, length in prompt)
        if tokens > min(room // 2, max_model_len - 2):
            prompt, tokens = [[100 + number, 5]], 5
        out = rng.randrange(1, max(2, min(40, room - tokens)))
        arrive += rng.choice([0, 0, 1, 3, 30])
        requests.append(
            {
                "id": number,
                "arrive": arrive,
                "at": float(arrive),
                "prio": rng.randrange(3),
                "prompt": prompt,
                "out": out,
                "oseed": 500 + number,
            }
        )
    return requests


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**48), often=st.sampled_from([1, 3, 10]))
def test_cohorts_can_be_turned_into_accounts_and_back_at_any_step(seed: int, often: int) -> None:
    """An integrity check looks at every request, so it keeps an account for each until the next step."""
    rng = random.Random(seed)
    header = draw_header(rng)
    while header["config"]["pipeline_parallel_size"] == 1:
        header = draw_header(rng)
    walked, aggregated = Replay(header, exact_steps=True), Replay(header, exact_steps=False)
    for number in range(300):
        one, other = walked.next_line(), aggregated.next_line()
        assert {k: v for k, v in one.items() if k[:2] != "fq"} == {
            k: v for k, v in other.items() if k[:2] != "fq"
        }
        if number % often == 0:
            summed = aggregated.scheduler.outlook()
            aggregated.scheduler.check_integrity()
            assert summed == aggregated.scheduler.outlook() == walked.scheduler.outlook()


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**48))
@example(1354075)  # an answer is looked up whose request has had its last turn, and not its last token
def test_both_forms_of_the_scheduler_take_the_same_decisions(seed: int) -> None:
    header = draw_header(random.Random(seed))
    walked, aggregated = Replay(header, exact_steps=True), Replay(header, exact_steps=False)
    for _ in range(900):  # some recordings never end: a request that does not fit waits for ever
        one, other = walked.next_line(), aggregated.next_line()
        assert {k: v for k, v in one.items() if k[:2] != "fq"} == {
            k: v for k, v in other.items() if k[:2] != "fq"
        }
        if len(walked.finished) == len(header["requests"]):
            break
    walked.scheduler.check_integrity()
    aggregated.scheduler.check_integrity()
