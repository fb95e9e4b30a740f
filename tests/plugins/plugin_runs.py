"""A small run for plug-ins to misbehave in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tokensim import Scenario, simulate
from tokensim.assemble import Result
from tokensim.engine.hooks import Hook
from tokensim.scheduling.local import Request

LIMITS: dict[bool, dict[str, Any]] = {
    True: {"max_num_batched_tokens": 128},
    False: {"max_num_batched_tokens": 512},
}


def run(
    policy: str = "vllm",
    *,
    tight: bool = True,
    exact_steps: bool = False,
    hooks: Sequence[Hook] = (),
    **cluster: Any,
) -> Result:
    """40 requests in two seconds on an L4 with little memory for its KV cache."""
    scenario = {
        "model": "meta-llama/Llama-3.2-1B",
        "cluster": {"pools": [{"hardware": "l4"}], **cluster},
        "engine": {
            "num_gpu_blocks": 160,
            "max_model_len": 512,
            "max_num_seqs": 64,
            **LIMITS[tight],
            "policy": policy,
        },
        "performance": {"operators": "roofline"},
        "workload": {
            "arrivals": {"process": "poisson", "rate": 20},
            "input_tokens": {"distribution": "uniform", "min": 20, "max": 200},
            "output_tokens": {"distribution": "uniform", "min": 5, "max": 150},
            "num_requests": 40,
        },
    }
    return simulate(Scenario.model_validate(scenario), exact_steps=exact_steps, hooks=hooks)


def stranger() -> Request:
    return Request(999, 0.0, 10, 10, 20)
