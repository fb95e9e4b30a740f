"""Calibration finds the truth where it is known, and refuses what the cases do not show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from case_files import scenario_tree
from tokensim import InputError
from tokensim.cost.calibration import Calibration, load_calibration
from tokensim.validation.calibrate import Outcome, calibrate, calibration_yaml
from tokensim.validation.case import read_case
from tokensim.validation.errors import errors_of
from tokensim.validation.parameters import chosen
from tokensim.validation.replay import document_of, replay

TRUTH = Calibration(host_gap_s=1.2e-3, compute_scale=0.92, client_s=6e-3)


def run(folders: Sequence[Path], names: str | None) -> Outcome:
    cases = [read_case(folder) for folder in folders]
    scenarios = [document_of(case).check() for case in cases]
    return calibrate(cases, scenarios, chosen(names), chosen_by_user=names is not None)


def test_the_truth_is_found_within_its_uncertainty_and_the_errors_vanish(simulated_case: Any) -> None:
    folders = [
        simulated_case("low", TRUTH, rate=4.0, input_tokens=2000, requests=60),
        simulated_case("high", TRUTH, rate=8.0, input_tokens=2000, requests=60),
    ]
    outcome = run(folders, "host_gap,compute,client")
    found = {f.parameter.field: f for f in outcome.fitted}
    for name, value in TRUTH.parameters().items():
        assert abs(found[name].value - value) < 3 * found[name].stderr, name
        assert found[name].stderr < 0.1 * (found[name].parameter.high - found[name].parameter.low)
    for before, after in zip(outcome.before, outcome.after, strict=True):
        assert before.worst_mean() > 0.05
        for metric, bound in {"ttft": 0.03, "tpot": 0.01, "e2e": 0.01, "throughput": 0.01}.items():
            error = after.error[metric]["mean"]
            assert error is not None
            assert abs(error) < bound, metric
    assert outcome.notes == ()


def test_a_fit_on_one_load_holds_on_another(simulated_case: Any) -> None:
    truth = replace(TRUTH, client_s=None)
    outcome = run([simulated_case("low", truth, rate=4.0, input_tokens=2000)], "host_gap,compute")
    case = read_case(simulated_case("high", truth, rate=12.0))
    before = errors_of(replay(case, document_of(case).check()))
    after = errors_of(replay(case, document_of(case).check(), outcome.calibration))
    assert before.error["tpot"]["mean"] is not None
    assert after.error["tpot"]["mean"] is not None
    assert abs(before.error["tpot"]["mean"]) > 0.05
    assert abs(after.error["tpot"]["mean"]) < 0.01


def test_the_same_cases_give_the_same_file(simulated_case: Any) -> None:
    folder = simulated_case(truth=TRUTH)
    texts = {calibration_yaml(run([folder], "host_gap")) for _ in range(2)}
    assert len(texts) == 1


def test_the_file_says_what_was_fitted_on_what_and_is_read_back(simulated_case: Any, tmp_path: Path) -> None:
    outcome = run([simulated_case(truth=TRUTH)], "host_gap,compute")
    file = tmp_path / "calibration.yaml"
    file.write_text(calibration_yaml(outcome), encoding="utf-8")
    tree = yaml.safe_load(file.read_text(encoding="utf-8"))
    assert tree["fitted_on"] == ["case"]
    assert tree["parameters"].keys() == {"host_gap_s", "compute_scale"}
    entry = tree["parameters"]["host_gap_s"]
    assert entry.keys() == {"value", "stderr", "bounds"}
    assert entry["value"] == pytest.approx(outcome.fitted[0].value, rel=1e-5)
    assert abs(tree["errors_after"]["case"]["tpot"]["mean"]) < abs(
        tree["errors_before"]["case"]["tpot"]["mean"]
    )
    read = load_calibration(file)
    assert (read.device, read.model) == ("h100-sxm-80gb", "meta-llama/Llama-3.1-8B")
    assert read.host_gap_s == pytest.approx(outcome.calibration.host_gap_s, rel=1e-5)
    assert read.memory_scale == 1.0


def test_more_unknowns_than_figures_are_refused(simulated_case: Any) -> None:
    with pytest.raises(InputError, match="4 unknowns, and only 3 independent figures"):
        run([simulated_case()], "host_gap,compute,client,memory")


def test_what_a_case_does_not_show_is_refused(simulated_case: Any) -> None:
    # steps of some ms hide the host's own time when scheduling is asynchronous
    with pytest.raises(InputError, match="do not show host_step"):
        run([simulated_case()], "host_step")


def test_what_the_engine_measured_does_not_show_the_client(simulated_case: Any) -> None:
    folder = simulated_case(anchor="engine-queue")
    with pytest.raises(InputError, match="do not show client"):
        run([folder], "client")


def test_unknowns_that_do_the_same_cannot_be_told_apart(simulated_case: Any) -> None:
    # without asynchronous scheduling the gap and the host's step both lengthen every step
    synchronous = {**scenario_tree(async_scheduling=False)}
    with pytest.raises(InputError, match="cannot tell host_gap, host_step apart"):
        run([simulated_case(scenario=synchronous)], "host_gap,host_step")


def test_left_to_itself_it_leaves_out_what_the_cases_do_not_show_and_says_so(simulated_case: Any) -> None:
    outcome = run([simulated_case(truth=TRUTH, anchor="engine-queue")], None)
    fitted = {f.parameter.name for f in outcome.fitted}
    assert "client" not in fitted
    assert fitted <= {"host_gap", "compute", "memory"}
    left = {"host_gap", "compute", "memory"} - fitted
    assert len([note for note in outcome.notes if "left as it is" in note]) == len(left)
    assert max(case.worst_mean() for case in outcome.after) < 0.02


def test_a_parameter_stopped_at_its_bound_is_a_warning(simulated_case: Any) -> None:
    slow = Calibration(compute_scale=0.3, memory_scale=0.3)
    outcome = run([simulated_case(truth=slow, rate=2.0)], "memory")
    assert any("memory was stopped at its bound 0.5" in note for note in outcome.notes)


def test_two_machines_are_refused(simulated_case: Any) -> None:
    tree = {**scenario_tree(), "cluster": {"pools": [{"hardware": "a100-sxm-80gb"}]}}
    folders = [simulated_case("a"), simulated_case("b", scenario=tree)]
    with pytest.raises(InputError, match=r"different devices: h100-sxm-80gb .* a100-sxm-80gb"):
        run(folders, "host_gap")


def test_a_slowdown_of_the_clock_is_fitted_with_a_time_constant_that_is_held(
    simulated_case: Any, tmp_path: Path
) -> None:
    truth = Calibration(clock_slowdown=0.12, clock_time_constant_s=5.0)
    outcome = run([simulated_case(truth=truth, rate=25.0, input_tokens=2000, requests=300)], "clock")
    (found,) = outcome.fitted
    assert abs(found.value - 0.12) < 3 * found.stderr
    file = tmp_path / "c.yaml"
    file.write_text(calibration_yaml(outcome), encoding="utf-8")
    assert load_calibration(file).clock_time_constant_s == 5.0
