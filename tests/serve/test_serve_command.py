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
from urllib.parse import urlsplit

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


def test_what_happens_at_a_time_of_its_own_finds_the_same_requests_offline(tmp_path: Path) -> None:
    file, folder, again = tmp_path / "scenario.yaml", tmp_path / "run", tmp_path / "again"
    pools = "pools: [{name: serve, hardware: h100-sxm-80gb, replicas: 2}]"
    failures = "failures: [{pool: serve, at: 6s, recovery: 1s}]"
    file.write_text(SCENARIO.replace("pools: [{hardware: h100-sxm-80gb}]", f"{pools}, {failures}"))
    process, line = start(str(file), "--time-scale", "4", "--output", str(folder))
    time.sleep(0.3)  # 1.2 simulated seconds: the first request does not come at 0
    asked = [
        threading.Thread(target=post, args=(url_of(line),), kwargs={"prompt": "a", "max_tokens": 1500})
        for _ in range(6)
    ]
    for thread in asked:
        thread.start()
    for thread in asked:
        thread.join(30)
    process.send_signal(signal.SIGTERM)
    told, _ = process.communicate(timeout=60)
    assert process.returncode == 0, told
    command = [sys.executable, "-m", "tokensim", "run", str(folder / "scenario.yaml"), "-q", "-o", str(again)]
    subprocess.run(command, check=True, timeout=60)
    live, offline = (pl.read_parquet(one / "requests.parquet") for one in (folder, again))
    assert live["arrival_s"][0] > 1.0
    assert live["retries"].sum() > 0, "some were moved"
    assert offline["retries"].to_list() == live["retries"].to_list()
    for name in ("arrival_s", "first_token_s", "finish_s"):
        assert (offline[name] - live[name]).abs().max() < 2e-9  # type: ignore[operator]


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


@pytest.mark.parametrize(("drain", "signals"), [("30s", 2), ("0s", 1), ("0.3s", 1)])
def test_answers_that_the_end_of_the_server_cuts_off_are_told_so(
    scenario: Path, drain: str, signals: int
) -> None:
    process, line = start(str(scenario), "--time-scale", "0.05", "--drain", drain)
    url = url_of(line)
    answers: dict[bool, httpx.Response] = {}

    def ask(stream: bool) -> None:
        answers[stream] = post(url, prompt="a", max_tokens=3000, stream=stream)

    threads = [threading.Thread(target=ask, args=(stream,)) for stream in (False, True)]
    for thread in threads:
        thread.start()
    time.sleep(0.7)
    where = urlsplit(url)
    with socket.create_connection((where.hostname, where.port)) as slow:  # of its body nothing has come
        slow.sendall(b"POST /v1/completions HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\n")
        for number in range(signals):
            if number:
                time.sleep(0.3)
                assert process.poll() is None, "it drains"
            process.send_signal(signal.SIGTERM)
        told, _ = process.communicate(timeout=20)
    for thread in threads:
        thread.join(10)
    assert process.returncode == 0, told
    assert "Traceback" not in told and "rror" not in told, told
    assert answers[False].status_code == 503
    assert answers[False].json()["error"]["type"] == "ServiceUnavailableError"
    assert answers[True].status_code == 200
    *_, last, done = [line for line in answers[True].text.split("\n") if line]
    assert "shut down" in json.loads(last.removeprefix("data: "))["error"]["message"]
    assert done == "data: [DONE]"


def test_no_signal_interrupts_the_writing_of_the_files(scenario: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    process, line = start(str(scenario), "--time-scale", "10", "--output", str(folder))
    assert post(url_of(line), prompt="a", max_tokens=20).status_code == 200
    while process.poll() is None:
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)
        time.sleep(0.003)
    told, _ = process.communicate()
    assert process.returncode == 0, told
    assert f"Files: {folder}" in told
    assert json.loads((folder / "summary.json").read_text())["requests"]["finished"] == 1
    assert not list(folder.glob(".*.partial"))


def refused(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str) -> str:
    monkeypatch.setattr(sys, "argv", ["tokensim", "serve", *arguments])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == cli.REFUSED
    told = capsys.readouterr()
    assert not told.out, "nothing else is said"
    return told.err


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
    output = scenario.parent / "run"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        told = refused(capsys, monkeypatch, str(scenario), "--port", port, "--output", str(output))
        assert f"127.0.0.1:{port}: Address already in use" in told
        assert not output.exists()
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
