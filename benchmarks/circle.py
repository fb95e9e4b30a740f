"""The circle: simulate, serve, record, validate. What comes back must be what went in.

    python benchmarks/circle.py                    # 20 requests a second for 100 s
    python benchmarks/circle.py --streams 2000     # and as many answers at once, counted

A scenario is served live (``tokensim serve``), its own workload is sent to it (``tokensim record``), and the
case is validated against the very same scenario. What differs is the endpoint's and the recorder's own doing:
lateness, HTTP, the event loops. It is printed beside the lateness of both.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import yaml

SCENARIO = {
    "model": "meta-llama/Llama-3.1-8B",
    "cluster": {"pools": [{"hardware": "h100-sxm-80gb"}]},
    "engine": {"max_num_seqs": 256, "max_num_batched_tokens": 8192},
    "performance": {"operators": "builtin", "front_end": "on"},
    "workload": {
        "arrivals": {"process": "poisson", "rate": 20},
        "input_tokens": {"distribution": "lognormal", "mean": 512, "cv": 0.8, "max": 4096},
        "output_tokens": {"distribution": "lognormal", "mean": 128, "cv": 0.6, "max": 512},
        "num_requests": 2000,
    },
}
"""One H100 at about a third of what it can do."""


@contextlib.contextmanager
def served(scenario: Path) -> Iterator[str]:
    """The endpoint's address."""
    command = [sys.executable, "-m", "tokensim", "serve", str(scenario), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            found = re.search(r"http://\S+?:\d+", process.stdout.readline())
            if found is None:
                raise SystemExit("tokensim serve did not start")
            yield found[0]
        finally:
            process.terminate()
            process.wait(timeout=60)


def tokensim(*arguments: object, expect: int = 0) -> str:
    command = [sys.executable, "-m", "tokensim", *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != expect:
        raise SystemExit(f"tokensim {arguments[0]}: exit code {done.returncode}\n{done.stdout}")
    return done.stdout


def circle(
    scenario: dict[str, object], folder: Path, *flags: object
) -> tuple[dict[str, object], dict[str, object]]:
    """Serve, record and validate ``scenario``: what the recorder says, and the errors."""
    file = folder / "scenario.yaml"
    file.write_text(yaml.safe_dump(scenario, sort_keys=False), encoding="utf-8")
    case = folder / "case"
    with served(file) as url:
        told = tokensim(
            "record", url, "-s", file, "-o", case, "--force", "--warmup", 4, "--json", "-", *flags
        )
    errors = tokensim("validate", case, "--json", "-", "--html", folder / "circle.html")
    return json.loads(told)["recordings"][0], json.loads(errors)["cases"][0]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scenario", type=Path, help="another one, with its workload")
    parser.add_argument("--streams", type=int, default=0, help="then so many answers at once")
    parser.add_argument("--output", type=Path, help="keep the case and the page here")
    given = parser.parse_args()
    scenario = (
        SCENARIO if given.scenario is None else yaml.safe_load(given.scenario.read_text(encoding="utf-8"))
    )
    with tempfile.TemporaryDirectory() as scratch:
        folder = given.output or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        told, errors = circle(scenario, folder)
        late, lag = (told["recorder"][name] for name in ("lateness", "loop_lag"))  # type: ignore[index]
        print(
            f"recorded: {told['requests']}; recorder late p99 {late['p99_s'] * 1e3:.1f} ms, lag p99", end=" "
        )
        print(f"{lag['p99_s'] * 1e3:.1f} ms")
        print("| | measured | simulated | error | difference |\n|---|---|---|---|---|")
        for metric in ("ttft", "tpot", "e2e"):
            for figure in ("mean", "p50", "p99"):
                a, b = (errors[side][metric][figure] for side in ("measured", "simulated"))  # type: ignore[index]
                cells = f"{a * 1e3:.2f} ms | {b * 1e3:.2f} ms | {b / a - 1:+.2%} | {(b - a) * 1e3:+.2f} ms"
                print(f"| {metric.upper()} {figure} | {cells} |")
        if given.streams:
            many = {**scenario, "engine": {"max_num_seqs": given.streams, "max_num_batched_tokens": 16384}}
            many["workload"] = {
                "arrivals": {"process": "constant", "rate": given.streams / 10},
                "input_tokens": 32,
                "output_tokens": 400,
                "num_requests": given.streams,
            }
            told, _ = circle(many, folder, "--max-in-flight", given.streams)
            late, lag = (told["recorder"][name] for name in ("lateness", "loop_lag"))  # type: ignore[index]
            print(f"{given.streams:,} streams: {told['requests']}; recorder late p99", end=" ")
            print(f"{late['p99_s'] * 1e3:.1f} ms, lag p99 {lag['p99_s'] * 1e3:.1f} ms")


if __name__ == "__main__":
    main()
