"""A real engine on this machine's processor: record several loads, calibrate on one, predict the others.

    python benchmarks/real_cpu.py --server PATH/TO/llama-server --output /tmp/real-cpu

The server is llama.cpp's ``llama-server`` (it batches continuously), or ``python -m llama_cpp.server`` (one
request at a time) where no ``--server`` is given and the package llama-cpp-python with its extra ``server``
is installed. The model is a small random Llama (``random_llama.py``; needs the package gguf). How long
a step takes by the tokens in it is read off the calibration run itself, and written as a table of operator
times; ``tokensim calibrate`` fits the rest on that run, and no other run is touched before it is predicted.
Prints one markdown table. Times on a shared machine are noisy: this is a demonstration.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import yaml

from tokensim.cost.tables.base import Profile
from tokensim.cost.tables.native import write_profile

SLOTS, CONTEXT, BATCH = 8, 1024, 512
INPUT, OUTPUT = 192, 48
PROCESSOR = "this-processor"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def engine(server: str | None, model: Path, threads: int, log: Path) -> Iterator[tuple[str, int]]:
    """The running server: its address, and how many requests it runs at once."""
    port = free_port()
    if server is not None:
        command = [
            server,
            "-m",
            str(model),
            "--parallel",
            str(SLOTS),
            "-c",
            str(SLOTS * CONTEXT),
            "-b",
            str(BATCH),
        ]
        command += [
            "-ub",
            str(BATCH),
            "-t",
            str(threads),
            "-tb",
            str(threads),
            "--port",
            str(port),
            "--metrics",
        ]
        slots, health = SLOTS, "/health"
    else:
        command = [sys.executable, "-m", "llama_cpp.server", "--model", str(model), "--n_ctx", str(CONTEXT)]
        command += ["--n_threads", str(threads), "--n_threads_batch", str(threads), "--port", str(port)]
        command += ["--n_batch", str(BATCH), "--interrupt_requests", "false", "--model_alias", "random"]
        slots, health = 1, "/v1/models"
    url = f"http://127.0.0.1:{port}"
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:
        try:
            deadline = time.monotonic() + 120
            while True:
                with contextlib.suppress(OSError), urllib.request.urlopen(url + health, timeout=2):
                    break
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"the server did not start; see {log}")
                time.sleep(0.2)
            yield url, slots
        finally:
            process.terminate()
            process.wait(timeout=30)


def tokensim(*arguments: object) -> str:
    """Run the command line; its standard output."""
    done = subprocess.run(
        [sys.executable, "-m", "tokensim", *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"tokensim {arguments[0]}: exit code {done.returncode}")
    return done.stdout


def parameters(shape: dict[str, int]) -> int:
    """Weights that a token passes through."""
    hidden, inner = shape["hidden_size"], shape["intermediate_size"]
    heads, kv_heads = shape["num_attention_heads"] * 64, shape["num_key_value_heads"] * 64
    layer = hidden * (2 * heads + 2 * kv_heads) + 3 * hidden * inner
    return shape["num_hidden_layers"] * layer + hidden * shape["vocab_size"]


def step_times(case: Path) -> dict[int, float]:
    """What one run says of the engine: seconds of a step by the tokens in it.

    For a prompt it is the first quartile of TTFT: of requests that neither waited nor met a cold start. For
    ``n`` requests that decode, it is the median of the gaps between tokens while ``n`` did and no prompt was
    on its way.
    """
    rows = [json.loads(line) for line in (case / "requests.jsonl").read_text().splitlines()]
    sent, ttft, e2e = (np.array([row[name] for row in rows]) for name in ("sent_s", "ttft_s", "e2e_s"))
    first, last = sent + ttft, sent + e2e
    chunks = pl.read_parquet(case / "tokens.parquet")
    request = chunks["request"].to_numpy()
    at = sent[request] + chunks["time_s"].to_numpy()
    gaps: dict[int, list[float]] = {}
    for i in np.flatnonzero(request[1:] == request[:-1]).tolist():
        before, after = at[i], at[i + 1]
        if not ((sent < after) & (first > before)).any():
            running = int(((first <= before + 1e-3) & (last >= after - 1e-3)).sum())
            gaps.setdefault(running, []).append(after - before)
    found, longest = {}, 0.0
    for running in sorted(gaps):
        longest = max(longest, float(np.median(gaps[running])))  # more tokens take no less time
        found[running] = longest
    found[rows[0]["input_tokens"]] = float(np.quantile(ttft, 0.25))
    return found


def write_tables(folder: Path, shape: dict[str, int], times: dict[int, float]) -> None:
    """A table of GEMMs from the times of whole steps, which are shared out by the number of weights."""
    hidden, inner, layers = shape["hidden_size"], shape["intermediate_size"], shape["num_hidden_layers"]
    heads, kv_heads = shape["num_attention_heads"] * 64, shape["num_key_value_heads"] * 64
    gemms = [(heads + 2 * kv_heads, hidden), (hidden, heads), (2 * inner, hidden), (hidden, inner)]
    gemms.append((shape["vocab_size"], hidden))
    whole = layers * sum(n * k for n, k in gemms[:4]) + shape["vocab_size"] * hidden
    rows = [
        {"dtype": "float32", "n": n, "k": k, "m": tokens, "seconds": seconds * n * k / whole}
        for n, k in gemms
        for tokens, seconds in times.items()
    ]
    profile = Profile(
        PROCESSOR, "llama.cpp", "", "steps of the calibration run", {"gemm": pl.DataFrame(rows)}
    )
    write_profile(profile, folder)


def device(shape: dict[str, int], times: dict[int, float]) -> dict[str, object]:
    """This processor: two rates for what the table does not have (attention), from the shortest and the
    longest step, and where its table is."""
    weights = 4.0 * parameters(shape)
    link = {"name": "none", "bandwidth": "10 GB/s", "latency": "1 us"}
    tokens, seconds = max(times.items())
    return {
        "name": "this machine's processor",
        "vendor": "unknown",
        "kind": "cpu",
        "architecture": "x86-64",
        "memory": "8 GiB",
        "memory_bandwidth": weights / min(times.values()),
        "flops": {"float32": 0.5 * weights * tokens / seconds},
        "intra_node": link,
        "inter_node": link,
        "host_link": link,
        "devices_per_node": 1,
        "tdp": 100,  # energy and money are asked for nowhere in this benchmark
        "idle_power": 10,
        "price_per_hour_usd": 1,
        "efficiency": {
            "gemm": 1.0,
            "attention": 1.0,
            "memory": 1.0,
            "kernel_overhead": 0,
            "source": "read off the calibration run: the rates are what the engine reached",
        },
        "profiles": {"tokensim": PROCESSOR},
        "sources": {"*": "read off the calibration run"},
    }


def scenario(slots: int, folder: Path) -> dict[str, object]:
    """The engine as it was started, in TokenSim's terms."""
    return {
        "model": str(folder / "config.json"),
        "weights": "float32",
        "cluster": {"pools": [{"hardware": str(folder / "device.yaml")}]},
        "engine": {
            "max_num_seqs": slots,
            "max_num_batched_tokens": BATCH if slots > 1 else CONTEXT,
            "max_model_len": CONTEXT,
            "enable_prefix_caching": False,
            "num_gpu_blocks": SLOTS * CONTEXT // 16 * 2,
            "async_scheduling": False,
            "enforce_eager": True,
        },
        "performance": {"operators": str(folder / "tables")},
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--server", default=shutil.which("llama-server"), help="llama.cpp's llama-server")
    parser.add_argument("--output", type=Path, default=Path("real-cpu"), help="where the cases go")
    parser.add_argument("--threads", type=int, default=1, help="of the engine; leave a core to the recorder")
    parser.add_argument("--requests", type=int, default=80, help="of the larger loads; others have less")
    parser.add_argument("--quick", action="store_true", help="a few requests a load, a smaller model")
    parser.add_argument(
        "--keep-going", action="store_true", help="use the cases that are in --output already"
    )
    given = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).parent))
    from random_llama import write_model

    folder: Path = given.output.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    model = folder / "model.gguf"
    if not model.exists():
        write_model(model, layers=4 if given.quick else 8, hidden=256 if given.quick else 512)
    shape = json.loads((folder / "config.json").read_text())
    count = 12 if given.quick else given.requests
    # Every load has prompts of its own (--seed), and none is found again in the cache.
    flags = ("--input-tokens", INPUT, "--output-tokens", OUTPUT, "--force", "--warmup", 4, "--timeout", 300)
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    with engine(given.server, model, given.threads, folder / "server.log") as (url, slots):
        tokensim(
            "record",
            url,
            *flags,
            "--num-requests",
            4 * slots,
            "--concurrency",
            slots,
            "--seed",
            99,
            "-o",
            folder / "probe",
            "-q",
        )
        rows = [json.loads(line) for line in (folder / "probe" / "requests.jsonl").read_text().splitlines()]
        span = max(row["sent_s"] + row["e2e_s"] for row in rows)
        most = len(rows) / span  # requests a second with every slot busy
        loads = {
            "low": ("--rate", f"{0.2 * most:.3f}", "--num-requests", max(count // 4, 6)),
            "half": ("--rate", f"{0.5 * most:.3f}", "--num-requests", count // 2),
            "high": ("--rate", f"{0.8 * most:.3f}", "--num-requests", count),
            "closed": ("--concurrency", max(slots // 2, 2), "--num-requests", count // 2),
            "saturated": ("--concurrency", 2 * slots, "--num-requests", count),
        }
        for number, (name, load) in enumerate(loads.items()):
            print(f"recording {name}: {' '.join(map(str, load))}", file=sys.stderr, flush=True)
            if not (given.keep_going and (folder / name / "case.yaml").exists()):
                tokensim("record", url, *flags, *load, "--seed", number, "-o", folder / name, "-q")
    fitted_on = "high"  # the one in which most numbers of requests run at once
    times = step_times(folder / fitted_on)
    told = ", ".join(f"{tokens}: {seconds * 1e3:.1f}" for tokens, seconds in times.items())
    print(f"milliseconds of a step by its tokens: {told}", file=sys.stderr)
    shutil.rmtree(folder / "tables", ignore_errors=True)
    write_tables(folder / "tables", shape, times)
    made = device(shape, times)
    (folder / "device.yaml").write_text(yaml.safe_dump(made, sort_keys=False))
    for name in loads:
        file = folder / name / "case.yaml"
        case = yaml.safe_load(file.read_text())
        case["scenario"] = scenario(slots, folder)
        file.write_text(yaml.safe_dump(case, sort_keys=False))
    calibration = folder / "calibration.yaml"
    tokensim("calibrate", folder / fitted_on, "-o", calibration)
    others = [folder / name for name in loads]
    tokensim(
        "validate", *others, "--calibration", calibration, "--json", folder / "errors.json",
        "--html", folder / "errors.html", "-q",
    )  # fmt: skip
    tree = json.loads((folder / "errors.json").read_text())
    print("| load | requests | TTFT mean | TPOT mean | E2E mean | E2E p99 | tokens/s | E2E, each |")
    print("|---|---|---|---|---|---|---|---|")
    for name, case in zip(loads, tree["cases"], strict=True):
        error = case["error"]
        shown = [error[metric]["mean"] for metric in ("ttft", "tpot", "e2e")]
        shown += [error["e2e"]["p99"], error["throughput"]["mean"]]
        label = f"{name} (fitted)" if name == fitted_on else name
        each = case["per_request"]["e2e"]["mean_absolute_relative"]
        cells = [f"{value:+.1%}" for value in shown]
        print(f"| {label} | {case['requests']} | {' | '.join(cells)} | {each:.1%} |")


if __name__ == "__main__":
    main()
