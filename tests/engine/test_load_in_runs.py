"""What a row of the log tells of its whole run: KV blocks that grow, requests that come and wait."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tokensim import simulate
from tokensim.metrics.log import RunLog
from tokensim.metrics.usage import usage_of
from tokensim.scenario import from_mapping

H100 = {"hardware": "h100-sxm-80gb"}
PAIR = [{"name": role, "role": role, **H100} for role in ("prefill", "decode")]
DRAFTS = {"method": "ngram", "num_speculative_tokens": 3, "acceptance": {"rate": 0.5}}
CASES: dict[str, dict[str, Any]] = {
    "apart": {"cluster": {"pools": PAIR}},
    "asynchronous": {},
    "synchronous": {"engine": {"async_scheduling": False}},
    "little memory": {"engine": {"num_gpu_blocks": 400}},
    "speculative": {"engine": {"speculative": DRAFTS}},
}


def log_of(changes: dict[str, Any], *, exact_steps: bool = False) -> RunLog:
    scenario: dict[str, Any] = {
        "model": "meta-llama/Llama-3.1-8B",
        "cluster": {"pools": [H100]},
        "performance": {"operators": "builtin"},
        "workload": {
            "arrivals": {"process": "poisson", "rate": 8.0},
            "input_tokens": {"distribution": "uniform", "min": 20, "max": 900},
            "output_tokens": {"distribution": "uniform", "min": 20, "max": 600},
            "num_requests": 120,
        },
        **changes,
    }
    return simulate(from_mapping(scenario), exact_steps=exact_steps).log


@pytest.mark.parametrize("case", CASES)
def test_runs_and_single_steps_tell_the_same_load(case: str) -> None:
    runs, steps = log_of(CASES[case]), log_of(CASES[case], exact_steps=True)
    ours, theirs = usage_of(runs, runs.end_s), usage_of(steps, steps.end_s)
    assert runs.end_s == pytest.approx(steps.end_s, rel=1e-9)
    assert (ours.kv_mean, ours.kv_max) == pytest.approx((theirs.kv_mean, theirs.kv_max), rel=2e-3)
    assert ours.batch_mean == pytest.approx(theirs.batch_mean, rel=1e-9)
    assert runs.steps.waited_s.sum() == pytest.approx(steps.steps.waited_s.sum(), rel=1e-9)
    np.testing.assert_allclose(ours.series.kv_share, theirs.series.kv_share, rtol=0.05, atol=1e-4)


@pytest.mark.parametrize("case", [name for name in CASES if name not in ("little memory", "apart")])
def test_the_queue_is_what_little_says(case: str) -> None:
    """Requests in it, on average, are the rate times the wait of each (Little 1961); nobody is preempted."""
    log = log_of(CASES[case])
    assert not log.requests.preemptions.any()
    waited_s = float((log.requests.scheduled_s - log.requests.arrival_s).sum())
    assert waited_s > 0.0
    assert log.steps.waited_s.sum() == pytest.approx(waited_s, rel=1e-9)
    usage = usage_of(log, log.end_s)
    assert np.mean(usage.series.waiting) * log.end_s == pytest.approx(waited_s, rel=1e-9)


def test_one_long_answer_fills_its_blocks_evenly() -> None:
    log = log_of(
        {
            "workload": {
                "arrivals": "all-at-once",
                "input_tokens": {"distribution": "fixed", "value": 100},
                "output_tokens": {"distribution": "fixed", "value": 20_000},
                "num_requests": 1,
            }
        }
    )
    usage = usage_of(log, log.end_s)
    assert usage.kv_max is not None and usage.kv_mean is not None
    share = np.array(usage.series.kv_share)
    assert (np.diff(share) > 0).all()
    assert share[25] == pytest.approx(usage.kv_max / 2, rel=0.08)  # steps get longer with the context
    assert usage.kv_mean == pytest.approx(share.mean(), rel=0.05)
