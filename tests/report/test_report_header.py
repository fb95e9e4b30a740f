from __future__ import annotations

from typing import Any

from tokensim.report.header import header_of
from tokensim.scenario.schema import Scenario


def _scenario(**changes: Any) -> Scenario:
    tree = {
        "model": "meta-llama/Llama-3.1-8B",
        "cluster": {"pools": [{"hardware": "h100-sxm-80gb"}]},
        "workload": {
            "arrivals": {"process": "poisson", "rate": 20},
            "input_tokens": {"distribution": "lognormal", "mean": 512, "cv": 1.0},
            "output_tokens": 256,
            "num_requests": 10000,
        },
    }
    return Scenario.model_validate({**tree, **changes})


def test_the_header_names_what_was_simulated() -> None:
    header = header_of(_scenario())
    assert header.title == "meta-llama/Llama-3.1-8B on h100-sxm-80gb"
    lines = dict(header.lines)
    assert lines["model"] == "meta-llama/Llama-3.1-8B"
    assert lines["cluster"] == "h100-sxm-80gb"
    assert lines["engine"] == "vllm 0.33.0"
    assert lines["workload"] == (
        "poisson (rate 20) arrivals, lognormal (mean 512, cv 1) input, "
        "fixed (value 256) output, 10,000 requests"
    )


def test_what_differs_from_the_defaults_is_said() -> None:
    pools = [{"hardware": {"name": "my-chip"}, "replicas": 2, "parallel": {"tensor": 4}}]
    header = header_of(
        _scenario(
            name="night shift",
            weights="fp8",
            cluster={"pools": pools},
            engine={"max_num_seqs": 64, "enable_prefix_caching": False},
        )
    )
    assert header.title == "night shift"
    lines = dict(header.lines)
    assert lines["model"].endswith(", fp8 weights")
    assert lines["cluster"] == "2 x my-chip (tensor 4)"
    assert lines["engine"] == "vllm 0.33.0, max_num_seqs 64, enable_prefix_caching off"


def test_a_trace_is_named_by_its_file() -> None:
    trace = {"path": "azure_2023_conv.csv", "rate_scale": 2.0}
    workload = dict(header_of(_scenario(workload={"trace": trace})).lines)["workload"]
    assert workload == "trace azure_2023_conv.csv (rate_scale 2)"


def test_joint_lengths_and_a_closed_loop_are_named() -> None:
    spec = {
        "arrivals": {"process": "closed-loop", "concurrency": 8},
        "lengths": {"pairs": [[10, 20]] * 5},
        "num_requests": 40,
    }
    workload = dict(header_of(_scenario(workload=spec)).lines)["workload"]
    assert workload == (
        "closed-loop (concurrency 8) arrivals, joint lengths (pairs of 5 entries), 40 requests"
    )


def test_sessions_and_predictions_are_told_in_words() -> None:
    workload = {
        "arrivals": {"process": "poisson", "rate": 2},
        "input_tokens": 100,
        "output_tokens": 10,
        "sessions": {"count": 5, "rounds": {"distribution": "uniform", "min": 1, "max": 4}},
        "predicted_tokens": "oracle",
    }
    scenario = Scenario.model_validate(
        {"model": "Qwen/Qwen3-8B", "cluster": {"pools": [{"hardware": "h100"}]}, "workload": workload}
    )
    told = " ".join(text for _, text in header_of(scenario).lines)
    assert "sessions (rounds uniform (min 1, max 4), count 5), predicted lengths oracle" in told


def test_pools_are_named_with_their_roles_and_who_routes() -> None:
    pools = [
        {"name": "p", "hardware": "h100-sxm-80gb", "role": "prefill", "replicas": 2},
        {"name": "d", "hardware": "a100-sxm-80gb", "role": "decode", "parallel": {"tensor": 2}},
    ]
    cluster = {
        "pools": pools,
        "router": {"policy": "prefix-aware", "options": {"cache_threshold": 0.5}},
        "decode_router": "least-kv",
        "admission": {"max_outstanding": 64, "order": "fair"},
    }
    header = header_of(_scenario(cluster=cluster))
    lines = dict(header.lines)
    assert header.title == "meta-llama/Llama-3.1-8B on 2 x h100-sxm-80gb + a100-sxm-80gb (tensor 2)"
    assert lines["cluster"] == (
        "p: 2 x h100-sxm-80gb (prefill only); d: a100-sxm-80gb (tensor 2, decode only)"
    )
    assert lines["routing"] == (
        "prefix-aware (cache_threshold 0.5), decode by least-kv, gateway fair (max_outstanding 64)"
    )


def test_a_single_instance_needs_no_router_and_a_scaled_one_does() -> None:
    assert "routing" not in dict(header_of(_scenario()).lines)
    scaled = {"hardware": "h100-sxm-80gb", "autoscale": {"target": 4, "max": 3}}
    lines = dict(header_of(_scenario(cluster={"pools": [scaled]})).lines)
    assert lines["cluster"] == "h100-sxm-80gb (autoscaled)"
    assert lines["routing"] == "round-robin"
