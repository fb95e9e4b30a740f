"""The commands ``capacity``, ``compare`` and ``sensitivity``: what they print, leave, and refuse."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
import yaml

from tokensim import cli

Command = Callable[..., tuple[int, str, str]]

SCENARIO = """
name: Small
model: meta-llama/Llama-3.1-8B
cluster: {pools: [{hardware: h100-sxm-80gb}]}
performance: {operators: builtin}
workload:
  arrivals: {process: poisson, rate: 10}
  input_tokens: 500
  output_tokens: 20
  num_requests: 60
slo: {ttft: 60ms, percentile: 90}
"""


@pytest.fixture
def tokensim(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    """Run the command line in a folder with a scenario and a study; gives (exit code, stdout, stderr)."""
    (tmp_path / "small.yaml").write_text(SCENARIO)
    (tmp_path / "free.yaml").write_text(SCENARIO.partition("slo:")[0])
    (tmp_path / "study.yaml").write_text(
        "name: Slots\nscenario: small.yaml\nparameters: {engine.max_num_seqs: [2, 64]}\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["tokensim", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return call


def test_capacity_states_what_it_found_and_what_it_covers(tokensim: Command) -> None:
    code, out, _ = tokensim("capacity", "small.yaml", "--seeds", "2", "--executor", "serial")
    assert code == 0
    assert "Capacity: " in out and "requests/s on average over 2 seeds" in out
    assert "TTFT p90" in out and "not the error of the model" in " ".join(out.split())
    assert "requests are too few" in out


def test_capacity_keeps_its_runs_and_goes_on_from_them(tokensim: Command, tmp_path: Path) -> None:
    command = ["capacity", "small.yaml", "--seeds", "1", "--executor", "serial", "-o", "out", "--json"]
    code, out, _ = tokensim(*command)
    first = json.loads(out)
    assert code == 0 and first["status"] == "found" and first["interval"] is None
    assert json.loads((tmp_path / "out" / "capacity.json").read_text()) == first
    code, _, err = tokensim(*command)
    assert code == 2 and "--resume" in err
    code, out, _ = tokensim(*command, "--resume")
    assert code == 0 and json.loads(out) == first


def test_capacity_of_a_study_is_a_table(tokensim: Command, tmp_path: Path) -> None:
    code, out, _ = tokensim("capacity", "study.yaml", "--seeds", "1", "--executor", "serial")
    assert code == 0
    assert "Slots" in out and "max_num_seqs" in out
    frame = pl.read_parquet(tmp_path / "runs" / "study-capacity" / "capacity.parquet")
    assert frame["engine.max_num_seqs"].to_list() == [2, 64]
    assert frame["capacity"][0] < frame["capacity"][1]
    data = yaml.safe_load((tmp_path / "runs" / "study-capacity" / "study.yaml").read_text())
    assert data["name"] == "Slots"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["capacity", "free.yaml"], "no SLO"),
        (["capacity", "none.yaml"], "no such file"),
        (["capacity", "small.yaml", "--tolerance", "some"], "--tolerance"),
        (["capacity", "small.yaml", "--load", "speed"], "--load"),
        (["capacity", "small.yaml", "--set", "model=nobody/knows"], "unknown model"),
        (["compare", "small.yaml"], "nothing to compare"),
        (["compare", "small.yaml", "none.yaml"], "no such file"),
        (["compare", "small.yaml", "."], "no summary.json"),
        (["compare", "small.yaml", "free.yaml", "--seeds", "0"], "--seeds"),
        (["sensitivity", "small.yaml", "--change", "0%"], "--change"),
        (["sensitivity", "free.yaml", "--at", "capacity"], "no SLO"),
        (["sensitivity", "small.yaml", "--pool", "serv"], "serve"),
    ],
)
def test_what_makes_no_sense_is_refused(tokensim: Command, arguments: list[str], said: str) -> None:
    code, out, err = tokensim(*arguments, "--executor", "serial")
    assert code == 2, err
    assert said in err and "Traceback" not in err
    assert out == ""


def test_compare_shows_what_differs_and_whether_it_is_real(tokensim: Command, tmp_path: Path) -> None:
    (tmp_path / "busy.yaml").write_text(SCENARIO.replace("rate: 10", "rate: 20"))
    arguments = ["compare", "small.yaml", "busy.yaml", "--executor", "serial", "--seeds", "3"]
    code, out, _ = tokensim(*arguments)
    assert code == 0
    assert "workload.arrivals.rate" in out and "real" in out and "Holm" in out
    code, out, _ = tokensim(*arguments, "--json")
    found = json.loads(out)
    assert found["differences"] == {"workload.arrivals.rate": {"small": 10.0, "busy": 20.0}}
    assert found["figures"]["latency.ttft_s.mean"]["against_first"]["busy"]["p"] < 0.05


def test_compare_of_single_runs_says_that_noise_is_unknown(tokensim: Command) -> None:
    assert tokensim("run", "small.yaml", "-o", "a", "-q")[0] == 0
    code, out, _ = tokensim("compare", "a", "a")
    assert code == 0
    assert "scenarios are the same" in out and "equal" in out and "--seeds 5" in out


def test_sensitivity_names_the_bottleneck(tokensim: Command) -> None:
    arguments = ["sensitivity", "small.yaml", "--seeds", "2", "--executor", "serial"]
    code, out, _ = tokensim(*arguments)
    assert code == 0
    assert "E2E p50 is bound by" in out and "memory bandwidth" in out and "█" in out
    assert "Without any effect" in out
    code, out, _ = tokensim(*arguments, "--json", "--change", "20%")
    found = json.loads(out)
    assert found["change"] == 0.2
    assert found["elasticities"]["bandwidth"]["TPOT p50"]["value"] < -0.5


def test_processes_find_what_one_finds_and_end_without_a_word(tokensim: Command, tmp_path: Path) -> None:
    source = str(Path(cli.__file__).resolve().parent.parent.parent)
    arguments = ["sensitivity", "small.yaml", "--seeds", "1", "--json"]
    program = "from tokensim.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments, "--jobs", "2"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": source},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0 and done.stderr == ""
    assert done.stdout == tokensim(*arguments, "--executor", "serial")[1]


def test_interrupted_searches_say_so(tokensim: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tokensim.explore.executors.serial.evaluate", stopped)
    for command in (["capacity"], ["capacity", "-o", "out"], ["sensitivity"]):
        code, _, err = tokensim(*command, "small.yaml", "--executor", "serial")
        assert code == 1 and "interrupted" in err
        assert ("--resume" in err) == ("-o" in command)
