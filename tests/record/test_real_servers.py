"""Recordings of servers that nobody here wrote, and of our own endpoint: skipped where they are not
installed."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("aiohttp", reason="the extra 'record' is not installed")


ROOT = Path(__file__).resolve().parents[2]


def benchmark(name: str) -> ModuleType:
    """A module of ``benchmarks/``."""
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", ROOT / "benchmarks" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.skipif(importlib.util.find_spec("tokensim.serve") is None, reason="tokensim.serve is absent")
def test_what_is_simulated_served_and_recorded_is_what_was_simulated(tmp_path: Path) -> None:
    """The circle at light load. The machine that runs the tests may be busy, so the bounds are wide; what
    they catch is a part that counts, waits or schedules differently. ``benchmarks/circle.py`` measures the
    rest."""
    pytest.importorskip("fastapi", reason="the extra 'serve' is not installed")
    circle = benchmark("circle")
    scenario = {
        **circle.SCENARIO,
        "workload": {
            "arrivals": {"process": "poisson", "rate": 20},
            "input_tokens": {"distribution": "lognormal", "mean": 300, "cv": 0.5},
            "output_tokens": {"distribution": "fixed", "value": 40},
            "shared_prefix": {"groups": 2, "tokens": 128},
            "num_requests": 60,
        },
    }
    told, errors = circle.circle(scenario, tmp_path)
    assert told["requests"] == {"total": 60, "cancelled": 0, "ok": 60}
    assert told["server"]["num_gpu_blocks"] > 0
    case = [json.loads(line) for line in (tmp_path / "case" / "requests.jsonl").read_text().splitlines()]
    assert {row["output_tokens"] for row in case} == {40}
    assert all("hash_ids" in row for row in case)
    for metric in ("ttft", "tpot", "e2e"):
        measured, simulated = (errors[side][metric]["p50"] for side in ("measured", "simulated"))
        assert measured == pytest.approx(simulated, rel=0.5, abs=0.05)


@pytest.mark.skipif(
    shutil.which("llama-server") is None and importlib.util.find_spec("llama_cpp") is None,
    reason="neither llama-server nor llama-cpp-python is installed",
)
def test_a_real_engine_is_recorded_calibrated_on_and_predicted(tmp_path: Path) -> None:
    """The reduced benchmark runs to its table; how good the prediction is depends on the machine."""
    pytest.importorskip("gguf", reason="gguf, which writes the model, is not installed")
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "real_cpu.py"), "--quick", "--output", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    table = [line for line in done.stdout.splitlines() if line.startswith("| ")]
    assert [line.split(" | ")[0].removeprefix("| ") for line in table] == [
        "load",
        "low",
        "half (fitted)",
        "high",
        "closed",
        "saturated",
    ]
    for load in ("low", "half", "high", "closed", "saturated"):
        rows = [json.loads(line) for line in (tmp_path / load / "requests.jsonl").read_text().splitlines()]
        assert {row["output_tokens"] for row in rows} == {48}
        assert {row["input_tokens"] for row in rows} <= {192, 193}
