"""Cases are read as documented, and what is wrong with one is told with its line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from case_files import scenario_tree, write_case
from tokensim import InputError
from tokensim.validation.case import find_cases, read_case
from tokensim.validation.replay import document_of

REQUEST = {
    "arrival_s": 1.0,
    "sent_s": 1.5,
    "input_tokens": 10,
    "output_tokens": 3,
    "ttft_s": 0.1,
    "e2e_s": 0.3,
}


def test_a_case_has_its_facts_and_its_requests_in_order_of_arrival(tmp_path: Path) -> None:
    later = {**REQUEST, "arrival_s": 2.0, "input_tokens": 20}
    folder = write_case(tmp_path / "a", [later, REQUEST], client={"max_in_flight": 4}, source="a paper")
    case = read_case(folder)
    assert (case.name, case.facts.source, case.facts.client.max_in_flight) == ("a", "a paper", 4)
    assert case.measured.input_tokens.tolist() == [10, 20]
    assert case.measured.arrival_s.tolist() == [1.0, 2.0]


@pytest.mark.parametrize(("anchor", "field"), [("client-send", "sent_s"), ("engine-queue", "queued_s")])
def test_the_anchor_names_the_field_that_times_count_from(tmp_path: Path, anchor: str, field: str) -> None:
    row = {key: value for key, value in REQUEST.items() if key != "sent_s"} | {field: 1.25}
    case = read_case(write_case(tmp_path / "a", [row], anchor=anchor))
    assert case.measured.anchor_s.tolist() == [1.25]
    with pytest.raises(InputError, match=f"no '{field}'"):
        row.pop(field)
        read_case(write_case(tmp_path / "b", [row], anchor=anchor))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ttft_s": None}, "ttft_s is None"),
        ({"ttft_s": 0.0}, "cannot be"),
        ({"e2e_s": 0.05}, "cannot be"),
        ({"output_tokens": 0}, "at least 1"),
        ({"input_tokens": 2.5}, "a whole number"),
        ({"arrival_s": -1.0}, "at least 0"),
        ({"arrival_s": float("nan")}, "a number of seconds"),
    ],
)
def test_an_impossible_request_is_refused_with_its_line(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    folder = write_case(tmp_path / "a", [REQUEST, {**REQUEST, **change}])
    with pytest.raises(InputError, match=message) as told:
        read_case(folder)
    assert told.value.where == f"{folder / 'requests.jsonl'}:2"


def test_what_is_no_json_is_told_with_its_line(tmp_path: Path) -> None:
    folder = write_case(tmp_path / "a", [REQUEST])
    (folder / "requests.jsonl").write_text(json.dumps(REQUEST) + "\n\nnot json\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"requests\.jsonl:3: not JSON"):
        read_case(folder)


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"sorce": "a paper"}, "did you mean 'source'"),
        ({"anchor": "client"}, "did you mean 'client-send'"),
        ({"client": {"max_in_flight": 0}}, "at least 1"),
        ({"scenario": {**scenario_tree(), "workload": {}}}, "has no workload"),
        ({"requests": "other.jsonl"}, "no such file"),
    ],
)
def test_a_wrong_case_file_is_refused_with_what_would_be_right(
    tmp_path: Path, facts: dict[str, Any], message: str
) -> None:
    folder = write_case(tmp_path / "a", [REQUEST], **facts)
    with pytest.raises(InputError, match=message) as told:
        read_case(folder)
    assert str(folder) in str(told.value)


def test_a_scenario_that_is_wrong_is_told_with_the_line_in_the_case_file(tmp_path: Path) -> None:
    folder = write_case(tmp_path / "a", [REQUEST], scenario={**scenario_tree(), "engine": {"max_num_seq": 1}})
    text = (folder / "case.yaml").read_text(encoding="utf-8").splitlines()
    line = next(number for number, row in enumerate(text, 1) if "max_num_seq" in row)
    with pytest.raises(InputError, match=rf"line {line}: engine\.max_num_seq"):
        document_of(read_case(folder)).check()


def test_files_that_a_case_names_count_from_its_folder(tmp_path: Path) -> None:
    tree = {
        **scenario_tree(),
        "model": "./model.json",
        "cluster": {"pools": [{"hardware": "mine.yaml"}]},
        "performance": {"operators": "../tables/mine", "calibration": "../c.yaml"},
    }
    case = read_case(write_case(tmp_path / "a", [REQUEST], scenario=tree))
    assert case.tree["model"] == str(tmp_path / "a" / "model.json")
    assert case.tree["cluster"]["pools"][0]["hardware"] == str(tmp_path / "a" / "mine.yaml")
    assert case.tree["performance"]["operators"] == str(tmp_path / "tables" / "mine")
    assert case.tree["performance"]["calibration"] == str(tmp_path / "c.yaml")


def test_cases_are_found_by_file_by_folder_and_in_a_folder_of_cases(tmp_path: Path) -> None:
    one, two = (write_case(tmp_path / name, [REQUEST]) for name in ("one", "two"))
    files = [one / "case.yaml", two / "case.yaml"]
    assert find_cases([one, two / "case.yaml"]) == files
    assert find_cases([tmp_path]) == files
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no case in this folder"):
        find_cases([tmp_path / "empty"])
    with pytest.raises(InputError, match="did you mean 'one'"):
        find_cases([tmp_path / "onne"])


def test_every_measured_case_of_the_reference_data_is_read(shared: Path) -> None:
    files = find_cases([shared / "groundtruth"])
    assert files
    for file in files:
        case = read_case(file)
        measured = case.measured
        assert (np.diff(measured.arrival_s) >= 0).all()
        assert (measured.anchor_s >= measured.arrival_s - 1e-6).all(), "sent before it was meant to be"
        lines = case.trace.read_text(encoding="utf-8").splitlines()
        assert len(measured.e2e_s) == len(lines)
        ttft = np.mean([json.loads(line)["ttft_s"] for line in lines])
        assert measured.ttft_s.mean() == pytest.approx(ttft)
