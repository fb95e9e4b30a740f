"""Prefill and decode apart under every policy, worked out by hand: every step lasts a second."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from axis import workload
from test_handover import run

from tokensim.engine.handover import Terms
from tokensim.metrics.log import RunLog
from tokensim.registry import register
from tokensim.scheduling.local import Sglang, TensorRtLlm, Vllm

BOTH = pytest.mark.parametrize("exact_steps", [True, False], ids=["walked", "runs"])
EVERY = pytest.mark.parametrize(
    "policy", ["vllm", "sglang", "orca", "vllm-v0", "sarathi", "trtllm", "priority", "edf", "fair"]
)


def sglang(**options: Any) -> Any:
    return partial(Sglang, **options)


def finished(log: RunLog) -> list[float]:
    return np.round(log.requests.finish_s, 9).tolist()


@BOTH
@EVERY
def test_who_decodes_goes_on_when_another_one_comes(policy: str, exact_steps: bool) -> None:
    """0: prompt until 1 s, KV until 2 s, tokens 2 to 6 until 7 s. 1: prompt from 2.5 to 3.5 s, KV until
    4.5 s; from 5 s on it decodes beside 0, tokens 2 and 3 until 7 s."""
    kind = register.local_scheduler.get(policy)
    if policy == "sglang":
        kind = sglang(num_reserved_decode_tokens=8)
    requests = workload([0.0, 2.5], [6, 3], [4, 4])
    log = run(requests, Terms(1.0), policy=kind, exact_steps=exact_steps)
    assert log.requests.first_token_s.tolist() == [1.0, 3.5]
    assert finished(log) == [7.0, 7.0]
    assert log.requests.instance.tolist() == [1, 1]


@BOTH
@pytest.mark.parametrize(("reserved", "ends"), [(9, [5.0, 5.0]), (10, [5.0, 9.0])])
def test_sglang_takes_kv_only_beside_its_reserve(reserved: int, ends: list[float], exact_steps: bool) -> None:
    """The decode side has 40 tokens, of which the first request takes 12, three pages for 8 + 1. The second
    one needs 9 and the reserve twice: 27 of the other 28, or 29: then it waits until the first has ended, at
    5 s, its KV comes until 6 s, and three more tokens until 9 s."""
    log = run(
        workload([0.0, 0.0], [4, 4], [8, 8]),
        Terms(1.0),
        policy=sglang(num_reserved_decode_tokens=reserved),
        blocks=(99, 9),
        s_per_byte=0.125,
        exact_steps=exact_steps,
    )
    assert log.requests.first_token_s.tolist() == [1.0, 1.0]
    assert finished(log) == ends


@BOTH
def test_sglang_takes_nobody_who_could_not_end_when_all_that_run_are_retracted(exact_steps: bool) -> None:
    """26 tokens: 9 are taken for 0, whose KV is on its way and cannot be retracted; 1 may come to 18, more
    than are left. 0 ends at 3 s, with token 2; then 1 gets room, its KV comes until 4 s, and nine more
    tokens until 13 s."""
    log = run(
        workload([0.0, 0.0], [2, 10], [8, 8]),
        Terms(1.0),
        policy=sglang(num_reserved_decode_tokens=0),
        blocks=(99, 25),
        block_size=1,
        s_per_byte=0.125,
        exact_steps=exact_steps,
    )
    assert finished(log) == [3.0, 13.0]


@BOTH
def test_sglang_retracts_on_the_decode_side_and_computes_again_there(exact_steps: bool) -> None:
    """30 tokens: both have come at 2 s with 9 each; at 9 s, after token 8, each has 15 and one more does not
    fit. 1 is retracted; 0 ends at 11 s; then 1 computes 8 + 8 tokens again, with token 9 at 12 s and 10 at
    13 s."""
    log = run(
        workload([0.0, 0.0], [10, 10], [8, 8]),
        Terms(1.0),
        policy=sglang(num_reserved_decode_tokens=0),
        blocks=(99, 29),
        block_size=1,
        s_per_byte=0.125,
        exact_steps=exact_steps,
    )
    assert log.requests.preemptions.tolist() == [0, 1]
    assert log.requests.recomputed_tokens.tolist() == [0, 15]
    assert finished(log) == [11.0, 13.0]


@BOTH
def test_a_sglang_prefill_instance_holds_kv_until_it_is_fetched(exact_steps: bool) -> None:
    """Of its 16 tokens 8 are held until 3 s, when the first prompt's KV has left; only then the second one,
    which needs 8 and a page, runs."""
    log = run(
        workload([0.0, 0.0], [2, 2], [8, 8]),
        Terms(1.0),
        policy=sglang(),
        blocks=(15, 99),
        block_size=1,
        exact_steps=exact_steps,
    )
    assert log.requests.first_token_s.tolist() == [1.0, 4.0]


@BOTH
@pytest.mark.parametrize(("policy", "ends"), [(TensorRtLlm, [9.0, 17.0]), (Vllm, [9.0, 9.0])])
def test_trtllm_takes_kv_only_if_the_request_can_come_to_its_end(
    policy: Any, ends: list[float], exact_steps: bool
) -> None:
    """Each comes to 16 tokens, 4 blocks of 6 (vLLM: of 8, so that nobody is preempted)."""
    blocks = (99, 6) if policy is TensorRtLlm else (99, 8)
    log = run(
        workload([0.0, 0.0], [8, 8], [8, 8]),
        Terms(1.0),
        policy=policy,
        blocks=blocks,
        s_per_byte=0.125,
        exact_steps=exact_steps,
    )
    assert finished(log) == ends
