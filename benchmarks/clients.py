"""Load generators that nobody here wrote, against a served scenario: does what they report agree with the
simulation of the requests that they sent?

    python -m venv /tmp/aiperf && /tmp/aiperf/bin/pip install aiperf
    python benchmarks/clients.py aiperf /tmp/aiperf/bin/aiperf
    python benchmarks/clients.py guidellm /tmp/guidellm/bin/guidellm
    python benchmarks/clients.py vllm /tmp/vllm/bin/vllm

``vllm bench serve`` needs no device and half of vLLM's dependencies: see docs/serve.md.

With ``--time-scale 0.1`` the cluster is ten times as slow and gets a tenth of the load, so that what the
machine adds (its own processes waiting for each other) counts a tenth; times shown are simulated seconds.

They run as they are, each against a server of its own, which leaves the run that it simulated. Their reports
are read by the importers of ``tokensim cases``. They need a tokenizer without a hub: a small one is trained
on the documentation.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import polars as pl

from tokensim.validation.imports import read_run

ROOT = Path(__file__).resolve().parent.parent

SCENARIO = """
name: clients
model: meta-llama/Llama-3.1-8B
cluster: {pools: [{name: serve, hardware: h100-sxm-80gb}]}
engine: {max_num_seqs: 64}
performance: {operators: builtin}
"""

REQUESTS, RATE, PROMPT, ANSWER = 300, 6.0, 400, 60


def train_tokenizer(folder: Path) -> None:
    """A byte-level BPE of 4,000 tokens, with what transformers wants beside it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=4000, initial_alphabet=alphabet, special_tokens=["<s>", "</s>"], show_progress=False
    )
    tokenizer.train_from_iterator(
        [page.read_text() for page in sorted((ROOT / "docs").glob("*.md"))], trainer
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>"}
    settings["chat_template"] = "{% for message in messages %}{{ message['content'] }}\n{% endfor %}"
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "vocab_size": 4000}))


def command(
    tool: str, program: str, url: str, model: str, tokenizer: Path, out: Path, load: tuple[int, float]
) -> list[str]:
    """What a user would type, and nothing more; ``load``: requests, and how many a second."""
    count, rate = load
    if tool == "aiperf":
        return [
            *(program, "profile", "--model", model, "--url", url, "--endpoint-type", "completions"),
            *("--streaming", "--tokenizer", str(tokenizer), "--request-count", str(count)),
            *("--request-rate", str(rate), "--isl", str(PROMPT), "--isl-stddev", "100"),
            *("--osl", str(ANSWER), "--extra-inputs", "ignore_eos:true", "--ui", "none"),
            *("--artifact-dir", str(out), "--random-seed", "1", "--workers-max", "2"),
        ]
    if tool == "guidellm":
        data = f"kind=synthetic_text,prompt_tokens={PROMPT},prompt_tokens_stdev=100,output_tokens={ANSWER}"
        return [
            *(program, "run", "--backend", f"kind=openai_http,target={url},model={model}"),
            *(
                "--profile",
                f"kind=poisson,rate={rate}",
                "--constraint",
                f"kind=max_requests,count={count}",
            ),
            *("--tokenizer", f"kind=hf_auto,model={tokenizer}", "--data", data),
            *("--output", f"kind=json,path={out / 'benchmarks.json'}", "--disable-console"),
        ]
    return [
        *(program, "bench", "serve", "--backend", "openai", "--base-url", url, "--model", model),
        *("--tokenizer", str(tokenizer), "--dataset-name", "random", "--random-input-len", str(PROMPT)),
        *("--random-output-len", str(ANSWER), "--num-prompts", str(count), "--request-rate", str(rate)),
        *("--ignore-eos", "--save-result", "--save-detailed", "--result-dir", str(out)),
        *("--result-filename", "result.json"),
    ]


ENVIRONMENT = {
    "vllm": {"HF_HUB_OFFLINE": "1"},
    "guidellm": {"HF_HUB_OFFLINE": "1", "GUIDELLM__MAX_WORKER_PROCESSES": "1"},
    "aiperf": {},  # it takes a folder for a tokenizer only online
}
"""GuideLLM starts ten processes unless told otherwise, which on a few cores wait for each other."""

RESULT = {"aiperf": "profile_export.jsonl", "guidellm": "benchmarks.json", "vllm": "result.json"}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("tool", choices=sorted(RESULT))
    options.add_argument("program", help="its executable")
    options.add_argument("--requests", type=int, default=REQUESTS)
    options.add_argument("--time-scale", type=float, default=1.0)
    asked = options.parse_args()
    scale = asked.time_scale
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tokenizer = folder / "tokenizer"
        out = folder / "out"
        for made in (tokenizer, out):
            made.mkdir()
        train_tokenizer(tokenizer)
        scenario = folder / "scenario.yaml"
        scenario.write_text(SCENARIO)
        server = subprocess.Popen(
            [
                *(sys.executable, "-m", "tokensim", "serve", str(scenario), "--port", "0"),
                *("--tokenizer", str(tokenizer), "--output", str(folder / "run")),
                *("--time-scale", str(scale)),
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert server.stdout is not None
        found = re.search(r"Serving (\S+) at (http://\S+:\d+)/v1", server.stdout.readline())
        assert found, "the server does not start"
        load = (asked.requests, RATE * scale)
        line = command(asked.tool, asked.program, found[2], found[1], tokenizer, out, load)
        own = {**os.environ, **ENVIRONMENT[asked.tool]}
        ended = subprocess.run(line, env=own, capture_output=True, text=True, timeout=900, check=False)
        runs_s, waits_s = on_core(server.pid)
        server.send_signal(signal.SIGTERM)
        told = server.communicate(timeout=60)[0]
        if ended.returncode:
            sys.exit(f"{' '.join(line)}\n{ended.stdout[-3000:]}\n{ended.stderr[-3000:]}")
        print(f"the server ran for {runs_s:.1f} s and waited {waits_s:.1f} s for a core;", end=" ")
        print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
        compare(
            asked.tool, next(out.rglob(RESULT[asked.tool])), folder / "run" / "requests.parquet", told, scale
        )


def on_core(pid: int) -> tuple[float, float]:
    """Seconds for which the main thread of the process ran, and for which it was ready while others ran."""
    ran, waited = Path(f"/proc/{pid}/schedstat").read_text().split()[:2]
    return int(ran) * 1e-9, int(waited) * 1e-9


def compare(tool: str, report: Path, simulated: Path, told: str, scale: float) -> None:
    """Print both sides: the client's requests, and the last so many simulated ones (warm-up comes first)."""
    run = read_run(report)
    theirs = sorted(run.requests, key=lambda request: request.sent_s)
    ours = pl.read_parquet(simulated).sort("arrival_s").tail(len(theirs))
    print(f"{tool}: {len(theirs)} requests, {run.failed} failed; {told.strip().splitlines()[0]}")
    answers = np.array([request.output_tokens for request in theirs])
    print(f"  tokens: prompts {sum(r.input_tokens for r in theirs):,} as the client counts,", end=" ")
    print(
        f"{ours['input_tokens'].sum():,} served; answers {answers.sum():,}, {ours['output_tokens'].sum():,}"
    )
    columns = {
        "TTFT": ([r.ttft_s for r in theirs], ours["ttft_s"]),
        "TPOT": ([(r.e2e_s - r.ttft_s) / (r.output_tokens - 1) for r in theirs], ours["tpot_s"]),
        "E2E": ([r.e2e_s for r in theirs], ours["e2e_s"]),
    }
    for name, (measured, simulation) in columns.items():
        for figure, of in (("mean", np.mean), ("p50", np.median), ("p99", lambda x: np.quantile(x, 0.99))):
            a, b = float(of(np.array(measured))) * scale, float(of(simulation.to_numpy()))
            within = abs(a - b) <= 0.003 or abs(a / b - 1) <= 0.02
            print(f"  {name} {figure:5} {a * 1e3:9.2f} ms reported {b * 1e3:9.2f} ms simulated", end=" ")
            print(f"{(a - b) * 1e3:+7.2f} ms {a / b - 1:+7.1%} {'ok' if within else 'OFF'}")


if __name__ == "__main__":
    main()
