"""``tokensim record`` as a whole: from a server to a case that validate and calibrate take."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pytest
import yaml
from fake_server import Behaviour, FakeServer, page, running

from case_files import scenario_tree
from tokensim.cli import main
from tokensim.validation.case import read_case

pytest.importorskip("aiohttp", reason="the extra 'record' is not installed")

Command = Callable[..., tuple[int, str, str]]
LOAD = (
    "--rate",
    "200",
    "--num-requests",
    "12",
    "--input-tokens",
    "40",
    "--output-tokens",
    "8",
    "--seed",
    "3",
)


@pytest.fixture
def tokensim(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """The command line, in this process."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["tokensim", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return run


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with running(Behaviour(first_s=0.03)) as server:
        yield server


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    file = tmp_path / "scenario.yaml"
    file.write_text(yaml.safe_dump({**scenario_tree(), "workload": {}}), encoding="utf-8")
    return file


def test_a_recording_is_a_case_that_validate_takes(
    tokensim: Command, server: FakeServer, scenario: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "a-case"
    code, out, err = tokensim("record", server.url, "-s", scenario, *LOAD, "-o", folder)
    assert (code, err) == (0, "")
    assert "12 of 12 requests answered" in out
    assert re.search(r"TTFT +\d", out) and re.search(r"recorder +sent late by p50", out)
    assert max(map(len, out.splitlines())) <= 200
    case = read_case(folder)
    assert case.facts.server is not None and case.facts.server.num_gpu_blocks == 2588
    assert case.facts.scenario["engine"]["num_gpu_blocks"] == 2588
    assert case.facts.scenario["engine"]["max_num_seqs"] == 64
    assert len(case.measured.ttft_s) == 12
    assert case.measured.input_tokens.tolist() == [40] * 12
    tokens = pl.read_parquet(folder / "tokens.parquet")
    sums = tokens.group_by("request", maintain_order=True).agg(pl.col("tokens").sum(), pl.col("time_s").max())
    assert sums["tokens"].to_list() == [8] * 12
    assert sums["time_s"].to_list() == pytest.approx(case.measured.e2e_s.tolist(), abs=2e-6)
    html = tmp_path / "page.html"
    code, out, _ = tokensim("validate", folder, "--html", html, "--json", tmp_path / "e.json")
    assert code == 0
    text = html.read_text(encoding="utf-8")
    for title in ("Requests in flight", "Output tokens/s", "Running requests", "KV cache in use"):
        assert re.search(rf'"title": ?"{re.escape(title)}', text)
    assert not re.search(r"\bNaN\b", text.partition('type="application/json"')[2].partition("</script>")[0])


def test_the_same_figures_for_a_program(tokensim: Command, server: FakeServer, tmp_path: Path) -> None:
    code, out, _ = tokensim("record", server.url, *LOAD, "-o", tmp_path / "case", "--json", "-")
    assert code == 0
    (told,) = json.loads(out)["recordings"]
    assert told["complete"] and told["requests"] == {"total": 12, "cancelled": 0, "ok": 12}
    assert set(told["latency_s"]) == {"ttft", "tpot", "itl", "end_to_end", "connect"}
    assert told["latency_s"]["ttft"]["p50"] >= 0.03
    assert told["server"]["version"] == "0.33.0"


def test_a_case_without_hardware_says_what_is_missing(
    tokensim: Command, server: FakeServer, tmp_path: Path
) -> None:
    assert tokensim("record", server.url, *LOAD, "-o", tmp_path / "case", "-q")[0] == 0
    code, _, err = tokensim("validate", tmp_path / "case")
    assert code == 2
    assert "cluster" in err


def test_repeats_are_cases_of_one_folder(tokensim: Command, server: FakeServer, tmp_path: Path) -> None:
    folder = tmp_path / "many"
    code, _, _ = tokensim("record", server.url, *LOAD, "-o", folder, "--repeat", "2")
    assert code == 0
    assert [read_case(folder / n).name for n in ("1", "2")] == ["many 1", "many 2"]
    code, _, err = tokensim("record", server.url, *LOAD, "-o", folder, "--repeat", "2")
    assert code == 2 and "there is a case in it already" in err
    assert tokensim("record", server.url, *LOAD, "-o", folder, "--repeat", "2", "--force", "-q")[0] == 0


def test_a_closed_loop_is_replayed_as_one(
    tokensim: Command, server: FakeServer, scenario: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "case"
    load = ("--num-requests", 9, "--input-tokens", 40, "--output-tokens", 8, "--concurrency", 3)
    code, _, err = tokensim("record", server.url, "-s", scenario, *load, "--think-time", "10ms", "-o", folder)
    assert (code, err) == (0, "")
    rows = [json.loads(line) for line in (folder / "requests.jsonl").read_text().splitlines()]
    assert sum(row["after"] == "" for row in rows) == 3
    assert {row["arrival_s"] for row in rows} == {0.0}
    assert {row["delay_s"] for row in rows if row["after"]} == {0.01}
    assert server.most_running == 3
    assert read_case(folder).facts.client.sessions
    assert tokensim("validate", folder, "-q")[0] == 0


def test_shared_prompts_are_sent_and_told(
    tokensim: Command, server: FakeServer, scenario: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "case"
    prefix = "workload.shared_prefix={groups: 1, tokens: 64}"
    code, _, err = tokensim("record", server.url, "-s", scenario, *LOAD, "-o", folder, "--set", prefix)
    assert (code, err) == (0, "")
    sent = [body["prompt"] for body in server.bodies[2:]]
    assert all(prompt[:64] == sent[0][:64] for prompt in sent)
    assert len({tuple(prompt[64:]) for prompt in sent}) == 12
    rows = [json.loads(line) for line in (folder / "requests.jsonl").read_text().splitlines()]
    assert all(row["hash_ids"][:4] == rows[0]["hash_ids"][:4] for row in rows)
    assert tokensim("validate", folder, "-q")[0] == 0


def test_sessions_are_recorded_with_who_waits_for_whom(
    tokensim: Command, server: FakeServer, scenario: Path, tmp_path: Path
) -> None:
    workload = tmp_path / "workload.yaml"
    workload.write_text(
        "arrivals: {process: poisson, rate: 50}\ninput_tokens: 32\noutput_tokens: 16\n"
        "sessions: {count: 3, rounds: 3, think_time: 20ms}\n"
    )
    folder = tmp_path / "case"
    code, _, err = tokensim("record", server.url, "-s", scenario, "--workload", workload, "-o", folder)
    assert (code, err) == (0, "")
    lines = (folder / "requests.jsonl").read_text().splitlines()
    rows = {row["request_id"]: row for row in map(json.loads, lines)}
    for row in rows.values():
        if row["after"]:
            above = rows[row["after"]]
            assert row["sent_s"] >= above["sent_s"] + above["e2e_s"] + row["delay_s"] - 1e-3
            assert row["input_tokens"] == above["input_tokens"] + 16 + 32
    assert tokensim("validate", folder, "-q")[0] == 0


def test_rounds_of_text_share_in_the_case_what_they_share_at_the_server(
    tokensim: Command, scenario: Path, tmp_path: Path
) -> None:
    """Words are not tokens, and every turn of a chat brings some of its own."""
    workload = tmp_path / "workload.yaml"
    workload.write_text(
        "arrivals: {process: poisson, rate: 50}\ninput_tokens: 100\noutput_tokens: 16\n"
        "sessions: {count: 3, rounds: 3, think_time: 10ms}\nshared_prefix: {groups: 1, tokens: 200}\n"
    )
    folder = tmp_path / "case"
    with running(Behaviour(first_s=0.0, every_s=0.001, chat_only=True, words_per_token=0.7)) as server:
        code, _, err = tokensim("record", server.url, "-s", scenario, "--workload", workload, "-o", folder)
    assert (code, err) == (0, "")
    lines = (folder / "requests.jsonl").read_text().splitlines()
    rows = {row["request_id"]: row for row in map(json.loads, lines)}
    assert sum(bool(row["after"]) for row in rows.values()) == 6
    for row in rows.values():
        above = rows.get(row["after"])
        whole = [] if above is None else above["hash_ids"]
        assert row["hash_ids"][: len(whole)] == whole
        assert len(row["hash_ids"]) == row["input_tokens"] // 16
    begins = {tuple(row["hash_ids"][: 190 // 16]) for row in rows.values()}
    assert len(begins) == 1


def test_failures_are_exit_code_1_and_kept(tokensim: Command, tmp_path: Path) -> None:
    calls = iter(range(100))

    async def sometimes(server: FakeServer, body: object, writer: object) -> None:
        if next(calls) % 2:
            await server.answer(body, writer)  # type: ignore[arg-type]
        else:
            await page(writer, 503, "starting", "Connection: close\r\n")  # type: ignore[arg-type]

    folder = tmp_path / "case"
    with running(Behaviour(stream=sometimes)) as server:
        code, out, err = tokensim("record", server.url, *LOAD, "-o", folder)
    assert code == 1
    assert "error: the recording is not complete" in err
    assert "6 of 12 requests answered" in out
    assert len(read_case(folder).measured.ttft_s) == 6
    failures = [json.loads(line) for line in (folder / "failures.jsonl").read_text().splitlines()]
    assert [failure["status"] for failure in failures] == ["refused"] * 6


def test_no_success_at_all_leaves_no_case(tokensim: Command, tmp_path: Path) -> None:
    async def never(server: FakeServer, body: object, writer: object) -> None:
        return

    with running(Behaviour(stream=never)) as server:
        code, _, err = tokensim("record", server.url, *LOAD, "-o", tmp_path / "case")
    assert code == 1
    assert "no request of 12 succeeded" in err
    assert [file.name for file in (tmp_path / "case").iterdir()] == ["failures.jsonl"]


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT to another process")
def test_ctrl_c_writes_what_is_there(tmp_path: Path) -> None:
    folder = tmp_path / "case"
    load = ["--rate", "50", "--num-requests", "5000", "--input-tokens", "40", "--output-tokens", "2"]
    with running(Behaviour(first_s=0.0)) as server:
        process = subprocess.Popen(
            [sys.executable, "-m", "tokensim", "record", server.url, *load, "-o", str(folder)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        while len(server.bodies) < 20 and process.poll() is None:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 1, err
    assert "PARTIAL" in out
    assert 10 < len(read_case(folder).measured.ttft_s) < 4000
    assert any(note.startswith("PARTIAL") for note in read_case(folder).facts.notes)


async def ctrl_c_while_asked(server: FakeServer, body: object, writer: object) -> None:
    """It gives no answer, and the first time that it is here somebody presses Ctrl-C."""
    if len(server.bodies) == server.behaviour.spared + 1:
        os.kill(os.getpid(), signal.SIGINT)
    await asyncio.sleep(60)


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT to a process")
@pytest.mark.parametrize("spared", [0, 2], ids=["trial", "warm-up"])
def test_ctrl_c_before_the_load_ends_it_at_once_with_nothing(
    tokensim: Command, tmp_path: Path, spared: int
) -> None:
    folder = tmp_path / "case"
    with running(Behaviour(stream=ctrl_c_while_asked, spared=spared)) as server:
        load = (*LOAD, "--warmup", "1", "--timeout", "20", "-o", folder)
        began = time.monotonic()
        code, out, err = tokensim("record", server.url, *load)
    assert time.monotonic() - began < 15  # it does not wait for the answer
    assert (code, err) == (1, "error: interrupted before anything was measured\n")
    assert "TTFT" not in out and not folder.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT to a process")
def test_ctrl_c_before_the_first_answer_prints_no_figures(tokensim: Command, tmp_path: Path) -> None:
    with running(Behaviour(stream=ctrl_c_while_asked)) as server:
        load = ("--rate", "1", "--num-requests", "3", "--input-tokens", "9", "--output-tokens", "2")
        code, out, err = tokensim("record", server.url, *load, "-o", tmp_path / "case")
    assert code == 1 and "no request of 3 succeeded" in err
    assert "PARTIAL" in out and "0 of 3 requests answered" in out
    assert "TTFT" not in out and "throughput" not in out


SERVED = (
    {"id": "prod", "root": "meta-llama/Llama-3.1-8B", "parent": None},
    {"id": "adapter-0", "root": "/adapters/0", "parent": "prod"},
)


@pytest.mark.parametrize(
    ("models", "asked", "model", "noted"),
    [
        (SERVED, (), "meta-llama/Llama-3.1-8B", None),
        (
            SERVED,
            ("--model", "adapter-0"),
            "meta-llama/Llama-3.1-8B",
            "adapter-0 is an adapter of",
        ),
        (({"id": "Qwen/Qwen3-8B", "root": "/weights/qwen"},), (), "Qwen/Qwen3-8B", None),
        (({"id": "prod", "root": "/weights/own"},), (), "prod", "no model 'prod' is known.*--set model=ID"),
        (({"id": "prod", "root": 7, "parent": ["x"]},), (), "prod", "no model 'prod' is known here"),
        (SERVED, ("--set", "model=Qwen/Qwen3-8B"), "Qwen/Qwen3-8B", None),
    ],
)
def test_a_case_has_the_model_behind_the_servers_name_for_it(
    tokensim: Command,
    tmp_path: Path,
    models: tuple[dict[str, object], ...],
    asked: tuple[str, ...],
    model: str,
    noted: str | None,
) -> None:
    folder = tmp_path / "case"
    load = (*LOAD, *asked, "--hardware", "h100-sxm-80gb", "-o", folder)
    with running(Behaviour(models=models)) as server:
        code, out, err = tokensim("record", server.url, *load)
    assert (code, err) == (0, "")
    facts = read_case(folder).facts
    assert facts.scenario["model"] == model
    told = [note for note in facts.notes if "adapter" in note or "known here" in note]
    if noted is None:
        assert not told
    else:
        assert len(told) == 1 and re.match(noted, told[0])
        assert " ".join(told[0].split()[:3]) in out
    assert tokensim("validate", folder, "-q")[0] == (2 if model == "prod" else 0)


def test_metrics_that_are_not_there_are_told_once(
    tokensim: Command, server: FakeServer, tmp_path: Path
) -> None:
    folder = tmp_path / "case"
    code, out, _ = tokensim("record", server.url, *LOAD, "--metrics-path", "/nometrics", "-o", folder)
    assert code == 0
    assert out.count("no known metrics at /nometrics") == 1
    assert re.search(r"metrics +0 polls, [1-9]", out)
    assert sum("no known metrics at /nometrics" in note for note in read_case(folder).facts.notes) == 1
    assert not (folder / "server.parquet").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "no workload is given"),
        (("--rate", "x"), "'x' is not a rate"),
        (("--rate", "1"), "workload: input_tokens is missing"),
        ((*LOAD, "--endpoint", "completion"), "did you mean 'completions'"),
        ((*LOAD, "--prompts", "ids", "--endpoint", "chat"), "a chat takes no token ids"),
        ((*LOAD, "--think-time", "1s"), "only a closed loop has pauses"),
        ((*LOAD, "--concurrency", "2"), "a closed loop has no rate"),
        ((*LOAD, "--header", "nothing"), "not a header"),
        ((*LOAD, "--extra-body", "[1]"), "not an object"),
        ((*LOAD, "--tokenizer", "absent.json"), "not a tokenizer"),
        ((*LOAD, "--flavour", "sglan"), "sglang"),
        ((*LOAD, "--set", "workload.priorities=[1, 1]"), "priorities are not sent"),
        ((*LOAD, "--hardware", "h100-sxm-80g"), "did you mean 'h100-sxm-80gb'"),
        ((*LOAD, "--set", "model=meta-llama/Llama-3.1-9B"), "did you mean 'meta-llama/Llama-3.1-8B'"),
        ((*LOAD, "--set", "engine.max_num_seqs=many"), "must be a whole number"),
    ],
)
def test_what_cannot_be_is_refused(
    tokensim: Command, server: FakeServer, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    code, _, err = tokensim("record", server.url, "-o", tmp_path / "case", *arguments)
    assert code == 2, err
    assert said in err
    assert not (tmp_path / "case").exists()
    assert not [body for body in server.bodies if body["max_tokens"] == 8]


@pytest.mark.parametrize("inside", ["", "further/down"])
def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_sent(
    tokensim: Command, server: FakeServer, tmp_path: Path, inside: str
) -> None:
    (tmp_path / "file").write_text("")
    code, _, err = tokensim("record", server.url, *LOAD, "-o", tmp_path / "file" / inside)
    assert code == 2
    assert "cannot be written to" in err or "is a file" in err
    assert not server.paths


def test_the_key_may_stand_in_the_environment(
    tokensim: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(Behaviour(key="secret")) as server:
        assert tokensim("record", server.url, *LOAD, "-o", tmp_path / "case", "-q")[0] == 2
        monkeypatch.setenv("TOKENSIM_API_KEY", "secret")
        assert tokensim("record", server.url, *LOAD, "-o", tmp_path / "case", "-q")[0] == 0
    assert "secret" not in (tmp_path / "case" / "case.yaml").read_text()
