"""How fast the simulator is: requests a second of the event loop, how that scales, memory, and whole
processes.

    python benchmarks/speed.py            # everything, about five minutes
    python benchmarks/speed.py --quick    # the same code on small sizes, half a minute
    python benchmarks/speed.py --operators aiconfigurator    # with another source of operator times
    python benchmarks/speed.py --policy sglang               # with another local scheduler

The scenario: Llama-3.1-8B on one H100, 512 tokens in, 256 out, every engine setting at its default, Poisson
arrivals at 85 % of the throughput that the same instance reaches when all requests are there at once;
everything is recorded. ``loop`` is the time of the event loop alone, without building the workload and
summing up. Each row is the best of several runs, each size in a process of its own. The speed of a plain
Python loop is printed beside, since clocks and neighbours differ.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import mean
from typing import Any

ROOT = Path(__file__).resolve().parent.parent

OPERATORS = "TOKENSIM_BENCHMARK_OPERATORS"
"""Names the source of operator times for the processes of this benchmark."""

POLICY = "TOKENSIM_BENCHMARK_POLICY"
"""Names the local scheduler for them."""


def scenario(requests: int, rate: float | None, output: int = 256) -> Any:
    """The scenario with that many requests; ``rate`` None: all at once."""
    from tokensim.scenario import from_mapping

    arrivals = {"process": "all-at-once"} if rate is None else {"process": "poisson", "rate": rate}
    return from_mapping(
        {
            "model": "meta-llama/Llama-3.1-8B",
            "cluster": {"pools": [{"hardware": "h100-sxm-80gb"}]},
            "engine": {"policy": os.environ.get(POLICY, "vllm")},
            "performance": {"operators": os.environ.get(OPERATORS, "builtin")},
            "workload": {
                "arrivals": arrivals,
                "input_tokens": 512,
                "output_tokens": output,
                "num_requests": requests,
            },
        }
    )


def saturation(output: int, requests: int = 5000) -> float:
    """Requests a second of the instance when the queue never empties."""
    from tokensim import simulate

    rate = simulate(scenario(requests, None, output)).summary.throughput.requests_per_s
    assert rate is not None
    return rate


def measure(requests: int, output: int, repeats: int, base: int, exact_steps: bool) -> dict[str, float]:
    """One row of the table. Run in a process of its own; ``base``: requests of the row to compare with."""
    from tokensim import simulate

    spec = scenario(requests, 0.85 * saturation(output), output)
    first_row = scenario(base, 0.85 * saturation(256))
    own, other = [], [simulate(first_row).wall_s]
    for _ in range(repeats):
        result = simulate(spec, exact_steps=exact_steps)
        own.append(result.wall_s)
        other += [simulate(first_row).wall_s for _ in range(2)]
    return {
        "requests": requests,
        "output": output,
        "loop_s": min(own),
        "relative": mean(own) / requests / (mean(other) / base),
        "rows": len(result.log.steps.start_s),
        "steps": int(result.log.steps.what.steps.sum()),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "python_ns": python_speed(),
    }


def python_speed() -> float:
    """Nanoseconds of one turn of ``for i in range(n): x = x + i & 255``: best of five."""
    best = float("inf")
    for _ in range(5):
        started, x = time.perf_counter(), 0
        for i in range(200_000):
            x = x + i & 255
        best = min(best, time.perf_counter() - started)
    return best / 200_000 * 1e9


def in_process(
    requests: int, output: int, repeats: int, base: int, exact_steps: bool = False
) -> dict[str, float]:
    """``measure`` in a new interpreter."""
    arguments = f"{requests}, {output}, {repeats}, {base}, {exact_steps}"
    call = f"import speed, json; print(json.dumps(speed.measure({arguments})))"
    done = subprocess.run(
        [sys.executable, "-c", call], cwd=ROOT / "benchmarks", check=True, stdout=subprocess.PIPE, text=True
    )
    row: dict[str, float] = json.loads(done.stdout)
    return row


def show(row: dict[str, float], note: str = "") -> None:
    """One line of the table."""
    speed = row["requests"] / row["loop_s"]
    print(
        f"{row['requests']:>9,.0f} {row['output']:>6,.0f} {row['loop_s']:>9.3f} {speed:>12,.0f}"
        f" {1e6 / speed:>8.1f} {row['rows'] / row['requests']:>6.2f} {row['steps'] / row['requests']:>7.2f}"
        f" {row['peak_mib']:>9,.0f} {row['python_ns']:>6.0f}  {note}",
        flush=True,
    )


def whole_process(command: list[str], repeats: int) -> float:
    """Best wall time of a command, seconds."""
    best = float("inf")
    for _ in range(repeats):
        started = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True, cwd=ROOT)
        best = min(best, time.perf_counter() - started)
    return best


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small sizes")
    parser.add_argument("--operators", default="builtin", help="performance.operators; default: builtin")
    parser.add_argument("--policy", default="vllm", help="engine.policy; default: vllm")
    options = parser.parse_args()
    quick = options.quick
    os.environ[OPERATORS] = options.operators
    os.environ[POLICY] = options.policy
    repeats = 2 if quick else 5
    base = 2_000 if quick else 10_000
    print(" requests output    loop_s   requests/s   us/req rows/r steps/r  peak_MiB py_ns")
    show(in_process(base, 256, repeats, base), "step runs")
    single = in_process(base, 256, 1 if quick else 2, base, exact_steps=True)
    show(single, f"single steps: {single['relative']:.1f} times slower")
    for requests in [10_000] if quick else [100_000, 1_000_000]:
        row = in_process(requests, 256, 1 if quick or requests > 100_000 else 2, base)
        show(row, f"{row['relative']:.2f} times the cost a request")
    for output in [1024] if quick else [1024, 4096]:
        row = in_process(base, output, 2 if quick else 10, base)
        show(row, f"{row['relative']:.2f} times the cost a request")
    tokensim = str(Path(sys.executable).parent / "tokensim")
    if Path(tokensim).exists():
        print(f"tokensim --help            {whole_process([tokensim, '--help'], repeats):.2f} s")
        with tempfile.TemporaryDirectory() as folder:
            run = [tokensim, "run", "examples/quickstart.yaml", "--output", f"{folder}/run"]
            print(f"the quickstart             {whole_process(run, repeats):.2f} s")


if __name__ == "__main__":
    main()
