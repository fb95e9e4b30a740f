"""The same requests through every local scheduler: a table of what a user would notice.

Llama-3.1-8B on one RTX 4090, whose memory holds some 60 of these requests, near the load that it can take. No
policy schedules asynchronously here, so that only their rules differ.
"""

from __future__ import annotations

from typing import Any

from tokensim import Scenario, simulate

POLICIES: dict[str, dict[str, Any]] = {
    "vllm": {},
    "sarathi": {},
    "trtllm": {},
    "trtllm, max_utilization": {"policy_options": {"capacity": "max_utilization"}},
    "vllm-v0": {},
    "vllm-v0, swap": {"preemption": "swap"},
    "orca": {},
    "orca, pow2": {"policy_options": {"reserve": "pow2"}},
    "static": {},
    "sjf": {},
}
SCENARIO: dict[str, Any] = {
    "model": "meta-llama/Llama-3.1-8B",
    "cluster": {"pools": [{"hardware": "rtx-4090-24gb"}]},
    "workload": {
        "arrivals": {"process": "poisson", "rate": 4.3},
        "input_tokens": {"distribution": "lognormal", "mean": 512, "cv": 1.0, "max": 4000},
        "output_tokens": {"distribution": "lognormal", "mean": 256, "cv": 1.0, "max": 2000},
        "num_requests": 2000,
    },
}


def main() -> None:
    """Simulate and print."""
    print(f"{'':24}{'TTFT p50':>10}{'p99':>9}{'TPOT p50':>10}{'p99':>8}{'ITL p99':>9}{'req/s':>7}")
    for name, options in POLICIES.items():
        engine: dict[str, Any] = {"policy": name.split(",")[0], "max_num_seqs": 256, "max_model_len": 8192}
        engine |= {"async_scheduling": False, "enable_prefix_caching": False, **options}
        summary = simulate(Scenario.model_validate({**SCENARIO, "engine": engine})).summary
        ttft, tpot, itl = summary.latency.ttft_s, summary.latency.tpot_s, summary.latency.itl_s
        figures = (ttft.p50, ttft.p99, tpot.p50, tpot.p99, itl.p99)
        first, last, token, token99, gap = (1e3 * (figure or 0.0) for figure in figures)
        rate = summary.throughput.requests_per_s or 0.0
        print(
            f"{name:24}{first:7.0f} ms{last:6.0f} ms{token:7.1f} ms{token99:5.0f} ms{gap:6.0f} ms{rate:7.1f}"
        )


if __name__ == "__main__":
    main()
