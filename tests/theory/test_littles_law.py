"""Little's law (1961), L = λW, in every kind of run: the mean number of requests in the cluster, counted
in its queues and batches while it runs, equals arrivals a second times the mean time from arrival to end,
which come from the table of requests."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest

from tokensim import Scenario, simulate
from tokensim.engine.hooks import Hook
from tokensim.scheduling.local import Request

PERIOD_S = 0.01


class Census(Hook):
    """Counts every ``PERIOD_S`` the requests that are anywhere in the cluster."""

    def __init__(self) -> None:
        self.counts: list[int] = []

    def on_start(self) -> None:
        self.control.every(PERIOD_S, lambda: self.counts.append(len(set(self.present()))))

    def present(self) -> Iterable[int]:
        """The requests that run, wait, load or are held, each as often as it has parts."""
        for replica in self.control.replicas:
            for rank in replica.ranks:
                scheduler = rank.scheduler
                everywhere: Iterable[Request] = (
                    *scheduler.running,
                    *scheduler.waiting,
                    *scheduler.loading,
                    *scheduler.holding,
                )
                yield from (request.index for request in everywhere)


def scenario(cluster: dict[str, Any], engine: dict[str, Any] | None = None, rate: float = 30.0) -> Scenario:
    return Scenario.model_validate(
        {
            "model": "meta-llama/Llama-3.1-8B",
            "cluster": cluster,
            "engine": {"async_scheduling": False, **(engine or {})},
            "performance": {"operators": "roofline"},
            "workload": {
                "arrivals": {"process": "poisson", "rate": rate},
                "input_tokens": {"distribution": "lognormal", "mean": 700, "cv": 1.0, "max": 4000},
                "output_tokens": {"distribution": "exponential", "mean": 60, "max": 400},
                "num_requests": 600,
            },
        }
    )


POOL: dict[str, Any] = {"hardware": "a100-sxm-80gb"}
TWO = [{"name": "p", "role": "prefill", **POOL}, {"name": "d", "role": "decode", **POOL}]
RUNS = {
    "vllm": scenario({"pools": [POOL]}, rate=12),
    "crowded": scenario({"pools": [POOL]}, {"max_num_seqs": 4}),
    "short-of-memory": scenario({"pools": [POOL]}, {"num_gpu_blocks": 500, "max_model_len": 7000}, rate=25),
    "prefill-first": scenario({"pools": [POOL]}, {"policy": "vllm-v0"}, rate=12),
    "shortest-first": scenario({"pools": [POOL]}, {"policy": "sjf", "max_num_seqs": 4}),
    "orca": scenario({"pools": [POOL]}, {"policy": "orca"}, rate=12),
    "routed": scenario({"pools": [{**POOL, "replicas": 4}], "router": "least-requests"}),
    "apart": scenario({"pools": TWO}),
    "apart-over-a-slow-link": scenario(
        {"pools": TWO, "network": {"placement": "spread", "inter_node": "ethernet-25"}}
    ),
    "failures": scenario(
        {"pools": [{**POOL, "replicas": 3}], "failures": [{"pool": "serve", "every": "8s", "recovery": "1s"}]}
    ),
    "restarts": scenario(
        {
            "pools": [{**POOL, "replicas": 2, "startup": "2s"}],
            "restarts": [{"pool": "serve", "at": "3s", "migrate": True}],
        }
    ),
}


@pytest.mark.parametrize("name", RUNS)
def test_the_mean_number_is_the_rate_times_the_mean_time(name: str) -> None:
    census = Census()
    result = simulate(RUNS[name], hooks=[census])
    columns = result.log.requests
    spans_s = columns.finish_s - columns.arrival_s
    assert not np.isnan(spans_s).any(), "every request has an end here"
    rate = len(spans_s) / result.log.end_s
    mean_number = sum(census.counts) * PERIOD_S / result.log.end_s
    assert mean_number > 1
    assert mean_number == pytest.approx(rate * spans_s.mean(), rel=0.01)
