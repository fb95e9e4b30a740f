"""``tokensim run`` to the end, on the real simulator: files, late refusals, interruptions, a full disk."""

from __future__ import annotations

import contextlib
import json
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tokensim import cli
from tokensim.report.files import RUN_FILES

pytest.importorskip("tokensim.assemble")

EXAMPLES = Path(__file__).parents[2] / "examples"
QUICKSTART = str(EXAMPLES / "quickstart.yaml")
SHORT = ("--num-requests", "50")

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def tokensim(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    """Run the command line in an empty folder; gives (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["tokensim", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return call


def files(folder: str) -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir())


def test_the_quickstart_leaves_every_file_and_a_table(tokensim: Command) -> None:
    code, out, err = tokensim("run", QUICKSTART, *SHORT, "--output", "out")
    assert (code, err) == (0, "")
    assert files("out") == sorted(RUN_FILES)
    for word in ("TTFT", "TPOT", "p99"):
        assert word in out


def test_the_scenario_that_a_run_leaves_repeats_it_exactly(tokensim: Command) -> None:
    assert tokensim("run", QUICKSTART, *SHORT, "-q", "--output", "a")[0] == 0
    assert tokensim("run", "a/scenario.yaml", "-q", "--output", "b")[0] == 0
    for name in RUN_FILES:
        assert (Path("a") / name).read_bytes() == (Path("b") / name).read_bytes(), name


@pytest.mark.parametrize("example", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_example_runs(tokensim: Command, example: Path) -> None:
    if "trace" in example.stem:
        pytest.skip("replays a trace that is not part of the project")
    code, _, err = tokensim("run", str(example), *SHORT, "-q", "--output", "out")
    assert (code, err) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--set", "engine.policy=vlm"), ["engine.policy", "vlm", "did you mean 'vllm'"]),
        (("--set", "cluster.router=rund-robin"), ["cluster.router", "did you mean 'round-robin'"]),
        (("--set", "performance.operators=rooflin"), ["performance.operators", "rooflin"]),
        (("--model", "meta-llama/Llama-3.1-405B"), ["H100", "GB"]),
        (("-tp", "3"), ["cluster.pools[0].parallel.tensor", "3"]),
        (("--model", "meta-llama/Lama-3.1-8B"), ["did you mean 'meta-llama/Llama-3.1-8B'"]),
        (("--hardware", "h100-smx-80gb"), ["cluster.pools[0].hardware", "h100-sxm-80gb"]),
        (("--max-model-len", "1000000"), ["max_model_len", "131072"]),
        (("--trace", "none.csv"), ["none.csv"]),
    ],
)
def test_what_cannot_run_is_refused_before_it_starts(
    tokensim: Command, arguments: tuple[str, ...], said: list[str]
) -> None:
    code, out, err = tokensim("run", QUICKSTART, *arguments, "--output", "out")
    assert (code, out) == (2, "")
    for words in said:
        assert words.lower() in err.lower()
    assert err.startswith("error: ")
    assert "Traceback" not in err
    assert not Path("out").exists()


def test_ctrl_c_in_the_middle_delivers_partial_results_that_say_so(
    tokensim: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextlib.contextmanager
    def interrupting(quiet: bool) -> Iterator[Callable[[float, int, int], None]]:
        def progress(simulated_s: float, done: int, total: int) -> None:
            if done > 0:
                signal.raise_signal(signal.SIGINT)

        yield progress

    monkeypatch.setattr("tokensim.cli.progress.progress_bar", interrupting)
    code, out, err = tokensim(
        "run", QUICKSTART, "--num-requests", "100000", "--exact-steps", "--output", "out"
    )
    assert code == 1
    assert err == "error: interrupted; the results are partial\n"
    assert "partial" in out
    assert files("out") == sorted(RUN_FILES)
    assert json.loads(Path("out/summary.json").read_text())["complete"] is False


def test_a_full_disk_at_the_end_is_told_and_leaves_no_half_file(tmp_path: Path) -> None:
    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

    done = subprocess.run(
        [
            *(sys.executable, "-c", "from tokensim.cli import main; main()"),
            *("run", QUICKSTART, *SHORT, "--output", str(tmp_path / "out")),
        ],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=small_files,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "could not be written" in done.stderr
    assert "Traceback" not in done.stderr
    left = files(str(tmp_path / "out"))
    assert "summary.json" not in left
    assert not [name for name in left if name.endswith(".partial")]
