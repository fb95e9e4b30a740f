"""Steps whose tokens do not spread evenly over experts: what changes, and what does not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tokensim import simulate
from tokensim.errors import InputError
from tokensim.model import load_model
from tokensim.model.operators import Elementwise, Experts
from tokensim.model.routing import expert_load, zipf
from tokensim.model.shards import operators
from tokensim.model.spread import spread_experts
from tokensim.plan import PoolPlan, plan_pool
from tokensim.scenario import Scenario

MODEL = "Qwen/Qwen3-30B-A3B"  # 48 layers of 128 experts, 8 a token
UNIFORM, ZIPF = {"balance": "uniform"}, {"balance": "zipf", "exponent": 1.0}


def scenario(
    experts: object = None, operators: str = "roofline", model: object = MODEL, **pool: Any
) -> Scenario:
    tree = {
        "model": model,
        "cluster": {"pools": [{"hardware": "h100-sxm-80gb", **pool}]},
        "performance": {"operators": operators, "experts": experts},
        "workload": {
            "arrivals": {"process": "poisson", "rate": 4},
            "input_tokens": {"distribution": "lognormal", "mean": 600, "cv": 1.0, "max": 4000},
            "output_tokens": {"distribution": "lognormal", "mean": 60, "cv": 1.0, "max": 900},
            "num_requests": 60,
        },
    }
    return Scenario.model_validate(tree)


def plan(experts: object = None, operators: str = "roofline", model: object = MODEL, **pool: Any) -> PoolPlan:
    made = scenario(experts, operators, model, **pool)
    return plan_pool(made, 0, load_model(made.model))


EP4 = {"parallel": {"tensor": 4, "expert": 4}}


def experts_s(plan: PoolPlan, tokens: int) -> float:
    [part] = [part for part in plan.cost.token_parts if part.kind == "moe"]
    return float(part.time.seconds(np.array([float(tokens)]))[0])


def test_the_roofline_assumes_even_choices_already() -> None:
    """On one rank uniform popularity is what the roofline has without the section: the two agree."""
    plain, uniform = plan(), plan(UNIFORM)
    for tokens in (1, 7, 64, 1000, 8192):
        assert experts_s(uniform, tokens) == pytest.approx(experts_s(plain, tokens), rel=2e-3)


@pytest.mark.parametrize("operators", ["roofline", "builtin"])
def test_popular_experts_are_cheap_in_small_batches_and_dear_in_large_ones(operators: str) -> None:
    uniform, skewed = (plan(e, operators, **EP4) for e in (UNIFORM, ZIPF))
    assert experts_s(skewed, 64) < 0.95 * experts_s(uniform, 64), "fewer experts' weights are read"
    assert experts_s(skewed, 8192) > 1.05 * experts_s(uniform, 8192), "the ranks wait for the busiest"


def test_placement_by_load_makes_large_batches_cheap_again() -> None:
    balanced = {**ZIPF, "eplb": True, "num_redundant_experts": 32}
    uniform, skewed, eplb = (plan(e, **EP4) for e in (UNIFORM, ZIPF, balanced))
    assert experts_s(eplb, 8192) < 1.05 * experts_s(uniform, 8192)  # more weights to read
    assert experts_s(eplb, 8192) < experts_s(skewed, 8192)


def test_copies_take_memory() -> None:
    without, with_ = (plan({**ZIPF, "eplb": True, "num_redundant_experts": n}, **EP4) for n in (0, 32))
    copies = 48 * 32 / 4 * 3 * 2048 * 768 * 2
    block = 16 * 2 * 128 * 2 * 48  # one KV head a rank
    assert without.limits.num_gpu_blocks - with_.limits.num_gpu_blocks == pytest.approx(copies / block, abs=1)


def test_only_experts_change() -> None:
    model = load_model(MODEL)
    run = operators(model, "auto", "bfloat16", 4, 4)
    load = expert_load(zipf(128, 1.0, 48), 8, 4)
    changed = [(a, b) for a, b in zip(run, spread_experts(run, load, "bfloat16"), strict=True) if a != b]
    assert [a.name for a, _ in changed] == ["experts", "experts_activation", "experts_combine"]
    before, after = changed[1]
    assert isinstance(before, Elementwise) and isinstance(after, Elementwise)
    assert after.bytes_per_row == pytest.approx(before.bytes_per_row * load.imbalance)
    assert all(op.load is None for op in run if isinstance(op, Experts))


def test_a_measured_spread_gives_way_to_one_that_was_asked_for() -> None:
    pytest.importorskip("aiconfigurator_core", reason="the measured tables are not installed")
    [part] = [p for p in plan(ZIPF, "aiconfigurator", **EP4).cost.token_parts if p.kind == "moe"]
    assert part.time.origin(64.0).how == "fitted"
    [plain] = [p for p in plan(None, "aiconfigurator", **EP4).cost.token_parts if p.kind == "moe"]
    assert plain.time.origin(64.0).how in ("exact", "interpolated")


def test_a_run_with_popular_experts_is_the_same_step_by_step() -> None:
    made = scenario(ZIPF, **EP4)
    runs, walked = simulate(made), simulate(made, exact_steps=True)
    assert runs.log.requests.finish_s == pytest.approx(walked.log.requests.finish_s, rel=1e-9)
    plain = simulate(scenario(**EP4))
    assert runs.summary.makespan_s != plain.summary.makespan_s


def test_counts_in_a_file_say_how_popular_experts_are(tmp_path: Path) -> None:
    law = zipf(128, 1.0, 48)
    as_json, as_csv = tmp_path / "counts.json", tmp_path / "counts.csv"
    as_json.write_text(json.dumps(law.tolist()))
    rows = [f"{layer},{expert},{law[layer, expert]}" for layer in range(48) for expert in range(128)]
    as_csv.write_text("layer,expert,tokens\n" + "\n".join(rows) + "\n")
    wanted = experts_s(plan(ZIPF, **EP4), 4096)
    for file in (as_json, as_csv):
        recorded = plan({"balance": "recorded", "file": str(file)}, **EP4)
        assert experts_s(recorded, 4096) == pytest.approx(wanted)


def refusal(experts: object, **pool: Any) -> str:
    with pytest.raises(InputError) as error:
        plan(experts, **pool)
    return str(error.value)


def test_files_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "counts.json"
    recorded = {"balance": "recorded", "file": str(file)}
    assert "cannot read counts" in refusal(recorded)
    for text, problem in (
        ("[[1, 2, 3]]", "counts 3 experts in 1 layers\n  the model has 128 experts in 48 layers"),
        ("nonsense", "cannot read counts of experts"),
        (json.dumps([-1.0] * 128), "not numbers of 0 or more"),
        (json.dumps([1.0] * 7 + [0.0] * 121), "went to fewer than 8 experts"),
    ):
        file.write_text(text)
        assert problem in refusal(recorded)
    table = tmp_path / "counts.csv"
    table.write_text("layer,expert\n0,1\n")
    assert "no column tokens" in refusal({"balance": "recorded", "file": str(table)})


def test_what_cannot_be_is_refused() -> None:
    assert "has no experts" in refusal(UNIFORM, model="meta-llama/Llama-3.1-8B")
    assert "every rank has a slice" in refusal({**ZIPF, "eplb": True})
    uneven = {**ZIPF, "eplb": True, "num_redundant_experts": 3}
    assert "3 copies do not divide over 4 ranks\n  0, 4, … copies divide" in refusal(uneven, **EP4)


@pytest.mark.parametrize(
    ("experts", "problem"),
    [
        ({"balance": "zipf"}, "balance is 'zipf' without exponent"),
        ({"balance": "uniform", "exponent": 1.0}, "exponent is given, but balance is 'uniform'"),
        ({"balance": "recorded"}, "balance is 'recorded' without file"),
        ({"balance": "uniform", "num_redundant_experts": 4}, "num_redundant_experts needs eplb"),
        ({"balance": "even"}, "'uniform', 'zipf' or 'recorded'"),
    ],
)
def test_sections_that_contradict_themselves_are_refused(experts: object, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        scenario(experts)
