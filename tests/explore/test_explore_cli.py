"""``tokensim sweep``, ``optimize`` and ``schema --study`` as people use them."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from tokensim import cli
from tokensim.cli.interrupt import Interrupt
from tokensim.explore.study import Study
from tokensim.explore.terminal import short_names, shown

Command = Callable[..., tuple[int, str, str]]
STUDIES = Path(__file__).resolve().parents[2] / "studies"

BASE = """\
model: meta-llama/Llama-3.1-8B
performance: {operators: builtin}
cluster: {pools: [{name: serve, hardware: h100-sxm-80gb}]}
workload: {arrivals: {process: poisson, rate: 5}, input_tokens: 100, output_tokens: 10, num_requests: 20}
slo: {ttft: 500ms}
"""


@pytest.fixture
def tokensim(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    """Run the command line in a folder with ``base.yaml``, 80 columns wide; (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    (tmp_path / "base.yaml").write_text(BASE)

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["tokensim", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return call


def written(text: str) -> str:
    Path("study.yaml").write_text(f"scenario: base.yaml\n{text}")
    return "study.yaml"


@pytest.mark.parametrize("file", sorted(STUDIES.glob("*.yaml")), ids=lambda file: file.stem)
def test_the_studies_that_come_along_are_valid(file: Path) -> None:
    assert Study.from_yaml(file).file.name


def test_a_sweep_prints_its_points_within_the_terminal(tokensim: Command) -> None:
    study = written(
        "name: Many [of them]\n"
        "parameters:\n"
        "  engine.max_num_seqs: [16]\n"
        "  cluster.pools[0].parallel.tensor: [1, 3]\n"
        "  workload.input_tokens: [100, 200]\n"
        "  performance.operators: [builtin, roofline]\n"
        "  engine.gpu_memory_utilization: [0.8, 0.9]\n"
        "  engine.max_num_batched_tokens: [2048, 4096]\n"
    )
    code, out, err = tokensim("sweep", study, "--executor", "serial")
    assert (code, err) == (1, "")  # the heads do not divide by 3
    assert "Many [of them]: 32 of 32 points (16 ok, 16 refused)" in out
    assert "Everywhere: max_num_seqs 16" in out
    table = out[out.index("point ") : out.index("Too narrow")].splitlines()
    assert max(map(len, table)) <= 80 and len(table) == 33
    assert "TPOT p99" in table[0] and "tensor" in table[0]
    assert "max_num_batched_tokens: results.parquet has them" in out
    assert "refused (point 16 and 15 more): cluster.pools[0].parallel.tensor: 3 does not divide" in out
    assert len(pl.read_parquet("runs/study/results.parquet")) == 32


def test_a_search_prints_the_best_and_what_became_of_the_rest(tokensim: Command) -> None:
    study = written(
        "goals: [{minimize: cost}, {minimize: tpot}]\n"
        "parameters:\n"
        "  cluster.pools[0].parallel.tensor: [1, 2, 3]\n"
    )
    code, out, err = tokensim("optimize", study, "--executor", "serial", "-o", "out")
    assert (code, err) == (0, "")
    assert "Looked at 3 of 3 configurations; 2 were run in full" in out
    assert "1 not possible" in out
    assert [line.split()[0] for line in out.split("tensor", 1)[1].splitlines()[1:3]] == ["1", "2"]
    code, _, err = tokensim("optimize", study, "--executor", "serial", "-o", "out")
    assert code == 2 and "--resume" in err


def test_a_search_that_finds_nothing_says_so(tokensim: Command) -> None:
    study = written("goals: [{minimize: cost}]\nparameters: {engine.max_num_seqs: [1]}\n")
    code, out, _ = tokensim("optimize", study, "--executor", "serial", "--set", "slo.ttft=1us")
    assert code == 1 and "Nothing that was looked at keeps what is required" in out


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("parameters: {engine.max_num_seqs: [1]}", "goals: [{minimize: cost}]"),
        ("parameters: {engine.max_num_seqs: [1]}\ngoals: [{minimize: costs}]", "did you mean 'cost'"),
        ("parameters: {engine.max_num_seq: [1]}\ngoals: [{minimize: cost}]", "max_num_seqs"),
    ],
)
def test_what_cannot_be_searched_is_refused(tokensim: Command, text: str, told: str) -> None:
    code, out, err = tokensim("optimize", written(text), "--executor", "serial")
    assert (code, out) == (2, "") and told in err
    assert not Path("runs").exists()


def test_the_schema_of_a_study_knows_its_keys(tokensim: Command) -> None:
    code, out, _ = tokensim("schema", "--study")
    schema = json.loads(out)
    assert code == 0 and {"scenario", "parameters", "goals", "subject_to"} <= schema["properties"].keys()
    for key in schema["properties"].values():
        assert key.get("description")


def test_one_interrupt_lets_the_run_that_ends_next_be_kept(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(BASE)
    rates = ", ".join(str(rate) for rate in range(1, 400))
    (tmp_path / "study.yaml").write_text(
        f"scenario: base.yaml\nparameters: {{workload.arrivals.rate: [{rates}]}}\n"
    )
    command = [sys.executable, "-m", "tokensim", "sweep", "study.yaml", "-o", "out", "--jobs", "1"]
    process = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ}
    )
    while process.poll() is None and kept(tmp_path / "out") < 2:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert err == "error: interrupted; --resume goes on from here\n"
    done = len(pl.read_parquet(tmp_path / "out" / "results.parquet"))
    assert 2 <= done < 399 and f"{done} of 399 points ({done} ok)" in out


def kept(folder: Path) -> int:
    """Outcomes in the store, as another process sees them."""
    if not (folder / "points.sqlite").exists():
        return 0
    base = sqlite3.connect(folder / "points.sqlite", timeout=10)
    try:
        return int(base.execute("SELECT COUNT(*) FROM outcomes").fetchone()[0])
    except sqlite3.OperationalError:  # not made yet
        return 0
    finally:
        base.close()


def test_an_interrupt_is_taken_between_two_points_and_not_after_the_last() -> None:
    with Interrupt() as interrupt:
        report = interrupt.between(None)
        report(1, 0, 3)
        os.kill(os.getpid(), signal.SIGINT)
        report(3, 0, 3)
        with pytest.raises(KeyboardInterrupt):
            report(2, 0, 3)


def test_titles_are_as_short_as_they_can_be() -> None:
    names = ["a.rate", "engine.block_size", "memory.block_size", "split"]
    assert short_names(names) == ["rate", "engine.block_size", "memory.block_size", "split"]


def test_figures_are_told_with_their_unit() -> None:
    assert shown(0.5, "latency.ttft_s.p99") == "500 ms"
    assert shown(1234.5, "throughput.output_tokens_per_s") == "1,234"
    assert shown(None) == "-"
