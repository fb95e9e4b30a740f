"""What memory behind the device is worth to conversations of several rounds.

    python examples/memory_tiers.py

250 users talk to four L40S, five rounds each; every prompt contains all rounds before. The conversations are
larger than the four devices, and the router takes instances in turn, so that a user's next round mostly comes
to an instance that does not know the user yet: only a pool that all share helps there.
"""

from __future__ import annotations

import json
import random
import tempfile
from pathlib import Path
from typing import Any

from tokensim import Scenario, simulate

USERS, ROUNDS = 250, 5
SYSTEM, QUESTION, ANSWER = 1024, 1024, 512  # tokens
BLOCK = 512  # tokens that one hash id of a Mooncake trace stands for
USERS_PER_S, PAUSE_S = 0.75, 60.0  # new users; from a round to the next, on average

DEVICE = {
    "base": "l40s-48gb",
    "inter_node": {"name": "200 Gb/s, a port a device", "bandwidth": "25GB/s", "latency": "3us"},
}
HOST = {"kind": "host", "capacity": "64GiB"}
MEMORIES: dict[str, dict[str, Any]] = {
    "device only": {},
    "and 64 GiB of host memory each": {"tiers": [HOST]},
    "and an SSD of 1 TiB each": {"tiers": [HOST, {"kind": "ssd", "capacity": "1TiB"}]},
    "or a pool of 1 TiB that all share": {
        "tiers": [HOST, {"kind": "remote", "capacity": "1TiB", "shared": True}]
    },
    "the same pool, layer by layer": {
        "tiers": [HOST, {"kind": "remote", "capacity": "1TiB", "shared": True}],
        "load": "overlap",
    },
}


def conversations(path: Path) -> None:
    """Write the rounds as a Mooncake trace: the system prompt first, then questions and answers."""
    draw = random.Random(0)
    rows, start_s = [], 0.0
    for user in range(USERS):
        start_s += draw.expovariate(USERS_PER_S)
        sent_s, tokens, ids = start_s, SYSTEM, list(range(SYSTEM // BLOCK))
        for _ in range(ROUNDS):
            tokens += QUESTION
            ids += [1000 * (user + 1) + len(ids) + i for i in range(QUESTION // BLOCK)]
            rows.append((sent_s, tokens, list(ids)))
            tokens += ANSWER
            ids.append(1000 * (user + 1) + len(ids))
            sent_s += draw.expovariate(1 / PAUSE_S)
    with path.open("w", encoding="utf-8") as file:
        for sent_s, tokens, ids in sorted(rows):
            row = {
                "timestamp": round(sent_s * 1000),
                "input_length": tokens,
                "output_length": ANSWER,
                "hash_ids": ids,
            }
            file.write(json.dumps(row) + "\n")


def main() -> None:
    """Run the same conversations with each of ``MEMORIES``."""
    print(f"{'memory':34}  hits   of them below the device     TTFT p50      p99")
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "conversations.jsonl"
        conversations(trace)
        for name, memory in MEMORIES.items():
            scenario = Scenario.model_validate(
                {
                    "model": "meta-llama/Llama-3.1-8B",
                    "weights": "bfloat16",
                    "cluster": {"pools": [{"hardware": DEVICE, "replicas": 4}]},
                    "performance": {"operators": "builtin"},
                    "workload": {"trace": {"path": str(trace)}},
                    "memory": memory,
                }
            )
            summary = simulate(scenario).summary
            hits = summary.tokens.cached_share or 0.0
            tiers = summary.tiers or ()
            below = ", ".join(f"{tier.use.name} {tier.hit_share or 0:.1%}" for tier in tiers) or "-"
            ttft = summary.latency.ttft_s
            print(f"{name:34} {hits:5.1%}   {below:26} {ttft.p50:8.2f} s {ttft.p99:6.2f} s")


if __name__ == "__main__":
    main()
