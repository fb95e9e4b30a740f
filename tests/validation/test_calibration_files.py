"""Calibration files: what is read, and what is refused with its line."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokensim import InputError
from tokensim.cost.calibration import PARAMETERS, RANGES, Calibration, load_calibration


def written(folder: Path, text: str) -> Path:
    file = folder / "calibration.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def test_no_calibration_changes_nothing() -> None:
    assert Calibration().parameters() == {}


def test_plain_values_and_values_with_their_uncertainty_are_read(tmp_path: Path) -> None:
    text = (
        "parameters:\n  host_gap_s: 0.0003\n  compute_scale: {value: 0.9, stderr: 0.01, bounds: [0.5, 1.5]}\n"
    )
    found = load_calibration(written(tmp_path, text))
    assert found == Calibration(host_gap_s=0.0003, compute_scale=0.9)
    assert found.parameters() == {"host_gap_s": 0.0003, "compute_scale": 0.9}


@given(st.sampled_from(PARAMETERS), st.floats(0, 1))
def test_every_parameter_is_read_as_written(
    tmp_path_factory: pytest.TempPathFactory, name: str, share: float
) -> None:
    low, high = RANGES[name]
    value = low + share * (high - low)
    file = written(tmp_path_factory.mktemp("c"), f"parameters: {{{name}: {value!r}}}\n")
    assert getattr(load_calibration(file), name) == value


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("parameters:\n  host_gab_s: 1\n", 2, "did you mean 'host_gap_s'"),
        ("parameters:\n  host_gap_s: 300\n", 2, "between 0 and 0.1"),
        ("parameters:\n  host_gap_s: fast\n", 2, "'fast' is not a number"),
        ("parameters:\n  memory_scale: {stderr: 1}\n", 2, "None is not a number"),
        ("parameters:\n  memory_scale: -1\n", 2, "between 0.05 and 20"),
        ("parameters:\n  memory_scale: .nan\n", 2, "not a number"),
        ("format: else\nparameters: {}\n", 1, "is not 'tokensim-calibration'"),
        ("version: 2\nparameters: {}\n", 1, "version 2 is not known"),
        ("parameters: {}\nparameter: {}\n", 2, "did you mean 'parameters'"),
        ("parameters: []\n", 1, "must be a section"),
        ("parameters: {}\ndevice: 3\n", 2, "must be a name"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(tmp_path: Path, text: str, line: int, message: str) -> None:
    file = written(tmp_path, text)
    with pytest.raises(InputError, match=message) as told:
        load_calibration(file)
    assert str(told.value.where).startswith(f"{file}:{line}")


@pytest.mark.parametrize(
    ("text", "message"), [("", "not a calibration"), ("model: x\n", "not a calibration")]
)
def test_what_is_no_calibration_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_calibration(written(tmp_path, text))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no such calibration file") as told:
        load_calibration(tmp_path / "c.yaml")
    assert told.value.where == str(tmp_path / "c.yaml")
