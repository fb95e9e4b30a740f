from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import IO

import polars as pl
import pytest

from handmade import empty_log, run_facts, run_log, summary
from tokensim.errors import SimulationError
from tokensim.metrics.frames import requests_frame, steps_frame
from tokensim.metrics.log import RunLog
from tokensim.metrics.slo import Slo
from tokensim.report import files
from tokensim.report.files import RUN_FILES, summary_json, write_run


def _save(folder: Path, log: RunLog | None = None) -> list[Path]:
    log = log or run_log()
    return write_run(
        folder, summary=summary(log), log=log, scenario_yaml="model: tiny\n", facts=run_facts(log)
    )


def test_a_run_leaves_its_files(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "run"
    paths = _save(folder)
    assert [p.name for p in paths] == list(RUN_FILES)
    assert sorted(p.name for p in folder.iterdir()) == sorted(RUN_FILES)
    assert (folder / "scenario.yaml").read_text() == "model: tiny\n"
    assert json.loads((folder / "summary.json").read_text()) == summary().to_dict()
    assert pl.read_parquet(folder / "requests.parquet").equals(requests_frame(run_log()))
    assert pl.read_parquet(folder / "steps.parquet").equals(steps_frame(run_log()))
    json.loads((folder / "trace.json").read_text())


@pytest.mark.parametrize("log", [run_log(), empty_log()], ids=["run", "nothing happened"])
def test_the_same_run_leaves_the_same_bytes(tmp_path: Path, log: RunLog) -> None:
    first, second = _save(tmp_path / "a", log), _save(tmp_path / "b", log)
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes(), one.name


def test_a_second_run_replaces_the_first(tmp_path: Path) -> None:
    _save(tmp_path)
    _save(tmp_path, empty_log())
    assert json.loads((tmp_path / "summary.json").read_text())["requests"]["total"] == 2
    assert len(pl.read_parquet(tmp_path / "requests.parquet")) == 2


def test_a_folder_without_all_files_has_no_summary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _save(tmp_path)

    def fail(file: IO[bytes], log: RunLog, names: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "write_trace", fail)
    with pytest.raises(SimulationError, match=r"trace\.json: could not be written: No space left on device"):
        _save(tmp_path)
    assert not (tmp_path / "summary.json").exists(), "it would describe another run than the tables"
    assert not list(tmp_path.glob(".*"))


def test_a_file_in_the_place_of_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("mine")
    with pytest.raises(SimulationError, match=r"run: cannot be written to: File exists"):
        _save(tmp_path / "run")
    assert (tmp_path / "run").read_text() == "mine"


@pytest.mark.parametrize(("limit", "name"), [(4, "scenario.yaml"), (500, "requests.parquet")])
def test_a_full_disk_is_told_by_the_file_that_did_not_fit(tmp_path: Path, limit: int, name: str) -> None:
    """A limit on the size of files stands for the full disk."""
    program = (
        "import resource, sys\n"
        "from handmade import run_facts, run_log, summary\n"
        "from tokensim.errors import SimulationError\n"
        "from tokensim.report.files import write_run\n"
        "log = run_log()\n"
        "facts = run_facts()\n"
        "account = summary(log)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)\n"
        "try:\n"
        "    write_run(sys.argv[1], summary=account, log=log, scenario_yaml='model: tiny', facts=facts)\n"
        "except SimulationError as error:\n"
        "    print(error)\n"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", program, str(tmp_path), str(limit)]
    done = subprocess.run(command, env=env, check=True, capture_output=True, text=True)
    assert done.stdout.startswith(f"{tmp_path / name}: could not be written: "), done.stderr
    assert "too large" in done.stdout
    assert [p.name for p in sorted(tmp_path.iterdir())] == sorted(RUN_FILES[: RUN_FILES.index(name)])


def test_the_summary_is_readable_text() -> None:
    text = summary_json(summary(slo=Slo(ttft_s=0.3)))
    assert json.loads(text) == summary(slo=Slo(ttft_s=0.3)).to_dict()
    series = [line for line in text.splitlines() if '"running": [' in line]
    assert len(series) == 1
    assert series[0].rstrip(",").endswith("]"), "a series of numbers is one line"
    assert text.endswith("}\n")
