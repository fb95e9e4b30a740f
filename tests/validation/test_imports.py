"""Result files of load generators become cases: every format, open and closed loops, what is missing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tokensim import InputError
from tokensim.validation.case import read_case
from tokensim.validation.imports import Run, read_run, write_case

VLLM: dict[str, Any] = {
    "date": "20260102-030405",
    "backend": "vllm",
    "model_id": "meta-llama/Llama-3.1-8B",
    "request_rate": 2.0,
    "max_concurrency": None,
    "completed": 2,
    "total_input_tokens": 600,
    "request_throughput": 1.0,
    "input_lens": [100, 200, 300],
    "output_lens": [3, 2, 0],
    "ttfts": [0.1, 0.2, 0.0],
    "itls": [[0.05, 0.07], [0.1], []],
    "start_times": [10.0, 11.5, 12.0],
    "errors": ["", "", "boom"],
}


def aiperf(start: float, *, ttft: float = 50.0, phase: str = "profiling", **more: Any) -> dict[str, Any]:
    metadata = {"request_start_ns": int(start * 1e9), "benchmark_phase": phase, "was_cancelled": False}
    metadata.update(more.pop("metadata", {}))
    metrics = {
        "input_sequence_length": {"value": 550, "unit": "tokens"},
        "output_sequence_length": {"value": 9, "unit": "tokens"},
        "time_to_first_token": {"value": ttft, "unit": "ms"},
        "request_latency": {"value": 0.3, "unit": "s"},
    }
    return {"metadata": metadata, "metrics": metrics, "error": None, **more}


def guidellm(*requests: dict[str, Any], **strategy: Any) -> dict[str, Any]:
    return {
        "config": {"strategy": strategy},
        "requests": {"successful": list(requests), "errored": [{}], "incomplete": []},
        "metrics": {"request_totals": {"successful": len(requests)}},
    }


def guidellm_request(start: float, target: float | None = None) -> dict[str, Any]:
    return {
        "request_start_time": start,
        "request_latency": 2.0,
        "time_to_first_token_ms": 500.0,
        "prompt_tokens": 256,
        "output_tokens": 16,
        "info": {"timings": {"targeted_start": target}},
    }


def saved(folder: Path, *documents: Any, name: str = "result.json") -> Path:
    file = folder / name
    file.write_text("\n".join(json.dumps(document) for document in documents), encoding="utf-8")
    return file


def test_vllm_bench_serve(tmp_path: Path) -> None:
    run = read_run(saved(tmp_path, VLLM))
    assert (run.tool, run.model, run.max_in_flight, run.failed) == (
        "vllm bench serve",
        "meta-llama/Llama-3.1-8B",
        None,
        1,
    )
    first, second = run.requests
    assert first == pytest.approx((10.0, 10.0, 100, 3, 0.1, 0.22))
    assert second == pytest.approx((11.5, 11.5, 200, 2, 0.2, 0.3))


def test_vllm_says_how_long_the_client_held_a_request_back(tmp_path: Path) -> None:
    capped = {**VLLM, "max_concurrency": 4, "queue_times": [0.5, 0.0, 0.0], "latencies": [0.23, 0.31, 0]}
    run = read_run(saved(tmp_path, capped))
    assert run.max_in_flight == 4
    assert [r.arrival_s for r in run.requests] == [9.5, 11.5]
    assert [r.e2e_s for r in run.requests] == [0.23, 0.31]


def test_vllm_without_a_rate_sends_as_fast_as_the_cap_lets_it(tmp_path: Path) -> None:
    closed = {**VLLM, "max_concurrency": 1, "request_rate": "inf"}
    run = read_run(saved(tmp_path, closed))
    assert [r.arrival_s for r in run.requests] == [10.0, 10.0]
    assert run.notes == ()


def test_vllm_that_does_not_say_when_it_held_back_is_noted(tmp_path: Path) -> None:
    run = read_run(saved(tmp_path, {**VLLM, "max_concurrency": 4}))
    assert [r.arrival_s for r in run.requests] == [10.0, 11.5]
    assert "held back" in run.notes[0]


def test_vllm_without_details_is_refused(tmp_path: Path) -> None:
    sums = {key: value for key, value in VLLM.items() if key not in ("itls", "start_times")}
    with pytest.raises(InputError, match=r"no itls, start_times in it.*\n.*--save-detailed"):
        read_run(saved(tmp_path, sums))


def test_one_of_several_appended_runs_is_picked(tmp_path: Path) -> None:
    file = saved(tmp_path, VLLM, {**VLLM, "start_times": [20.0, 21.0, 22.0], "request_rate": 4.0})
    with pytest.raises(InputError, match=r"2 runs in it\n.*--run: 1: .* 2\.0 req/s; 2: .* 4\.0 req/s"):
        read_run(file)
    assert read_run(file, 2).requests[0].sent_s == 20.0
    with pytest.raises(InputError, match="no run 3"):
        read_run(file, 3)


def test_aiperf(tmp_path: Path) -> None:
    file = saved(
        tmp_path,
        aiperf(99.0, phase="warmup"),
        aiperf(100.0, metadata={"credit_issued_ns": int(99.9e9)}),
        aiperf(101.0, ttft=60.0),
        aiperf(102.0, error={"code": 500}),
        aiperf(103.0, metadata={"was_cancelled": True}),
        name="profile_export.jsonl",
    )
    run = read_run(file)
    assert run.tool == "AIPerf"
    assert run.failed == 2
    assert run.requests[0] == pytest.approx((99.9, 100.0, 550, 9, 0.05, 0.3))
    assert run.requests[1].arrival_s == 101.0
    assert "--max-in-flight" in run.notes[0]


@pytest.mark.parametrize(("rate", "arrivals"), [(None, [100.0, 100.0]), (5.0, [100.0, 101.0])])
def test_aiperf_with_a_concurrency_alone_is_a_closed_loop(
    tmp_path: Path, rate: float | None, arrivals: list[float]
) -> None:
    file = saved(tmp_path, aiperf(100.0), aiperf(101.0), name="profile_export.jsonl")
    load = {"concurrency": 8, "request_rate": rate}
    config = {"input_config": {"loadgen": load, "endpoint": {"model_names": ["a/model"]}}}
    saved(tmp_path, config, name="profile_export_aiperf.json")
    run = read_run(file)
    assert (run.max_in_flight, run.model, run.notes) == (8, "a/model", ())
    assert [r.arrival_s for r in run.requests] == arrivals


def test_aiperf_without_streaming_is_refused(tmp_path: Path) -> None:
    record = aiperf(1.0)
    del record["metrics"]["time_to_first_token"]
    with pytest.raises(InputError, match="--streaming"):
        read_run(saved(tmp_path, record))


@pytest.mark.parametrize(
    ("strategy", "arrivals", "cap"),
    [
        ({"type_": "poisson", "rate": 2.0}, [4.0, 6.0], None),
        ({"type_": "constant", "rate": 2.0, "max_concurrency": 9}, [4.0, 6.0], 9),
        ({"type_": "concurrent", "streams": 3}, [5.0, 5.0], 3),
        ({"type_": "synchronous"}, [5.0, 5.0], 1),
        ({"type_": "throughput", "max_concurrency": 128}, [5.0, 5.0], 128),
    ],
)
def test_guidellm(tmp_path: Path, strategy: dict[str, Any], arrivals: list[float], cap: int | None) -> None:
    benchmark = guidellm(guidellm_request(5.0, 4.0), guidellm_request(6.0), **strategy)
    run = read_run(saved(tmp_path, {"args": {"model": "m"}, "benchmarks": [benchmark]}))
    assert (run.tool, run.model, run.max_in_flight, run.failed) == ("GuideLLM", "m", cap, 1)
    assert [r.arrival_s for r in run.requests] == arrivals
    assert run.requests[0][1:] == (5.0, 256, 16, 0.5, 2.0)


def test_guidellm_before_0_4(tmp_path: Path) -> None:
    request = {
        "start_time": 5.0,
        "end_time": 7.5,
        "time_to_first_token_ms": 500.0,
        "prompt_tokens": 256,
        "output_tokens": 16,
        "scheduler_info": {"targeted_start_time": 4.5},
    }
    benchmark = {
        "args": {"strategy": {"type_": "constant", "rate": 1.0}},
        "worker": {"backend_model": "old"},
        "requests": {"successful": [request], "errored": [], "incomplete": []},
    }
    run = read_run(saved(tmp_path, {"benchmarks": [benchmark]}))
    assert run.model == "old"
    assert run.requests == [(4.5, 5.0, 256, 16, 0.5, 2.5)]


def test_a_sweep_of_guidellm_names_its_benchmarks(tmp_path: Path) -> None:
    sweep = [guidellm(guidellm_request(1.0), type_="constant", rate=r) for r in (1.0, 2.5)]
    with pytest.raises(InputError, match=r"1: constant 1; 2: constant 2\.5"):
        read_run(saved(tmp_path, {"benchmarks": sweep}))


def test_a_sample_of_guidellm_is_refused(tmp_path: Path) -> None:
    benchmark = guidellm(guidellm_request(1.0), type_="constant")
    benchmark["metrics"]["request_totals"]["successful"] = 50
    with pytest.raises(InputError, match="1 requests in it, of 50 that were made"):
        read_run(saved(tmp_path, {"benchmarks": [benchmark]}))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "not a result file of a known"),
        ("[1, 2]", "not a result file of a known"),
        ("", "the file is empty"),
        ("not json", "not JSON"),
        ('{"a": 1}\nnot json', "not JSON"),
    ],
)
def test_what_no_format_knows_is_refused(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "x.json"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        read_run(file)


def test_a_run_without_a_request_that_succeeded_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no request of it succeeded \(3 failed\)"):
        read_run(saved(tmp_path, {**VLLM, "errors": ["a", "b", "c"]}))


def test_a_written_case_is_read_back_with_times_from_the_first_arrival(tmp_path: Path) -> None:
    run = read_run(saved(tmp_path, {**VLLM, "max_concurrency": 4, "queue_times": [0.5, 0.0, 0.0]}))
    scenario = {"model": run.model, "cluster": {"pools": [{"hardware": "h100-sxm-80gb"}]}}
    folder = tmp_path / "case"
    write_case(folder, run, scenario, name="mine", source="a run")
    case = read_case(folder)
    assert (case.name, case.facts.anchor, case.facts.client.max_in_flight) == ("mine", "client-send", 4)
    assert case.measured.arrival_s.tolist() == [0.0, 2.0]
    assert case.measured.anchor_s.tolist() == [0.5, 2.0]
    assert case.measured.e2e_s.tolist() == pytest.approx([0.22, 0.3])
    assert case.facts.notes == ["1 requests failed or have no times; the replay leaves them out"]
    with pytest.raises(InputError, match="there is a case in it already"):
        write_case(folder, run, scenario, name="mine", source="a run")
    write_case(folder, run, scenario, name="other", source="a run", max_in_flight=7, force=True)
    assert read_case(folder).facts.client.max_in_flight == 7


def test_requests_are_written_in_order_of_arrival(tmp_path: Path) -> None:
    found = read_run(saved(tmp_path, VLLM))
    backwards = Run(found.tool, found.model, None, found.requests[::-1], 0)
    write_case(tmp_path / "case", backwards, {}, name="mine", source="")
    lines = (tmp_path / "case" / "requests.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["arrival_s"] for line in lines] == [0.0, 1.5]
