"""What ``capacity``, ``compare``, ``sensitivity``, ``optimize`` and ``sweep`` leave, and print as JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from test_decisions import SCENARIO

from tokensim import cli

Command = Callable[..., tuple[int, str, str]]

ANSWERS = {
    "capacity": ("capacity.json", ["small.yaml", "--seeds", "2", "--tolerance", "10%"]),
    "compare": ("comparison.json", ["small.yaml", "busy.yaml", "--seeds", "2"]),
    "sensitivity": ("sensitivity.json", ["small.yaml", "--seeds", "2"]),
}
"""Each command, the answer in its folder, and what it is asked."""


@pytest.fixture
def tokensim(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    """Run the command line in a folder with two scenarios and a study; gives (exit code, stdout, stderr)."""
    (tmp_path / "small.yaml").write_text(SCENARIO)
    (tmp_path / "busy.yaml").write_text(SCENARIO.replace("rate: 10", "rate: 20"))
    (tmp_path / "study.yaml").write_text(
        "name: Slots\nscenario: small.yaml\ngoals: [{minimize: ttft}]\nseeds: 2\n"
        "parameters: {engine.max_num_seqs: [2, 64]}\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")

    def call(*arguments: str) -> tuple[int, str, str]:
        more = () if arguments[0] in ("plot", "report") else ("--executor", "serial")
        monkeypatch.setattr(sys, "argv", ["tokensim", *arguments, *more])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return call


@pytest.mark.parametrize("command", ANSWERS)
def test_an_answer_is_kept_where_it_is_asked_for_and_its_page_can_be_made_again(
    tokensim: Command, tmp_path: Path, command: str
) -> None:
    file, asked = ANSWERS[command]
    code, out, _ = tokensim(command, *asked, "--output", "out", "--json")
    assert code == 0
    folder = tmp_path / "out"
    assert (folder / file).read_text(encoding="utf-8") == out
    assert json.loads(out)["title"] == "Small"
    left = {path.name for path in folder.iterdir()} - {"points.sqlite"}
    assert left == {file, "report.html", "scenario.yaml"}
    page = (folder / "report.html").read_bytes()
    (folder / "report.html").unlink()
    assert tokensim("report", "out")[0] == 0
    assert (folder / "report.html").read_bytes() == page
    assert len(page) < 3e6
    code, out, _ = tokensim("plot", "out", "--format", "json", "--output", "pictures")
    names = [Path(line).stem for line in out.splitlines()]
    assert code == 0 and len(names) == len(set(names)) >= 1
    assert all(f'id="figure-{name}"' in page.decode() for name in names)


@pytest.mark.parametrize("command", ["compare", "sensitivity"])
def test_nothing_is_written_unasked_and_no_other_file_is_overwritten(
    tokensim: Command, tmp_path: Path, command: str
) -> None:
    file, asked = ANSWERS[command]
    before = set(tmp_path.rglob("*"))
    assert tokensim(command, *asked, "--quiet")[:2] == (0, "")
    assert set(tmp_path.rglob("*")) == before
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    code, _, err = tokensim(command, *asked, "--output", "out")
    assert code == 2 and "thesis.txt" in err
    (tmp_path / "out" / "thesis.txt").unlink()
    for _ in range(2):  # its own files are no other's
        assert "Files: out" in tokensim(command, *asked, "--output", "out")[1]
    assert (tmp_path / "out" / file).is_file()


def test_a_search_prints_its_answer_as_json(tokensim: Command, tmp_path: Path) -> None:
    code, out, _ = tokensim("optimize", "study.yaml", "--json", "--output", "out")
    assert code == 0
    assert (tmp_path / "out" / "optimum.json").read_text() == out
    plain = json.loads(out)
    assert plain["trials"] == 2 and plain["best"][0]["goals"].keys() == {"ttft"}
    page = (tmp_path / "out" / "report.html").read_bytes()
    assert tokensim("report", "out")[0] == 0
    assert (tmp_path / "out" / "report.html").read_bytes() == page


def test_a_sweep_prints_its_account_as_json_and_at_a_glance(tokensim: Command) -> None:
    code, out, _ = tokensim("sweep", "study.yaml", "--json", "--output", "out")
    plain = json.loads(out)
    assert code == 0 and plain["counts"] == {"ok": 4} and plain["complete"]
    assert plain["best"] == [{"point": 2, "parameters": {"engine.max_num_seqs": 64}}]
    code, out, _ = tokensim("sweep", "study.yaml", "--output", "out", "--resume")
    line = next(line for line in out.splitlines() if line.startswith("TTFT p99 "))
    assert line.split()[2] == "█▁" and line.endswith("at point 2 (max_num_seqs 64)")


def test_points_of_a_sweep_are_compared_with_the_runs_that_they_have(tokensim: Command) -> None:
    assert tokensim("sweep", "study.yaml", "--quiet", "--output", "out")[0] == 0
    code, out, _ = tokensim("compare", "out@0", "out@3", "--json")
    plain = json.loads(out)
    assert code == 0
    assert [side["seeds"] for side in plain["sides"]] == [[0, 1], [0, 1]]
    assert plain["differences"] == {"engine.max_num_seqs": {"out@0": 2, "out@3": 64}}
    gap = plain["figures"]["latency.ttft_s.mean"]["against_first"]["out@3"]
    low, high = gap["interval"]
    assert low < gap["relative"] < high
    code, out, _ = tokensim("compare", "out@0", "busy.yaml", "--json")  # as many seeds as there are
    assert code == 0 and [side["seeds"] for side in json.loads(out)["sides"]] == [[0, 1], [0, 1]]


@pytest.mark.parametrize(
    ("item", "said"),
    [("out", "out@0"), ("out@9", "0 to 3"), ("out@x", "no point 'x'"), ("in@0", "there is no sweep")],
)
def test_what_is_no_point_of_a_sweep_is_refused(tokensim: Command, item: str, said: str) -> None:
    assert tokensim("sweep", "study.yaml", "--quiet", "--output", "out")[0] == 0
    code, out, err = tokensim("compare", "small.yaml", item)
    assert (code, out) == (2, "") and said in err
