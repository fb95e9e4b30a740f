"""Pipelines and speculation from the scenario to the summary; what is refused, and why."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tokensim import Scenario, simulate
from tokensim.assemble import Result
from tokensim.errors import InputError
from tokensim.registry import load_plugin
from tokensim.scenario import from_mapping

DRAFTS: dict[str, Any] = {"method": "eagle3", "num_speculative_tokens": 3, "acceptance": {"rate": 0.7}}


def scenario(
    parallel: dict[str, int] | None = None, engine: dict[str, Any] | None = None, **changes: Any
) -> Scenario:
    tree = {
        "model": "meta-llama/Llama-3.1-8B",
        "cluster": {"pools": [{"hardware": "h100-sxm-80gb", "parallel": parallel or {}}]},
        "engine": {"max_model_len": 8192, **(engine or {})},
        "performance": {"operators": "builtin"},
        "workload": {
            "arrivals": {"process": "poisson", "rate": 10},
            "input_tokens": {"distribution": "lognormal", "mean": 300, "cv": 1.0, "max": 2000},
            "output_tokens": {"distribution": "lognormal", "mean": 60, "cv": 1.0, "max": 300},
            "num_requests": 60,
        },
        **changes,
    }
    return from_mapping(tree, "test")


def run(
    parallel: dict[str, int] | None = None, engine: dict[str, Any] | None = None, **changes: Any
) -> Result:
    return simulate(scenario(parallel, engine, **changes))


def test_stages_are_instances_of_the_results_that_share_the_work() -> None:
    result = run({"pipeline": 2})
    summary = result.summary
    assert summary.requests.finished == 60
    one, two = summary.usage.instances
    assert (one.requests, two.requests) == (60, 0)
    assert one.steps == two.steps == summary.usage.steps
    assert one.num_blocks == two.num_blocks
    assert one.busy_s < two.busy_s  # which has the LM head
    assert 0.0 < two.busy_share <= 1.0  # type: ignore[operator]
    assert summary.time.step_s == pytest.approx(one.busy_s + two.busy_s)
    assert sum(summary.time.by_kind.values()) == pytest.approx(1.0)
    assert summary.time.by_kind.get("host", 0.0) == pytest.approx(0.0, abs=1e-6)
    hours = summary.makespan_s / 3600
    assert summary.spending.device_hours == pytest.approx(2 * hours)
    stages = result.steps.partition_by("instance")
    for stage in stages:
        starts, ends = stage["start_s"].to_numpy(), stage["end_s"].to_numpy()
        assert (starts[1:] >= ends[:-1] - 1e-12).all()


def test_every_token_is_worth_a_gap_in_a_pipeline() -> None:
    result = run({"pipeline": 2, "tensor": 2})
    requests = result.log.requests
    itl = result.summary.latency.itl_s
    assert itl.count == int((requests.output_tokens - 1).sum())
    assert itl.mean is not None
    spent = float((requests.finish_s - requests.first_token_s).sum())
    assert itl.mean * itl.count == pytest.approx(spent)


def test_a_pipeline_holds_more_kv_than_one_device_and_a_lone_request_gains_no_speed() -> None:
    lone = {
        "num_requests": 1,
        "arrivals": {"process": "all-at-once"},
        "input_tokens": 500,
        "output_tokens": 50,
    }
    one, two = run(workload=lone), run({"pipeline": 2}, workload=lone)
    blocks = [r.log.num_blocks[0] for r in (one, two)]
    assert blocks[1] > 2.2 * blocks[0]  # each holds half of the layers, and only half of the weights
    tpot = [r.summary.latency.tpot_s.mean for r in (one, two)]
    assert tpot[0] is not None and tpot[1] is not None and tpot[1] > tpot[0]


def test_data_parallel_pipelines_of_a_dense_model_run_apart() -> None:
    result = run({"pipeline": 2, "data": 2})
    served = [i.requests for i in result.summary.usage.instances]
    assert served == [30, 0, 30, 0]


@pytest.mark.parametrize(
    "engine", [{"async_scheduling": False}, {}, {"version": "0.19.0"}, {"version": "0.23.0"}]
)
@pytest.mark.parametrize("extra", [{"parallel": {"pipeline": 3}}, {"speculative": DRAFTS}])
def test_exact_steps_tell_the_same_story(engine: dict[str, Any], extra: dict[str, Any]) -> None:
    if "speculative" in extra:
        engine = {**engine, **extra}
    given = scenario(extra.get("parallel"), {**engine, "num_gpu_blocks": 513})
    quick, exact = simulate(given), simulate(given, exact_steps=True)
    for name in ("first_token_s", "finish_s", "scheduled_s"):
        np.testing.assert_allclose(
            getattr(quick.log.requests, name), getattr(exact.log.requests, name), rtol=1e-9
        )
    assert quick.log.requests.preemptions.tolist() == exact.log.requests.preemptions.tolist()


def test_drafts_speed_up_light_load_and_the_summary_says_how_many_were_accepted() -> None:
    plain, drafted = run(), run(engine={"speculative": DRAFTS})
    figures = drafted.summary.speculation
    assert figures is not None and plain.summary.speculation is None
    assert figures.mean_accepted_length == pytest.approx(1 + 0.7 + 0.49 + 0.343, abs=0.1)
    assert figures.acceptance_rate == pytest.approx((0.7 + 0.49 + 0.343) / 3, abs=0.03)
    assert drafted.summary.tokens.output == plain.summary.tokens.output
    tpot = [r.summary.latency.tpot_s.mean for r in (plain, drafted)]
    assert tpot[0] is not None and tpot[1] is not None
    assert 1.4 < tpot[0] / tpot[1] < 2.53  # less than the tokens a step, as a step costs more
    assert drafted.log.num_blocks[0] < plain.log.num_blocks[0]  # the head takes memory
    names = {o.operator for o in drafted.summary.time.operators}
    assert {"draft_lm_head", "draft_attention", "lm_head"} <= names
    assert sum(drafted.summary.time.by_kind.values()) == pytest.approx(1.0)
    assert drafted.summary.to_dict()["speculation"]["drafted_tokens"] == figures.drafted_tokens


def test_the_same_seed_accepts_the_same_drafts() -> None:
    times = [run(engine={"speculative": DRAFTS}, seed=s).log.requests.finish_s for s in (1, 1)]
    assert times[0].tolist() == times[1].tolist()


@pytest.mark.parametrize(
    "drafts",
    [
        {"method": "draft_model", "model": "meta-llama/Llama-3.2-1B"},
        {"method": "ngram"},
        {"method": "eagle"},
    ],
    ids=lambda drafts: drafts["method"],
)
@pytest.mark.parametrize("version", ["0.19.0", "0.33.0"])
def test_every_method_runs_in_every_version(drafts: dict[str, Any], version: str) -> None:
    section = {**drafts, "num_speculative_tokens": 2, "acceptance": {"per_position": [0.8, 0.5]}}
    result = run(engine={"speculative": section, "version": version})
    assert result.summary.requests.finished == 60
    synchronous = any("synchronous" in note for note in result.summary.notes)
    assert synchronous == (drafts["method"] == "ngram")


def test_recorded_acceptance_is_read_from_a_file_beside_the_scenario(tmp_path: Path) -> None:
    (tmp_path / "accepted.json").write_text("[0, 2, 3]")
    drafts = {**DRAFTS, "acceptance": {"recorded": "accepted.json"}}
    given = scenario(engine={"speculative": drafts})
    file = tmp_path / "s.yaml"
    file.write_text(json.dumps(given.model_dump(mode="json")))
    recorded = simulate(Scenario.from_yaml(file)).summary.speculation
    inline = run(
        engine={"speculative": {**drafts, "acceptance": {"recorded": [0, 2, 3]}}}
    ).summary.speculation
    assert recorded == inline


SHORTEST_FIRST = """
from tokensim import register
from tokensim.scheduling.local import ContinuousBatching

@register.local_scheduler("by-length")
class ByLength(ContinuousBatching):
    def __init__(self, limits, version, *, exact_steps=False, sign=1):
        super().__init__(limits, version, exact_steps=exact_steps)
        self.sign = sign

    def admission_order(self, waiting):
        return sorted(waiting, key=lambda request: self.sign * request.input_tokens)
"""


@pytest.mark.parametrize("extra", [{"parallel": {"pipeline": 2}}, {"speculative": DRAFTS}])
def test_a_users_order_of_admission_holds_here_too_with_its_options(
    extra: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "by_length.py").write_text(SHORTEST_FIRST)
    load_plugin(tmp_path / "by_length.py")
    crowd = {
        "arrivals": {"process": "all-at-once"},
        "input_tokens": {"distribution": "uniform", "min": 10, "max": 400},
        "output_tokens": 30,
        "num_requests": 40,
    }
    for sign in (1, -1):
        engine = {"policy": "by-length", "policy_options": {"sign": sign}, "max_num_seqs": 2}
        engine |= {k: v for k, v in extra.items() if k == "speculative"}
        log = run(extra.get("parallel"), engine, workload=crowd).log
        prompts = sign * log.requests.input_tokens
        order = np.lexsort((prompts, log.requests.scheduled_s))  # by length among those admitted together
        assert (np.diff(prompts[order]) >= 0).all()


@pytest.mark.parametrize("extra", [{"parallel": {"pipeline": 2}}, {"speculative": DRAFTS}])
def test_prefill_and_decode_apart_and_a_host_tier_go_with_them(extra: dict[str, Any]) -> None:
    own = {"hardware": "h100-sxm-80gb", "parallel": extra.get("parallel", {})}
    engine = {k: v for k, v in extra.items() if k == "speculative"} | {"num_gpu_blocks": 520}
    given = scenario(
        engine=engine,
        cluster={"pools": [{"name": role, "role": role, **own} for role in ("prefill", "decode")]},
        memory={"tiers": [{"kind": "host", "capacity": "64GiB"}], "load": "async"},
        workload={
            "sessions": {"rounds": 3, "think_time": 1.0, "count": 20},
            "arrivals": {"process": "poisson", "rate": 5},
            "input_tokens": 300,
            "output_tokens": 40,
        },
    )
    quick, exact = simulate(given), simulate(given, exact_steps=True)
    assert quick.summary.requests.finished == 60
    assert quick.log.handovers is not None and len(quick.log.handovers.request) == 60
    assert quick.log.loads is not None and len(quick.log.loads.request) > 0
    for name in ("first_token_s", "finish_s", "scheduled_s"):
        one, other = getattr(quick.log.requests, name), getattr(exact.log.requests, name)
        np.testing.assert_allclose(one, other, rtol=1e-9)


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"parallel": {"pipeline": 2}, "engine": {"speculative": DRAFTS}}, "speculative decoding over pipeline"),
    ({"parallel": {"pipeline": 33}}, "33 stages for 32 layers"),
    (
        {"model": "Qwen/Qwen3-30B-A3B", "parallel": {"pipeline": 2, "data": 2}},
        "pipelines that do are not simulated",
    ),
    (
        {"model": "Qwen/Qwen3-30B-A3B", "parallel": {"data": 2}, "engine": {"speculative": DRAFTS}},
        "with speculation that is not simulated",
    ),
    ({"engine": {"speculative": {**DRAFTS, "method": "mtp"}}}, "no layer for multi-token prediction"),
    (
        {"engine": {"speculative": {**DRAFTS, "num_speculative_tokens": 64}, "max_num_batched_tokens": 64}},
        "64 drafts and a token do not fit",
    ),
    (
        {"engine": {"speculative": {**DRAFTS, "acceptance": {"recorded": "absent.json"}}}},
        "no such file",
    ),
    (
        {"engine": {"speculative": {**DRAFTS, "method": "draft_model", "model": "meta-llama/Llama-3.2-1Z"}}},
        "did you mean 'meta-llama/Llama-3.2-1B'",
    ),
    (
        {
            "engine": {
                "version": "0.23.0",
                "max_num_seqs": 64,
                "max_num_batched_tokens": 64,
                "speculative": {**DRAFTS, "method": "draft_model", "model": "meta-llama/Llama-3.2-1B"},
            }
        },
        "leaves nothing to schedule beside 64 slots",
    ),
]


@pytest.mark.parametrize(("options", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_what_is_not_simulated_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as refusal:
        run(**options)
    assert message in f"{refusal.value.message} {refusal.value.hint}"
    assert refusal.value.where


@pytest.mark.parametrize("counts", ["{}", "[]", "[1, -1]", "[1.5]", "nonsense"])
def test_a_file_that_records_no_acceptance_is_refused(tmp_path: Path, counts: str) -> None:
    file = tmp_path / "accepted.json"
    file.write_text(counts)
    with pytest.raises(InputError, match=r"must hold a list|not valid JSON"):
        run(engine={"speculative": {**DRAFTS, "acceptance": {"recorded": str(file)}}})
