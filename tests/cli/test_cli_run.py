"""``tokensim run``: what the command line becomes, what is printed, and the exit codes."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from handmade import run_log
from tokensim import cli
from tokensim.errors import InputError, SimulationError
from tokensim.scenario import Scenario
from tokensim.scenario.performance import Performance

SCENARIO = """\
model: meta-llama/Llama-3.1-8B
cluster:
  pools:
    - hardware: h100-sxm-80gb
workload:
  arrivals: {process: gamma, rate: 5, burstiness: 0.5}
  input_tokens: 512
  output_tokens: 64
  num_requests: 10
"""


class FakeResult:
    """Stands for the result of a simulation."""

    wall_s = 0.1
    summary = None
    log = run_log()
    scenario = types.SimpleNamespace(performance=Performance())

    def __init__(self, complete: bool = True) -> None:
        self.complete = complete

    def save(self, folder: Path) -> None:
        (Path(folder) / "summary.json").write_text("{}")


class Runs:
    """What ``simulate`` was asked for, and how it answers."""

    def __init__(self) -> None:
        self.scenarios: list[Scenario] = []
        self.options: dict[str, Any] = {}
        self.answer: Callable[[], FakeResult] = FakeResult

    def simulate(self, scenario: Scenario, **options: Any) -> FakeResult:
        self.scenarios.append(scenario)
        self.options = options
        return self.answer()


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Runs:
    """A command line in an empty folder, whose simulations are only noted."""
    fake, module = Runs(), types.ModuleType("tokensim.assemble")
    module.simulate = fake.simulate  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tokensim.assemble", module)
    monkeypatch.setattr("tokensim.report.terminal.print_report", lambda *_, **__: print("REPORT"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s.yaml").write_text(SCENARIO)
    return fake


@pytest.fixture
def tokensim(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Run the command line; gives (exit code, stdout, stderr)."""

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["tokensim", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return call


Command = Callable[..., tuple[int, str, str]]


def test_a_run_prints_the_report_leaves_files_and_exits_with_0(runs: Runs, tokensim: Command) -> None:
    code, out, err = tokensim("run", "s.yaml", "--output", "out/deep")
    assert (code, err) == (0, "")
    assert out == "REPORT\nFiles: out/deep\n"
    assert Path("out/deep/summary.json").is_file()


def test_without_output_the_files_go_to_a_folder_of_the_scenarios_name(runs: Runs, tokensim: Command) -> None:
    assert tokensim("run", "s.yaml")[0] == 0
    assert Path("runs/s/summary.json").is_file()


def test_no_output_writes_nothing(runs: Runs, tokensim: Command) -> None:
    assert tokensim("run", "s.yaml", "--no-output")[0] == 0
    assert [path.name for path in Path().iterdir()] == ["s.yaml"]


def test_quiet_prints_nothing(runs: Runs, tokensim: Command) -> None:
    assert tokensim("run", "s.yaml", "--quiet") == (0, "", "")


def test_set_and_short_options_win_over_the_file(runs: Runs, tokensim: Command) -> None:
    tokensim(
        *("run", "s.yaml", "-q", "--max-num-seqs", "99", "--hardware", "l4-24gb", "--seed", "7", "-tp", "2"),
        *("--set", "engine.max_num_seqs=512", "--set", "cluster.pools[0].hardware=h200-sxm-141gb"),
        *("--exact-steps", "-pp", "3"),
    )
    scenario = runs.scenarios[0]
    assert scenario.cluster.pools[0].parallel.pipeline == 3
    assert scenario.engine.max_num_seqs == 512
    assert scenario.cluster.pools[0].hardware == "h200-sxm-141gb"
    assert scenario.cluster.pools[0].parallel.tensor == 2
    assert scenario.seed == 7
    assert runs.options["exact_steps"] is True


def test_a_rate_keeps_the_files_process(runs: Runs, tokensim: Command) -> None:
    tokensim("run", "s.yaml", "-q", "--rate", "9")
    arrivals = runs.scenarios[0].workload.arrivals
    assert arrivals is not None
    assert arrivals.model_dump(exclude_none=True) == {"process": "gamma", "rate": 9, "burstiness": 0.5}


def test_an_infinite_rate_is_all_at_once(runs: Runs, tokensim: Command) -> None:
    tokensim("run", "s.yaml", "-q", "--rate", "inf")
    arrivals = runs.scenarios[0].workload.arrivals
    assert arrivals is not None
    assert arrivals.process == "all-at-once"


def test_a_trace_replaces_the_files_workload_and_counts_from_here(runs: Runs, tokensim: Command) -> None:
    tokensim("run", "s.yaml", "-q", "--trace", "t.csv", "--rate-scale", "2", "--num-requests", "5")
    workload = runs.scenarios[0].workload
    assert workload.trace is not None
    assert workload.trace.path == str(Path("t.csv").absolute())
    assert (workload.trace.rate_scale, workload.trace.limit) == (2, 5)
    assert workload.arrivals is None
    assert workload.input_tokens is None


def test_a_rate_replaces_a_traces_arrivals(runs: Runs, tokensim: Command) -> None:
    tokensim("run", "s.yaml", "-q", "--trace", "t.csv", "--rate", "3")
    workload = runs.scenarios[0].workload
    assert workload.arrivals is not None
    assert workload.arrivals.model_dump() == {"process": "poisson", "rate": 3}


def test_options_alone_make_a_scenario(runs: Runs, tokensim: Command) -> None:
    code, _, err = tokensim(
        *("run", "-q", "--model", "Qwen/Qwen3-8B", "--hardware", "l40s-48gb", "--weights", "fp8"),
        *("--rate", "4", "--input-tokens", "100", "--output-tokens", "{distribution: exponential, mean: 50}"),
    )
    assert (code, err) == (0, "")
    scenario = runs.scenarios[0]
    assert (scenario.model, scenario.weights) == ("Qwen/Qwen3-8B", "fp8")
    assert scenario.workload.num_requests == 1000
    assert scenario.workload.output_tokens is not None
    assert scenario.workload.output_tokens.distribution == "exponential"
    assert Path("runs/command-line/summary.json").is_file()


def test_set_alone_makes_a_scenario(runs: Runs, tokensim: Command) -> None:
    workload = "workload={trace: {path: a.csv}}"
    code, _, err = tokensim(
        "run", "-q", *("--set", "model=m"), *("--set", "cluster.pools[0].hardware=h"), *("--set", workload)
    )
    assert (code, err) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "error: no scenario file, and no --model or --hardware\n  tokensim run SCENARIO.yaml, or"),
        (["--model", "m", "--hardware", "h"], "error: no workload is given\n  --trace FILE, or --rate R"),
        (["--model", "m", "--trace", "t"], "error: no scenario file, and no --hardware\n"),
        (
            ["s.yaml", "--rate", "fast"],
            "error: --rate fast: 'fast' is not a rate\n  requests a second, or inf",
        ),
        (
            ["s.yaml", "--rate", "-1"],
            "error: s.yaml: --rate -1: workload.arrivals.rate: -1 is not right: must be more",
        ),
        (
            ["s.yaml", "--max-num-seqs", "x"],
            "--max-num-seqs x: engine.max_num_seqs: 'x' is not right: must be a whole",
        ),
        (["s.yaml", "--rate-scale", "2"], "error: --rate-scale 2: there is no trace to scale\n  --rate sets"),
        (
            ["s.yaml", "--set", "engine.max_seqs=1"],
            "error: --set engine.max_seqs=1: unknown key 'max_seqs' in engine",
        ),
        (
            ["s.yaml", "--set", "weights=fp9"],
            "error: s.yaml: --set weights=fp9: weights: unknown value 'fp9'",
        ),
        (["s.yaml", "--plugin", "none.py"], "error: none.py: no such plug-in file"),
        (["nothing.yaml"], "error: nothing.yaml: no such file\n  did you mean 's.yaml'?"),
        (["s.yaml", "--no-such-option"], "No such option: --no-such-option"),
        (
            ["s.yaml", "--output", "s.yaml"],
            "error: s.yaml: is a file, not a folder\n  give another folder with --out",
        ),
        (["s.yaml", "--output", "s.yaml/out"], "error: s.yaml/out: cannot be written to: Not a directory"),
    ],
)
def test_refused_input_exits_with_2_and_says_why(
    runs: Runs, tokensim: Command, arguments: list[str], said: str
) -> None:
    code, out, err = tokensim("run", *arguments)
    assert (code, out) == (2, "")
    assert said in err
    assert "Traceback" not in err
    assert not runs.scenarios


def test_short_options_for_the_pool_are_refused_when_there_are_several(runs: Runs, tokensim: Command) -> None:
    Path("s.yaml").write_text(SCENARIO.replace("workload:", "    - {name: b, hardware: l4-24gb}\nworkload:"))
    code, _, err = tokensim("run", "s.yaml", "--hardware", "l40s-48gb")
    assert code == 2
    assert "the cluster has 2 pools\n  say which: --set cluster.pools[0].hardware=" in err


def test_a_folder_with_other_files_is_refused_unless_forced(runs: Runs, tokensim: Command) -> None:
    Path("mine").mkdir()
    Path("mine/thesis.tex").write_text("x")
    code, _, err = tokensim("run", "s.yaml", "--output", "mine")
    assert code == 2
    assert err == (
        "error: mine: the folder holds other files (thesis.tex)\n"
        "  give another folder with --output, or --force to write beside them\n"
    )
    assert tokensim("run", "s.yaml", "--output", "mine", "--force", "-q")[0] == 0
    assert Path("mine/thesis.tex").read_text() == "x"


def test_an_earlier_run_is_overwritten_even_a_killed_one(runs: Runs, tokensim: Command) -> None:
    Path("out").mkdir()
    Path("out/.steps.parquet.partial").write_text("half")
    Path("out/scenario.yaml").write_text("old")
    assert tokensim("run", "s.yaml", "--output", "out", "-q")[0] == 0
    assert tokensim("run", "s.yaml", "--output", "out", "-q")[0] == 0


def test_what_the_simulation_refuses_names_the_file_and_line(runs: Runs, tokensim: Command) -> None:
    def refuse() -> FakeResult:
        raise InputError("does not fit", where="cluster.pools[0].hardware", hint="use two")

    runs.answer = refuse
    code, _, err = tokensim("run", "s.yaml", "--output", "out/deep")
    assert code == 2
    assert err == "error: s.yaml: line 4: cluster.pools[0].hardware: does not fit\n  use two\n"
    assert not Path("out").exists()


def test_what_a_trace_refuses_is_told_as_it_is(runs: Runs, tokensim: Command) -> None:
    def refuse() -> FakeResult:
        raise InputError("time goes back", where="/data/t.csv:7")

    runs.answer = refuse
    assert tokensim("run", "s.yaml")[::2] == (2, "error: /data/t.csv:7: time goes back\n")


def test_a_run_that_cannot_be_completed_exits_with_1(runs: Runs, tokensim: Command) -> None:
    def fail() -> FakeResult:
        raise SimulationError("out/summary.json: could not be written: No space left on device")

    runs.answer = fail
    code, out, err = tokensim("run", "s.yaml")
    assert (code, out) == (1, "")
    assert err == "error: out/summary.json: could not be written: No space left on device\n"


def test_an_interrupted_run_delivers_what_there_is_and_exits_with_1(runs: Runs, tokensim: Command) -> None:
    runs.answer = lambda: FakeResult(complete=False)
    code, out, err = tokensim("run", "s.yaml", "--output", "out")
    assert code == 1
    assert "REPORT" in out
    assert err == "error: interrupted; the results are partial\n"
    assert Path("out/summary.json").is_file()


def test_an_interrupt_before_the_first_event_leaves_nothing(runs: Runs, tokensim: Command) -> None:
    def interrupt() -> FakeResult:
        raise KeyboardInterrupt

    runs.answer = interrupt
    code, out, err = tokensim("run", "s.yaml", "--output", "out")
    assert (code, out) == (1, "")
    assert err == "error: interrupted before there was a result; nothing was written\n"
    assert not Path("out").exists()


def test_a_defect_shows_one_line_and_the_way_to_more(
    runs: Runs, tokensim: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash() -> FakeResult:
        raise KeyError("lost")

    runs.answer = crash
    code, out, err = tokensim("run", "s.yaml")
    assert (code, out) == (1, "")
    assert err.startswith("error: internal error: KeyError: 'lost'\n")
    assert "TOKENSIM_DEBUG=1 shows where" in err
    monkeypatch.setenv("TOKENSIM_DEBUG", "1")
    monkeypatch.setattr(sys, "argv", ["tokensim", "run", "s.yaml"])
    with pytest.raises(KeyError):
        cli.main()


def test_running_out_of_memory_is_told(runs: Runs, tokensim: Command) -> None:
    def exhaust() -> FakeResult:
        raise MemoryError

    runs.answer = exhaust
    code, _, err = tokensim("run", "s.yaml")
    assert code == 1
    assert err.startswith("error: out of memory; ")


def test_a_plug_in_is_loaded_before_the_scenario_is_read(runs: Runs, tokensim: Command) -> None:
    Path("mine.py").write_text(
        "from tokensim.registry import register\n"
        "@register.arrival_process('cli-test-burst')\n"
        "def burst(size: int):\n"
        "    return size\n"
    )
    text = SCENARIO.replace(
        "{process: gamma, rate: 5, burstiness: 0.5}", "{process: cli-test-burst, size: 3}"
    )
    Path("s.yaml").write_text(text)
    assert tokensim("run", "s.yaml", "-q", "--plugin", "mine.py") == (0, "", "")
