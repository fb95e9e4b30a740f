"""A real engine that runs already: record several loads with repeats, calibrate on one, score the others.

    vllm serve meta-llama/Llama-3.1-8B &
    python benchmarks/real_engine.py http://localhost:8000 --scenario mine.yaml --output cases

``mine.yaml`` says what serves (model, hardware, engine: ``tokensim scenario … vllm serve …`` makes it) and,
in ``workload``, the lengths; arrivals are set here. A closed loop finds what the server can do at most;
then come 25, 50 and 75 % of it as Poisson arrivals, and a closed loop of a quarter of its seats, each so many
times as ``--repeat`` says. ``tokensim calibrate`` fits the first repeat of the half load, and nothing else is
touched before it is predicted. Prints a markdown table, whose spread is that of the real server between
repeats: no prediction can be better than that. The cases stay in ``--output`` for ``tokensim validate``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np

FITTED_ON = "half"


def tokensim(*arguments: object) -> str:
    """Run the command line; its standard output."""
    command = [sys.executable, "-m", "tokensim", *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"tokensim {arguments[0]}: exit code {done.returncode}")
    return done.stdout


def spread(values: list[float]) -> str:
    """The largest deviation from the mean of several, as a share of it."""
    mean = float(np.mean(values))
    return f"{max(abs(value / mean - 1) for value in values):.1%}" if len(values) > 1 else "-"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("url")
    options.add_argument("--scenario", type=Path, required=True, help="what serves it, and lengths (YAML)")
    options.add_argument("--output", type=Path, default=Path("cases"), help="where the cases go")
    options.add_argument("--seats", type=int, default=256, help="requests that it runs at once")
    options.add_argument("--requests", type=int, default=400, help="of each load")
    options.add_argument("--repeat", type=int, default=3)
    asked = options.parse_args()
    folder: Path = asked.output
    flags = ("-s", asked.scenario, "--force", "--warmup", 8, "-q")

    probe = folder / "probe"
    tokensim(
        *("record", asked.url, *flags, "--concurrency", asked.seats, "--num-requests", 3 * asked.seats),
        *("--seed", 99, "-o", probe),
    )
    rows = [json.loads(line) for line in (probe / "requests.jsonl").read_text().splitlines()]
    ends = sorted(row["sent_s"] + row["e2e_s"] for row in rows)
    first, last = len(ends) // 6, len(ends) - len(ends) // 3  # neither filling up nor running dry
    most = (last - first) / (ends[last] - ends[first])
    loads: dict[str, tuple[object, ...]] = {
        "quarter": ("--rate", f"{0.25 * most:.3f}"),
        "half": ("--rate", f"{0.5 * most:.3f}"),
        "three quarters": ("--rate", f"{0.75 * most:.3f}"),
        "closed": ("--concurrency", max(asked.seats // 4, 2)),
    }
    cases: dict[str, list[Path]] = {}
    for number, (name, load) in enumerate(loads.items()):
        place = folder / name.replace(" ", "-")
        print(f"recording {name}: {' '.join(map(str, load))}", file=sys.stderr, flush=True)
        repeats = ("--repeat", asked.repeat, "--seed", number, "-o", place)
        tokensim("record", asked.url, *flags, *load, "--num-requests", asked.requests, *repeats)
        cases[name] = [place / str(n) for n in range(1, asked.repeat + 1)] if asked.repeat > 1 else [place]

    calibration = folder / "calibration.yaml"
    tokensim("calibrate", cases[FITTED_ON][0], "-o", calibration)
    scored = {name: found[1:] if name == FITTED_ON else found for name, found in cases.items()}
    flat = [case for found in scored.values() for case in found]
    tokensim(
        *("validate", *flat, "--calibration", calibration, "--json", folder / "errors.json"),
        *("--html", folder / "errors.html", "-q"),
    )
    told = iter(json.loads((folder / "errors.json").read_text())["cases"])
    print(f"| load | runs | {' | '.join(f'{m} mean, p99, spread' for m in ('TTFT', 'TPOT', 'E2E'))} |")
    print("|---|---|---|---|---|")
    for name, found in scored.items():
        errors = [next(told) for _ in found]
        if not errors:
            continue
        cells = []
        for metric in ("ttft", "tpot", "e2e"):
            mean, p99 = (
                np.mean([one["error"][metric][which] for one in errors]) for which in ("mean", "p99")
            )
            measured = [one["measured"][metric]["mean"] for one in errors]
            cells.append(f"{mean:+.1%}, {p99:+.1%}, {spread(measured)}")
        print(f"| {name} | {len(found)} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
