"""``tokensim plot`` and ``tokensim report``: figures and pages from the folder of a run."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from handmade import run_facts, run_log, summary
from tokensim.cli.app import app
from tokensim.errors import InputError, SimulationError
from tokensim.report.files import write_run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    write_run(folder, summary=summary(), log=run_log(), scenario_yaml="model: tiny\n", facts=run_facts())
    return folder


def _call(*arguments: object) -> str:
    """What the command prints; raises what it refuses."""
    result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_the_list_names_every_figure(run: Path) -> None:
    lines = _call("plot", run, "--list").splitlines()
    assert lines[0].split() == ["figure", "title"]
    assert ["ttft-cdf", "Time to first token"] in [line.split(maxsplit=1) for line in lines]
    assert not (run / "figures").exists()


def test_chosen_figures_become_files(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    _call("plot", run, "--figure", "cost", "--figure", "bounds", "--format", "json", "--output", out)
    assert sorted(p.name for p in out.iterdir()) == ["bounds.json", "cost.json"]


def test_all_figures_go_into_the_run_folder(run: Path) -> None:
    printed = _call("plot", run, "--format", "json", "--dark").split()
    assert len(printed) == len(list((run / "figures").iterdir())) == 18


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--figure", "cots"), r"no figure 'cots'\n  did you mean 'cost'"),
        (("--format", "jpeg"), "'jpeg' is no format"),
    ],
)
def test_slips_are_refused_with_the_nearest_name(run: Path, arguments: tuple[str, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        _call("plot", run, *arguments)


@pytest.mark.parametrize("command", ["plot", "report"])
def test_a_folder_that_is_none_is_refused(command: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no such folder"):
        _call(command, tmp_path / "nowhere")


def test_a_place_that_cannot_be_written_is_named(run: Path) -> None:
    with pytest.raises(SimulationError, match=r"summary\.json: cannot be written to"):
        _call("plot", run, "--output", run / "summary.json")


def test_the_page_is_made_again_as_it_was(run: Path) -> None:
    before = (run / "report.html").read_bytes()
    (run / "report.html").unlink()
    _call("report", run)
    assert (run / "report.html").read_bytes() == before
    _call("report", run, "--output", run.parent / "page.html")
    assert (run.parent / "page.html").read_bytes() == before
