"""What routing costs: microseconds of simulation a request, for each policy and number of replicas.

    python benchmarks/routing.py              # the table of docs/routing.md, some minutes
    python benchmarks/routing.py --quick      # fewer requests and replicas

Llama-3.1-8B, each replica one H100 with 25 requests a second of 512 tokens in and 256 out, so that the
load of a replica does not depend on their number. The second table has chats (five rounds over a shared
system prompt, 5 requests a second a replica), where prompts are looked up in every prefix cache. Each
figure is the best of several runs of the event loop, in processor time, all in one process; in brackets,
how many times the figure of round-robin on one replica."""

from __future__ import annotations

import argparse
import time
from typing import Any

POLICIES: dict[str, dict[str, Any]] = {
    "round-robin": {},
    "random": {},
    "weighted": {"weights": {"serve": 2}},
    "least-requests": {},
    "power-of-two": {},
    "session-affinity": {},
    "prefix-aware": {},
    "least-tokens": {},
    "least-kv": {},
    "shortest-queue": {},
    "slo-aware": {},
    "cost-aware": {"ttft": "200ms"},
}


def scenario(policy: str, replicas: int, requests: int, chats: bool) -> Any:
    """The load of one replica times ``replicas``."""
    from tokensim.scenario import from_mapping

    workload: dict[str, Any] = {"input_tokens": 512, "output_tokens": 256}
    if chats:
        workload |= {
            "arrivals": {"process": "poisson", "rate": replicas},
            "sessions": {"rounds": 5, "count": max(1, requests // 5), "think_time": "5s"},
            "shared_prefix": {"tokens": 500},
        }
    else:
        workload |= {"arrivals": {"process": "poisson", "rate": 25 * replicas}, "num_requests": requests}
    return from_mapping(
        {
            "model": "meta-llama/Llama-3.1-8B",
            "cluster": {
                "pools": [{"name": "serve", "hardware": "h100-sxm-80gb", "replicas": replicas}],
                "router": {"policy": policy, "options": POLICIES[policy]},
            },
            "performance": {"operators": "builtin"},
            "workload": workload,
        }
    )


def microseconds(policy: str, replicas: int, requests: int, chats: bool, repeats: int) -> float:
    """Of processor time of the event loop, a request."""
    from tokensim.assemble import build_simulation
    from tokensim.model import load_model
    from tokensim.plan import plan_pool
    from tokensim.workload import build_workload

    spec = scenario(policy, replicas, requests, chats)
    model = load_model(spec.model, "model")
    plans = [plan_pool(spec, 0, model)]
    workload = build_workload(spec.workload, spec.seed)
    best = float("inf")
    for _ in range(repeats):
        simulation = build_simulation(spec, model, plans, workload, exact_steps=False, hooks=())
        started = time.process_time()
        simulation.run()
        best = min(best, time.process_time() - started)
    return best / len(workload) * 1e6


def table(replicas: list[int], requests: int, chats: bool, repeats: int) -> None:
    """Print one table as markdown."""
    base = microseconds("round-robin", 1, requests, chats, repeats)
    print("| policy | " + " | ".join(map(str, replicas)) + " |")
    print("|---|" + "---|" * len(replicas))
    for policy in POLICIES:
        row = [microseconds(policy, count, max(requests, 20 * count), chats, repeats) for count in replicas]
        cells = [f"{value:.0f} ({value / base:.1f})" for value in row]
        print(f"| `{policy}` | " + " | ".join(cells) + " |", flush=True)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer requests and replicas")
    quick = parser.parse_args().quick
    replicas = [1, 8, 64] if quick else [1, 8, 16, 64, 512]
    requests, repeats = (1_000, 1) if quick else (5_000, 3)
    print("Requests that share nothing, microseconds a request by number of replicas:\n")
    table(replicas, requests, False, repeats)
    print("\nChats of five rounds over one system prompt:\n")
    table(replicas, requests, True, repeats)


if __name__ == "__main__":
    main()
