"""The roofline against runs and kernels of real GPUs: efficiencies come from elsewhere, nothing is fitted
here."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from paper_device import NO_HOST

from tokensim.cost import CompiledStepCost, Host, Roofline, Setting, build_cost
from tokensim.cost.host import GAP_S, REQUEST_S, STEP_S
from tokensim.hardware import load_device
from tokensim.model import load_model, operators

BLOCK = {
    "layernorm": 2,
    "qkv_proj": 1,
    "rotary_emb": 1,
    "o_proj": 1,
    "gate_up_proj": 1,
    "act_fn": 1,
    "down_proj": 1,
}
"""Operators of a layer of the profile, and how often each runs."""


def roofline(model: str, device: str, host: Host) -> CompiledStepCost:
    parts = operators(load_model(model), weights="bfloat16", kv_dtype="auto", tensor=1, expert=1)
    setting = Setting(load_device(device), model)
    return build_cost(parts, setting, [Roofline(setting)], host)


def test_a_lone_stream_on_an_h100_decodes_as_measured(shared: Path) -> None:
    file = shared / "groundtruth" / "h100-qwen3-14b-sweep-rate-agg-2rps-vanilla" / "requests.jsonl"
    if not file.is_file():
        pytest.skip("the measured case is not beside the repository")
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    tpots = sorted((row["e2e_s"] - row["ttft_s"]) / (row["output_tokens"] - 1) for row in rows)
    quietest = tpots[len(tpots) // 100]  # alone for nearly all of its tokens
    context = rows[0]["input_tokens"] + 64
    host = Host(GAP_S, STEP_S, REQUEST_S, asynchronous=True)
    step, _, _ = roofline("Qwen/Qwen3-14B", "h100-sxm-80gb", host).decode_run(1, context, 0, 0, 0)
    assert step == pytest.approx(quietest, rel=0.05)


@pytest.mark.parametrize(
    ("chunk", "cached", "decode", "context", "tolerance"),
    [(0, 0, 1, 1024, 0.05), (0, 0, 64, 1024, 0.15), (0, 0, 256, 512, 0.15), (2048, 4096, 0, 0, 0.05)],
)
@pytest.mark.parametrize("profile", ["RTX4090", "RTXPRO6000"])
def test_a_step_of_llama_8b_takes_the_sum_of_its_profiled_kernels(
    shared: Path, profile: str, chunk: int, cached: int, decode: int, context: int, tolerance: float
) -> None:
    folder = shared / "profiles" / "llmservingsim" / profile / "meta-llama" / "Llama-3.1-8B" / "bf16" / "tp1"
    if not folder.is_dir():
        pytest.skip("the profile is not beside the repository")
    tokens, samples = chunk + decode, decode + (chunk > 0)
    dense = {(r["layer"], int(r["tokens"])): float(r["time_us"]) for r in table(folder / "dense.csv")}
    head = {
        (r["layer"], int(r["sequences"])): float(r["time_us"]) for r in table(folder / "per_sequence.csv")
    }
    mix = (str(chunk), str(cached), str(decode), str(context))
    (attention,) = (
        float(r["time_us"]) for r in table(folder / "attention.csv") if tuple(r.values())[:4] == mix
    )
    layer = attention + sum(times * dense[name, tokens] for name, times in BLOCK.items())
    total = 32 * layer + dense["embedding", tokens] + dense["final_layernorm", tokens]
    total += head["lm_head", samples] + head["sampler", samples]
    device = {"RTX4090": "rtx-4090", "RTXPRO6000": "rtx-pro-6000"}[profile]
    cost = roofline("meta-llama/Llama-3.1-8B", device, NO_HOST)
    chunks = [(chunk, cached)] if chunk else []
    step = cost.step_time(decode, decode * context, 0, 0, chunks, samples)
    assert step == pytest.approx(total * 1e-6, rel=tolerance)


def table(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))
