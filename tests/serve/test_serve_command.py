"""``tokensim serve`` as a process: one line when it is ready, what it leaves, how it ends."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import pytest

from tokensim import cli
from tokensim.serve.server import _bind

SCENARIO = """\
model: meta-llama/Llama-3.1-8B
cluster: {pools: [{hardware: h100-sxm-80gb}]}
engine: {max_model_len: 4096, num_gpu_blocks: 2001}
performance: {operators: roofline}
"""


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    file = tmp_path / "scenario.yaml"
    file.write_text(SCENARIO)
    return file


def start(*arguments: str) -> tuple[subprocess.Popen[str], str]:
    """The process, once it is ready, and the line that it printed."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tokensim", "serve", *arguments, "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONUTF8": "1"},
    )
    assert process.stdout is not None
    return process, process.stdout.readline()


def url_of(line: str) -> str:
    found = re.search(r"http://\S+:\d+/v1", line)
    assert found, line
    return found[0]


def post(url: str, **body: Any) -> httpx.Response:
    return httpx.post(url + "/completions", json=body, timeout=30, trust_env=False)


def test_a_served_run_is_left_as_files_and_can_be_repeated_offline(scenario: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    process, line = start(str(scenario), "--time-scale", "10", "--output", str(folder))
    url = url_of(line)
    assert "Serving meta-llama/Llama-3.1-8B" in line and "10 times as fast" in line
    for number in range(12):
        assert post(url, prompt=[7] * (100 + number), max_tokens=20 + number).status_code == 200
    said: list[dict[str, str]] = []
    for number in range(3):  # a conversation, whose answers come back
        said.append({"role": "user", "content": f"Go on with part {number}, please, and say more of it."})
        asked = {"messages": said, "max_tokens": 60}
        headers = {"x-session-id": "17"}
        answer = httpx.post(url + "/chat/completions", json=asked, headers=headers, trust_env=False).json()
        said.append(answer["choices"][0]["message"])
    process.send_signal(signal.SIGTERM)
    told, _ = process.communicate(timeout=60)
    assert process.returncode == 0, told
    assert "15 writes" in told and str(folder) in told
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["requests"]["finished"] == 15
    live = pl.read_parquet(folder / "requests.parquet")
    assert live["output_tokens"].to_list() == [*range(20, 32), 60, 60, 60]
    assert live["cached_tokens"][0] == 0 and live["cached_tokens"][1:12].to_list() == 11 * [96]
    prompts, cached = live["input_tokens"].to_list(), live["cached_tokens"].to_list()
    assert cached[13] > prompts[12] and cached[14] > prompts[13], "answers were found in the cache"

    again = tmp_path / "again"
    command = [sys.executable, "-m", "tokensim", "run", str(folder / "scenario.yaml"), "-q", "-o", str(again)]
    subprocess.run(command, check=True, timeout=60)
    offline = pl.read_parquet(again / "requests.parquet")
    assert offline["cached_tokens"].to_list() == live["cached_tokens"].to_list()
    came = [json.loads(line) for line in (folder / "arrivals.jsonl").read_text().splitlines()]
    assert [row["session"] for row in came] == [*12 * [-1], 17, 17, 17]
    for name in ("ttft_s", "e2e_s"):  # arrivals of a trace are whole nanoseconds
        assert (offline[name] - live[name]).abs().max() < 1e-6  # type: ignore[operator]


def test_the_first_signal_lets_answers_end_and_refuses_new_ones(scenario: Path) -> None:
    process, line = start(str(scenario), "--time-scale", "1")
    url = url_of(line)
    answers: list[httpx.Response] = []
    thread = threading.Thread(target=lambda: answers.append(post(url, prompt="a", max_tokens=300)))
    thread.start()
    time.sleep(0.7)
    process.send_signal(signal.SIGINT)
    thread.join(30)
    process.communicate(timeout=30)
    assert process.returncode == 0
    assert answers[0].json()["usage"]["completion_tokens"] == 300


def test_the_second_signal_ends_at_once(scenario: Path) -> None:
    process, line = start(str(scenario), "--time-scale", "0.01")
    url = url_of(line)

    def ask() -> None:
        with pytest.raises(httpx.HTTPError):
            post(url, prompt="a", max_tokens=3000).raise_for_status()

    thread = threading.Thread(target=ask)
    thread.start()
    time.sleep(0.7)
    process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    assert process.poll() is None, "it drains"
    process.send_signal(signal.SIGTERM)
    told, _ = process.communicate(timeout=10)
    thread.join(10)
    assert process.returncode == 0, told


def refused(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str) -> str:
    monkeypatch.setattr(sys, "argv", ["tokensim", "serve", *arguments])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == cli.REFUSED
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--time-scale", "0"], "--time-scale"),
        (["--time-scale", "nan"], "--time-scale"),
        (["--drain", "soon"], "--drain"),
        (["--early-stops"], "--early-stops"),
        (["--tokenizer", "none.json"], "no such file"),
        (["--host", "192.0.2.1"], "192.0.2.1"),
        (["--set", "engine.max_num_seqz=3"], "max_num_seqs"),
    ],
)
def test_what_cannot_be_served_is_refused(
    scenario: Path,
    arguments: list[str],
    says: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert says in refused(capsys, monkeypatch, str(scenario), *arguments)


def test_a_port_that_somebody_listens_on_is_refused(
    scenario: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert f"127.0.0.1:{port}: Address already in use" in refused(
            capsys, monkeypatch, str(scenario), "--port", port
        )
    with closing(_bind("127.0.0.1", 0)) as other:  # of a second server that has only just started
        port = str(other.getsockname()[1])
        assert f"127.0.0.1:{port}: Address already in use" in refused(
            capsys, monkeypatch, str(scenario), "--port", port
        )


def test_without_the_extra_the_way_to_it_is_told(
    scenario: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "pip install 'tokensim[serve]'" in refused(capsys, monkeypatch, str(scenario))
