"""Replay runs measured on real GPUs and print how far the simulation is from them.

    python tests/measured/compare.py FOLDER...      # each with case.yaml and requests.jsonl

Requests are sent when the client meant to send them, under its cap on requests in flight. Times count from
then (in runs measured inside the engine's process, on the measured side: from when it took the request in).
Nothing is fitted. A case that needs what is not simulated yet is named as skipped. Errors are of the means,
and of the 95th percentile of TTFT; real servers repeat themselves within 0.5 % (TPOT, end to end) and 1.5 %
(TTFT).
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from tokensim import InputError, simulate
from tokensim.scenario import from_mapping

COLUMNS = ("arrival_s", "input_tokens", "output_tokens", "hash_ids")


def scenario_of(case: dict[str, Any], trace: Path) -> dict[str, Any]:
    """The scenario tree of a case, with the measured requests as its workload."""
    tree = {**case["scenario"], "performance": {"operators": "roofline"}}
    spec: dict[str, Any] = {"path": str(trace), "format": "generic"}
    if "hash_block_size" in case:
        spec["hash_block_tokens"] = case["hash_block_size"]
    tree["workload"] = {"trace": spec, "max_in_flight": case.get("client", {}).get("max_in_flight")}
    return tree


def errors(folder: Path) -> dict[str, float]:
    """Relative errors of one case: mean TTFT, p95 TTFT, mean TPOT, mean E2E."""
    case = yaml.safe_load((folder / "case.yaml").read_text(encoding="utf-8"))
    text = (folder / "requests.jsonl").read_text(encoding="utf-8")
    rows = sorted((json.loads(line) for line in text.splitlines()), key=lambda row: row["arrival_s"])
    with tempfile.TemporaryDirectory() as scratch:
        trace = Path(scratch) / "requests.jsonl"
        kept = ({key: row[key] for key in COLUMNS if key in row} for row in rows)
        trace.write_text("\n".join(json.dumps(row) for row in kept), encoding="utf-8")
        requests = simulate(from_mapping(scenario_of(case, trace), str(folder))).requests
    ttft = np.array([row["ttft_s"] for row in rows])
    e2e = np.array([row["e2e_s"] for row in rows])
    output = np.array([row["output_tokens"] for row in rows])
    tpot = ((e2e - ttft) / np.maximum(output - 1, 1))[output > 1]
    simulated = {name: requests[f"{name}_s"].drop_nulls().to_numpy() for name in ("ttft", "tpot", "e2e")}
    return {
        "TTFT": simulated["ttft"].mean() / ttft.mean() - 1,
        "TTFT p95": np.percentile(simulated["ttft"], 95) / np.percentile(ttft, 95) - 1,
        "TPOT": simulated["tpot"].mean() / tpot.mean() - 1,
        "end to end": simulated["e2e"].mean() / e2e.mean() - 1,
    }


def main(arguments: Sequence[str]) -> int:
    """Print one line a case."""
    folders = [Path(argument) for argument in arguments if (Path(argument) / "case.yaml").is_file()]
    if not folders:
        print("usage: compare.py FOLDER... (each with case.yaml and requests.jsonl)", file=sys.stderr)
        return 2
    print(f"{'':50}{'TTFT':>10}{'TTFT p95':>10}{'TPOT':>10}{'end to end':>12}")
    for folder in folders:
        try:
            found = errors(folder)
        except InputError as error:
            print(f"{folder.name:50}  skipped: {error.message.splitlines()[0]}")
            continue
        ttft, p95, tpot, e2e = (f"{value:+.1%}" for value in found.values())
        print(f"{folder.name:50}{ttft:>10}{p95:>10}{tpot:>10}{e2e:>12}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
