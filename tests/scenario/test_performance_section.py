"""The performance section: where step times come from, and what surrounds the device."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tokensim.scenario import Scenario, dump_scenario, load_scenario, schema_json
from tokensim.scenario.performance import Clock, FrontEnd, HostTime, Performance

SCENARIO = """\
model: meta-llama/Llama-3.1-8B
cluster: {pools: [{name: serve, hardware: h100-sxm-80gb}]}
workload: {arrivals: {process: poisson, rate: 5}, input_tokens: 512, output_tokens: 64, num_requests: 10}
"""


def read(folder: Path, performance: str) -> Scenario:
    file = folder / "s.yaml"
    file.write_text(f"{SCENARIO}performance: {performance}\n", encoding="utf-8")
    return load_scenario(file)


def test_nothing_is_asked_for_by_default() -> None:
    plain = Performance()
    assert (plain.operators, plain.calibration) == ("auto", None)
    assert plain.host == HostTime(gap=None, step=None, request=None)
    assert plain.front_end is None
    assert plain.clock is None


@pytest.mark.parametrize("value", ["true", "on", "'on'", "{}"])
def test_a_front_end_that_is_on_has_the_default_times(tmp_path: Path, value: str) -> None:
    assert read(tmp_path, f"{{front_end: {value}}}").performance.front_end == FrontEnd()


@pytest.mark.parametrize("value", ["false", "off", "'off'", "null"])
def test_a_front_end_that_is_off_is_none(tmp_path: Path, value: str) -> None:
    assert read(tmp_path, f"{{front_end: {value}}}").performance.front_end is None


def test_times_are_durations(tmp_path: Path) -> None:
    performance = read(
        tmp_path,
        "{front_end: {request: 1.5ms, chunk: 20us, client: 0},"
        " host: {gap: 100us, step: 0.3ms, request: 1e-5}, clock: {slowdown: 0.12, time_constant: 20s}}",
    ).performance
    assert performance.front_end is not None
    assert performance.front_end.model_dump() == pytest.approx(
        {"request": 0.0015, "chunk": 2e-5, "client": 0}
    )
    assert performance.host.model_dump() == pytest.approx({"gap": 1e-4, "step": 3e-4, "request": 1e-5})
    assert performance.clock == Clock(slowdown=0.12, time_constant=20.0)


@pytest.mark.parametrize("operators", ["auto", "builtin", "roofline", "aiconfigurator", "my-own-source"])
def test_names_of_sources_stay_as_they_are(tmp_path: Path, operators: str) -> None:
    assert read(tmp_path, f"{{operators: {operators}}}").performance.operators == operators


@pytest.mark.parametrize("operators", ["./tables", "tables/h100.parquet", "../shared/tables"])
def test_paths_of_tables_count_from_the_file(tmp_path: Path, operators: str) -> None:
    expected = str((tmp_path / operators).resolve())
    assert read(tmp_path, f"{{operators: {operators}}}").performance.operators == expected


@pytest.mark.parametrize("calibration", ["c.yaml", "./c.yaml", "/etc/c.yaml"])
def test_the_calibration_is_a_file_beside_the_scenario(tmp_path: Path, calibration: str) -> None:
    expected = str((tmp_path / calibration).resolve())
    assert read(tmp_path, f"{{calibration: {calibration}}}").performance.calibration == expected


@pytest.mark.parametrize(
    "performance",
    [
        "{}",
        "{front_end: true, host: {step: 1ms}}",
        "{operators: ./tables, calibration: c.yaml}",
        "{front_end: {chunk: 5us}, clock: {slowdown: 0.1, time_constant: 3s}}",
    ],
)
def test_a_scenario_that_is_written_out_reads_the_same_elsewhere(tmp_path: Path, performance: str) -> None:
    scenario = read(tmp_path, performance)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "again.yaml").write_text(dump_scenario(scenario), encoding="utf-8")
    assert load_scenario(elsewhere / "again.yaml") == scenario


def test_the_json_schema_lets_editors_complete_all_of_it() -> None:
    sections: dict[str, Any] = json.loads(schema_json())["$defs"]
    properties = sections["Performance"]["properties"]
    assert set(properties) == {"operators", "calibration", "host", "front_end", "clock", "experts"}
    assert {"enum": [True, False, "on", "off"]} in properties["front_end"]["anyOf"]
    assert set(sections["Clock"]["required"]) == {"slowdown", "time_constant"}
