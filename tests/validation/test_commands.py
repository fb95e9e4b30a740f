"""``tokensim validate``, ``calibrate`` and ``cases import``: what they print, write and exit with."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from case_files import scenario_tree
from tokensim import cli
from tokensim.cost.calibration import Calibration, load_calibration

Command = Callable[..., tuple[int, str, str]]
TRUTH = Calibration(host_gap_s=2e-3)


@pytest.fixture
def tokensim(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run the command line; gives (exit code, stdout, stderr)."""
    monkeypatch.setenv("COLUMNS", "80")

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["tokensim", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return call


def test_the_table_fits_a_terminal_and_names_every_metric(tokensim: Command, simulated_case: Any) -> None:
    code, out, err = tokensim("validate", simulated_case("a-case"))
    assert (code, err) == (0, "")
    assert "a-case (150 requests)" in out
    assert max(map(len, out.splitlines())) <= 80
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines() if line[:4].strip()}
    for name in ("TTFT", "TPOT", "E2E"):
        assert len([cell for cell in rows[name] if cell.endswith("%")]) == 6  # mean, 4 percentiles, each


def test_the_json_is_as_documented(tokensim: Command, simulated_case: Any) -> None:
    folder = simulated_case("a-case", TRUTH)
    code, out, _ = tokensim("validate", folder, "--json", "-")
    assert code == 0
    (case,) = json.loads(out)["cases"]
    assert case["name"] == "a-case"
    assert case["error"].keys() == {"ttft", "tpot", "e2e", "throughput"}
    assert case["error"]["throughput"].keys() == {"mean"}
    for metric in ("ttft", "tpot", "e2e"):
        assert case["error"][metric].keys() == {"mean", "p50", "p90", "p95", "p99"}
        for name, error in case["error"][metric].items():
            measured, simulated = case["measured"][metric][name], case["simulated"][metric][name]
            assert error == pytest.approx(simulated / measured - 1)
        assert case["per_request"][metric]["mean_absolute_relative"] >= 0
    assert case["error"]["tpot"]["mean"] < -0.1


def test_an_error_above_the_limit_is_exit_code_1(tokensim: Command, simulated_case: Any) -> None:
    folder = simulated_case("a-case", TRUTH)
    assert tokensim("validate", folder, "--fail-above", "90%", "-q")[0] == 0
    code, out, err = tokensim("validate", folder, "--fail-above", "5%", "-q")
    assert (code, out) == (1, "")
    assert re.search(r"error: a-case: a mean is \d+\.\d% off \(> 5\.0%\)", err)
    code, _, err = tokensim("validate", folder, "--fail-above", "much")
    assert code == 2
    assert "'much' is not a share" in err


def test_a_calibration_is_applied(tokensim: Command, simulated_case: Any, tmp_path: Path) -> None:
    folder = simulated_case("a-case", TRUTH)
    file = tmp_path / "c.yaml"
    file.write_text("parameters: {host_gap_s: 0.002}\n", encoding="utf-8")
    assert tokensim("validate", folder, "--calibration", file, "--fail-above", "0.1%")[0] == 0
    set_in_scenario = f"performance.calibration={file}"
    assert tokensim("validate", folder, "--set", set_in_scenario, "--fail-above", "0.1%")[0] == 0


def test_the_others_go_on_when_a_case_cannot_be_simulated(
    tokensim: Command, simulated_case: Any, tmp_path: Path
) -> None:
    good, bad = simulated_case("good"), simulated_case("bad")
    case = yaml.safe_load((bad / "case.yaml").read_text(encoding="utf-8"))
    case["scenario"]["model"] = "meta-llama/Llama-3.1-9B"
    (bad / "case.yaml").write_text(yaml.safe_dump(case), encoding="utf-8")
    code, out, err = tokensim("validate", bad, good)
    assert code == 2
    assert "good (150 requests)" in out
    assert "not simulated" in out
    code, out, err = tokensim("validate", bad, good, "--json", "-")
    tree = json.loads(out)
    assert [c["name"] for c in tree["cases"]] == ["good"]
    assert tree["refused"][0]["name"] == "bad"
    assert "Llama-3.1-9B" in err
    code, out, err = tokensim("validate", bad)
    assert (code, out) == (2, "")
    assert "did you mean" in err


def test_the_page_is_whole_small_and_asks_for_nothing_from_outside(
    tokensim: Command, simulated_case: Any, tmp_path: Path
) -> None:
    folder = simulated_case("a-case", TRUTH, source="<b>a & b</b>")
    page = tmp_path / "out" / "page.html"
    assert tokensim("validate", folder, "--html", page, "-q")[0] == 0
    text = page.read_text(encoding="utf-8")
    assert len(text) < 1_200_000
    assert "default-src 'none'" in text
    own = re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL)  # its policy forbids them to load
    assert not re.search(r"https?:|<script[^>]* src|<link[^>]*href=\"(?!data:)|@import|url\(", own)
    assert text.count("<figure ") == 6  # a distribution and a scatter for each of TTFT, TPOT, E2E
    assert "&lt;b&gt;a &amp; b&lt;/b&gt;" in text
    assert "<b>a" not in text
    first = page.read_bytes()
    assert tokensim("validate", folder, "--html", page, "-q")[0] == 0
    assert page.read_bytes() == first


def test_calibrate_writes_what_validate_applies(
    tokensim: Command, simulated_case: Any, tmp_path: Path
) -> None:
    folder, file = simulated_case("a-case", TRUTH), tmp_path / "c.yaml"
    code, out, err = tokensim("calibrate", folder, "-o", file, "--fit", "host_gap")
    assert (code, err) == (0, "")
    assert re.search(r"host_gap\s+(2\.0\d|1\.9\d) ms\s+\S+ \S+\s+0 s to 5\.00 ms", out)
    assert max(map(len, out.splitlines())) <= 80
    assert load_calibration(file).host_gap_s == pytest.approx(2e-3, rel=0.03)
    assert tokensim("validate", folder, "--calibration", file, "--fail-above", "2%", "-q")[0] == 0


def test_calibrate_refuses_what_it_cannot_tell(
    tokensim: Command, simulated_case: Any, tmp_path: Path
) -> None:
    code, _, err = tokensim("calibrate", simulated_case(), "-o", tmp_path / "c.yaml", "--fit", "host_step")
    assert code == 2
    assert "do not show host_step" in err
    assert not (tmp_path / "c.yaml").exists()


def result_file(folder: Path) -> Path:
    """A result of vllm bench serve with two requests."""
    file = folder / "result.json"
    result = {
        "model_id": "meta-llama/Llama-3.1-8B",
        "request_rate": "inf",
        "max_concurrency": 1,
        "total_input_tokens": 30,
        "request_throughput": 1.0,
        "input_lens": [10, 20],
        "output_lens": [3, 3],
        "ttfts": [0.1, 0.1],
        "itls": [[0.1, 0.1], [0.1, 0.1]],
        "start_times": [5.0, 5.3],
        "errors": ["", ""],
    }
    file.write_text(json.dumps(result), encoding="utf-8")
    return file


def test_an_imported_case_can_be_validated(tokensim: Command, tmp_path: Path) -> None:
    case = tmp_path / "case"
    code, out, err = tokensim(
        *("cases", "import", result_file(tmp_path), "-o", case, "--hardware", "h100-sxm-80gb"),
        *("--set", "engine.max_num_seqs=8", "--set", "performance.operators=roofline"),
    )
    assert (code, err) == (0, "")
    assert "vllm bench serve: 2 requests" in out
    tree = yaml.safe_load((case / "case.yaml").read_text(encoding="utf-8"))
    assert tree["name"] == "case"
    assert tree["scenario"]["engine"] == {"max_num_seqs": 8}
    code, out, err = tokensim("validate", case)
    assert (code, err) == (0, "")
    assert "case (2 requests)" in out


def test_a_scenario_says_what_served_and_keeps_its_files(tokensim: Command, tmp_path: Path) -> None:
    scenario = tmp_path / "scenarios" / "s.yaml"
    scenario.parent.mkdir()
    tree = {**scenario_tree(), "performance": {"operators": "../tables/mine"}}
    workload = {"arrivals": {"process": "all-at-once"}, "num_requests": 1}
    scenario.write_text(yaml.safe_dump({**tree, "workload": workload}), encoding="utf-8")
    code, _, err = tokensim(
        "cases", "import", result_file(tmp_path), "-o", tmp_path / "c", "--scenario", scenario
    )
    assert (code, err) == (0, "")
    written = yaml.safe_load((tmp_path / "c" / "case.yaml").read_text(encoding="utf-8"))["scenario"]
    assert "workload" not in written
    assert written["performance"]["operators"] == str(tmp_path / "tables" / "mine")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "what hardware served it"),
        (("--hardware", "h100-sxm-80g"), "did you mean 'h100-sxm-80gb'"),
        (("--hardware", "h100-sxm-80gb", "--set", "engine.max_num_seq=1"), "unknown key 'max_num_seq'"),
        (("--hardware", "h100-sxm-80gb", "--model", "nobody/nothing"), "nobody/nothing"),
    ],
)
def test_an_import_that_says_too_little_or_wrong_writes_nothing(
    tokensim: Command, tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    code, _, err = tokensim("cases", "import", result_file(tmp_path), "-o", tmp_path / "c", *options)
    assert code == 2
    assert message in err
    assert not (tmp_path / "c").exists()
