"""The same requests through every local scheduler: a table of what a user would notice.

Llama-3.1-8B on one RTX 4090, whose memory holds some 60 of these requests, near the load that it can take.
No policy schedules asynchronously here, so that only their rules differ. Then the orders, under half as much
load again: three tenants of which one sends 80 %, a tenth of the requests urgent, all with a deadline.
"""

from __future__ import annotations

from typing import Any

from tokensim import Result, Scenario, simulate
from tokensim.workload import build_workload

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


ORDERS: dict[str, dict[str, Any]] = {
    "vllm": {},
    "sjf": {},
    "sjf, predicted": {"policy_options": {"lengths": "predicted"}},
    "priority": {},
    "edf": {},
    "fair": {},
}
CROWD: dict[str, Any] = {
    "arrivals": {"process": "poisson", "rate": 6},
    "num_requests": 1000,
    "tenants": [8, 1, 1],
    "priorities": [1, 9],
    "deadline": {"fixed": "10s", "per_output_token": "50ms"},
    "predicted_tokens": {"predictor": "lognormal", "sigma": 0.5},
}


def simulated(name: str, options: dict[str, Any], workload: dict[str, Any]) -> Result:
    """The run of the policy that ``name`` begins with, on ``workload``."""
    engine: dict[str, Any] = {"policy": name.split(",")[0], "max_num_seqs": 256, "max_model_len": 8192}
    engine |= {"async_scheduling": False, "enable_prefix_caching": False, **options}
    return simulate(Scenario.model_validate({**SCENARIO, "engine": engine, "workload": workload}))


def compare_rules() -> None:
    """What each policy makes of the load that it is given."""
    print(f"{'':24}{'TTFT p50':>10}{'p99':>11}{'TPOT p50':>10}{'p99':>8}{'ITL p99':>9}{'req/s':>7}")
    for name, options in POLICIES.items():
        summary = simulated(name, options, SCENARIO["workload"]).summary
        ttft, tpot, itl = summary.latency.ttft_s, summary.latency.tpot_s, summary.latency.itl_s
        figures = (ttft.p50, ttft.p99, tpot.p50, tpot.p99, itl.p99)
        first, last, token, slow, gap = (1e3 * (figure or 0.0) for figure in figures)
        rate = summary.throughput.requests_per_s or 0.0
        print(f"{name:24}{first:7.0f} ms{last:8.0f} ms{token:7.1f} ms{slow:5.0f} ms{gap:6.0f} ms{rate:7.1f}")


def compare_orders() -> None:
    """Who is served first when there is too much to do."""
    workload = {**SCENARIO["workload"], **CROWD}
    spec = Scenario.model_validate({**SCENARIO, "workload": workload}).workload
    sent = build_workload(spec, seed=0)
    assert sent.priority is not None and sent.tenant is not None and sent.deadline_s is not None
    print(f"{'':24}{'TTFT mean':>11}{'urgent':>9}{'others':>9}{'small tenants':>15}{'in time':>9}")
    for name, options in ORDERS.items():
        log = simulated(name, options, workload).log.requests
        ttft_s, late = log.first_token_s - log.arrival_s, log.finish_s - log.arrival_s > sent.deadline_s
        urgent, small = sent.priority == sent.priority.min(), sent.tenant > 0
        means = (ttft_s.mean(), ttft_s[urgent].mean(), ttft_s[~urgent].mean(), ttft_s[small].mean())
        told = "".join(f"{mean:{width}.1f} s" for mean, width in zip(means, (9, 7, 7, 13), strict=True))
        print(f"{name:24}{told}{100 * (1 - late.mean()):7.0f} %")


if __name__ == "__main__":
    compare_rules()
    print()
    compare_orders()
