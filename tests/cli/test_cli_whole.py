"""``tokensim run`` to the end, on the real simulator: files, late refusals, interruptions, a full disk."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tokensim import cli
from tokensim.report.files import RUN_FILES

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
        # unknown keys and names
        (("--set", "engin.max_num_seqs=1"), "unknown key 'engin' in the scenario\n  did you mean 'engine'?"),
        (
            ("--set", "engine.policy=vlm"),
            "engine.policy: unknown local scheduler 'vlm'\n  did you mean 'vllm'",
        ),
        (("--set", "cluster.router=rund-robin"), "did you mean 'round-robin'"),
        (
            ("--set", "performance.operators=rooflin"),
            "performance.operators: unknown source of operator times 'rooflin'",
        ),
        (("--model", "meta-llama/Lama-3.1-8B"), "did you mean 'meta-llama/Llama-3.1-8B'"),
        (("--hardware", "h100-smx-80gb"), "cluster.pools[0].hardware"),
        (("--hardware", "h100-smx-80gb"), "did you mean 'h100-sxm-80gb'"),
        (("--hardware", "mine.yaml"), "cluster.pools[0].hardware: no such device file"),
        (("--model", "./config.json"), "model: no such file or folder"),
        # wrong types, units and values
        (("--max-num-seqs", "lots"), "engine.max_num_seqs: 'lots' is not right: must be a whole number"),
        (
            ("--set", "slo.ttft=500miles"),
            "slo.ttft: '500miles' is not a duration: unknown unit 'miles'; write",
        ),
        (("--rate", "-3"), "workload.arrivals.rate: -3 is not right: must be more than 0"),
        (("--num-requests", "0"), "workload.num_requests: 0 is not right: must be more than 0"),
        (("--seed", "-1"), "seed: -1 is not right: must be at least 0"),
        # a deployment that cannot be
        (
            ("--model", "meta-llama/Llama-3.1-405B"),
            "line 15: cluster.pools[0].hardware: meta-llama/Llama-3.1-405B does not fit on h100-sxm-80gb: ",
        ),
        (
            ("--model", "meta-llama/Llama-3.1-405B"),
            "GiB a device: more tensor-parallel ranks, a larger device",
        ),
        (
            ("--gpu-memory-utilization", "0.1"),
            "it needs 17.3 GiB a device: engine.gpu_memory_utilization of 0.22 or more, more",
        ),
        (
            ("-tp", "3"),
            "--tensor-parallel-size 3: cluster.pools[0].parallel.tensor: 3 does not divide the model's "
            "attention heads, 32 (meta-llama/Llama-3.1-8B)\n  possible: 1, 2, 4, 8, 16, 32",
        ),
        (
            ("--max-model-len", "1000000"),
            "max_model_len is 1000000, but the model's context ends at 131072 tokens",
        ),
        (
            ("--set", "engine.num_gpu_blocks=100", "--max-model-len", "2000"),
            "max_model_len is 2000, but the KV pool holds only 1584 tokens (99 blocks of 16)",
        ),
        # requests that cannot be served
        (
            ("--input-tokens", "200000"),
            "workload: every prompt is too long: the shortest has 200000 tokens, max_model_len is 131072",
        ),
        (
            ("--input-tokens", "2000", "--set", "engine.num_gpu_blocks=100"),
            "workload: every prompt is too long: the shortest has 2000 tokens, max_model_len is 1584",
        ),
        # a trace that is not there
        (("--trace", "none.csv"), "none.csv: no such file\n  there is none like it in"),
        (("--trace", "."), "is a folder\n  give the path of a file"),
    ],
)
def test_what_cannot_run_is_refused_before_it_starts(
    tokensim: Command, arguments: tuple[str, ...], said: str
) -> None:
    code, out, err = tokensim("run", QUICKSTART, *arguments, "--output", "out")
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert said in err
    assert "Traceback" not in err
    assert not Path("out").exists()


HEADER = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
ROW_1, ROW_2 = "2023-11-16 18:17:03.9799600,4808,10\n", "2023-11-16 18:17:04.0319600,3180,8\n"
OURS = "arrival_s,input_tokens,output_tokens\n0,5,5\n"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "t.csv: the file is empty\n  a trace has one request a row"),
        (
            (HEADER + ROW_1 + ROW_2[:-9]).encode(),
            "t.csv, line 3: 1 field where the header has 3 (the last line is cut off)",
        ),
        ((HEADER + ROW_1).encode() + b"\x00\x01\x02", "t.csv, line 3: the file is binary, not text"),
        ((HEADER + ROW_1).encode("utf-16"), "t.csv: the file is UTF-16\n  save it as UTF-8"),
        ((HEADER + ROW_1).encode() + b"\xe9,1,2\n", "t.csv, line 3: byte 0xe9 is not UTF-8"),
        (
            (
                HEADER + ROW_1 + '{"timestamp": 0, "input_length": 6, "output_length": 5, "hash_ids": [0]}\n'
            ).encode(),
            "t.csv, line 3: 4 fields where the header has 3\n  one file, one format",
        ),
        (
            (OURS + "nan,5,5\n").encode(),
            "t.csv, line 3: 'arrival_s' is nan\n  expected a time in s, or a date",
        ),
        (
            (HEADER + ROW_2 + ROW_1).encode(),
            "t.csv, line 3: time goes backwards: 'TIMESTAMP' is 2023-11-16 18:17:03",
        ),
    ],
    ids=["empty", "truncated", "binary", "utf-16", "latin-1", "mixed", "nan", "backwards"],
)
def test_a_bad_trace_is_refused_by_file_and_line(tokensim: Command, data: bytes, said: str) -> None:
    Path("t.csv").write_bytes(data)
    code, out, err = tokensim("run", QUICKSTART, "--trace", "t.csv", "--output", "out")
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert said in err
    assert not Path("out").exists()


def test_a_request_longer_than_the_context_is_rejected_and_counted(tokensim: Command) -> None:
    Path("t.csv").write_text(OURS + "1,131072,5\n2,131070,5\n")
    code, out, err = tokensim("run", QUICKSTART, "--trace", "t.csv", "--output", "out")
    assert (code, err) == (0, "")
    assert "2 of 3 requests served (1 cut short) in" in out
    assert "of simulated time, 1 rejected" in out
    assert "1 of 3 requests rejected on arrival, being longer than the context" in out
    counts = json.loads(Path("out/summary.json").read_text())["requests"]
    assert counts == {
        "total": 3,
        "finished": 1,
        "truncated": 1,
        "rejected": 1,
        "failed": 0,
        "cancelled": 0,
        "unfinished": 0,
    }


def test_a_request_longer_than_the_pool_is_rejected_and_the_bound_is_told(tokensim: Command) -> None:
    Path("t.csv").write_text(OURS + "1,1584,5\n2,1500,5\n")
    code, out, _ = tokensim(
        "run", QUICKSTART, "--trace", "t.csv", "--set", "engine.num_gpu_blocks=100", "--output", "out"
    )
    assert code == 0
    assert "2 of 3 requests served in" in out
    assert "max_model_len is 1,584, what the KV pool holds" in " ".join(out.split())


def test_an_unwritable_folder_is_refused_before_the_simulation(
    tokensim: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def deny(path: Path, data: bytes) -> int:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "write_bytes", deny)
    code, out, err = tokensim("run", QUICKSTART, *SHORT, "--output", "out")
    assert (code, out) == (2, "")
    assert err == "error: out: cannot be written to: Permission denied\n  give another folder with --output\n"


def test_a_folder_without_write_permission_is_refused(tokensim: Command) -> None:
    Path("locked").mkdir(mode=0o555)
    if os.access("locked", os.W_OK):
        pytest.skip("permissions do not bind this user")
    code, _, err = tokensim("run", QUICKSTART, *SHORT, "--output", "locked/out")
    assert code == 2
    assert err.startswith("error: locked/out: cannot be written to: Permission denied\n")


@pytest.mark.parametrize("arrivals", ["{process: poisson, rate: 8}", "all-at-once"])
def test_ctrl_c_in_the_middle_delivers_partial_results_that_say_so(
    tokensim: Command, monkeypatch: pytest.MonkeyPatch, arrivals: str
) -> None:
    @contextlib.contextmanager
    def interrupting(quiet: bool) -> Iterator[Callable[[float, int, int], None]]:
        pressed = False

        def progress(simulated_s: float, done: int, total: int) -> None:
            nonlocal pressed
            if 0 < done < total and not pressed:
                pressed = True
                signal.raise_signal(signal.SIGINT)

        yield progress

    monkeypatch.setattr("tokensim.cli.progress.progress_bar", interrupting)
    many = ("--num-requests", "50000", "--set", f"workload.arrivals={arrivals}")
    code, out, err = tokensim("run", QUICKSTART, *many, "--output", "out")
    assert code == 1
    assert err == "error: interrupted; the results are partial\n"
    assert "PARTIAL RESULTS: " in out
    assert "partial results: the run was interrupted at" in out
    assert files("out") == sorted(RUN_FILES)
    summary = json.loads(Path("out/summary.json").read_text())
    assert summary["complete"] is False
    counts = summary["requests"]
    assert counts["finished"] + counts["unfinished"] == counts["total"] == 50000
    assert counts["finished"] > 0
    assert counts["unfinished"] > 0
    assert json.loads(Path("out/trace.json").read_text())["otherData"]["complete"] is False


PROGRAM = "from tokensim.cli import main; main()"


def test_ctrl_c_as_a_signal_to_the_process_exits_with_1(tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ("run", QUICKSTART, "--num-requests", "100000", "--exact-steps", "--output", str(out))
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while not out.exists() and time.monotonic() < deadline:  # made when the scenario has been accepted
        time.sleep(0.02)
    time.sleep(1.0)
    process.send_signal(signal.SIGINT)
    shown, said = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "Traceback" not in said
    if out.exists():  # the simulation had begun
        assert said == "error: interrupted; the results are partial\n"
        assert "PARTIAL RESULTS" in shown
        assert files(str(out)) == sorted(RUN_FILES)
    else:
        assert said == "error: interrupted before there was a result; nothing was written\n"


@pytest.mark.parametrize("whole", range(len(RUN_FILES)))
def test_a_process_killed_while_it_writes_leaves_no_half_file(tmp_path: Path, whole: int) -> None:
    """SIGKILL just before the file after the first ``whole`` ones would take its name."""
    dying = (
        "import os, signal\n"
        "syncs, sync = [], os.fsync\n"
        "def fsync(file):\n"
        "    syncs.append(file)\n"
        f"    if len(syncs) > {whole}: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    sync(file)\n"
        "os.fsync = fsync\n" + PROGRAM
    )
    out = tmp_path / "out"
    arguments = ("run", QUICKSTART, *SHORT, "-q", "--output", str(out))
    done = subprocess.run([sys.executable, "-c", dying, *arguments], capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL
    left = [name for name in files(str(out)) if not name.endswith(".partial")]
    assert left == sorted(RUN_FILES[:whole])
    assert "summary.json" not in left

    again = subprocess.run([sys.executable, "-c", PROGRAM, *arguments], capture_output=True, check=False)
    assert (again.returncode, again.stderr) == (0, b"")
    assert files(str(out)) == sorted(RUN_FILES)


def test_a_full_device_behind_standard_output_is_told(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, "run", QUICKSTART, *SHORT, "--output", str(tmp_path / "out")],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr.startswith("error: standard output: No space left on device\n")
    assert "defect" not in done.stderr
    assert files(str(tmp_path / "out")) == sorted(RUN_FILES)


def test_a_full_disk_at_the_end_is_told_and_leaves_no_half_file(tmp_path: Path) -> None:
    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

    done = subprocess.run(
        [
            *(sys.executable, "-c", PROGRAM),
            *("run", QUICKSTART, *SHORT, "--output", str(tmp_path / "out")),
        ],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=small_files,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "requests.parquet: could not be written: File too large; an older file is untouched" in done.stderr
    assert "Traceback" not in done.stderr
    left = files(str(tmp_path / "out"))
    assert "summary.json" not in left
    assert not [name for name in left if name.endswith(".partial")]
