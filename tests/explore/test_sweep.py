"""A sweep keeps what it has, goes on from it, survives what fails, and gives the same wherever it runs."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from test_study import SCENARIO, study

from tokensim.errors import InputError
from tokensim.explore.executors import make_executor
from tokensim.explore.executors.local import LocalExecutor
from tokensim.explore.study import Study
from tokensim.explore.sweep import sweep
from tokensim.explore.task import Outcome, Task, evaluate, flatten

SERIAL = make_executor("serial")


class Counting:
    """Runs here, and counts."""

    def __init__(self, stop_after: int = 1 << 30) -> None:
        self.ran: list[int] = []
        self.stop_after = stop_after

    def run(self, tasks: Iterable[Task]) -> Iterator[Outcome]:
        for task in tasks:
            if len(self.ran) == self.stop_after:
                raise KeyboardInterrupt
            self.ran.append(task.key)
            yield evaluate(task)


def small(values: list[Any] | None = None, **keys: Any) -> Study:
    return study({"workload.arrivals.rate": values or [1, 10, 100]}, **keys)


def test_each_row_has_its_parameters_its_seed_and_the_figures_of_that_very_run() -> None:
    from tokensim import Scenario, simulate

    frame = sweep(small(seeds=2), executor=SERIAL).frame
    assert frame["point"].to_list() == [0, 1, 2, 3, 4, 5]
    assert frame["workload.arrivals.rate"].to_list() == [1, 1, 10, 10, 100, 100]
    assert frame["seed"].to_list() == [7, 8] * 3
    assert set(frame["status"]) == {"ok"}
    workload = {**SCENARIO["workload"], "arrivals": {"process": "poisson", "rate": 10}}
    alone = simulate(Scenario.model_validate({**SCENARIO, "workload": workload, "seed": 8}))
    assert frame["latency.ttft_s.p99"][3] == alone.summary.to_dict()["latency"]["ttft_s"]["p99"]


def test_the_same_bytes_whoever_runs_it(tmp_path: Path) -> None:
    sweep(small(seeds=2), tmp_path / "here", executor=SERIAL)
    sweep(small(seeds=2), tmp_path / "there", executor=LocalExecutor(2))
    here, there = ((tmp_path / name / "results.parquet").read_bytes() for name in ("here", "there"))
    assert here == there


def test_a_point_that_fails_says_why_in_its_row_and_the_rest_goes_on() -> None:
    parts = {"cluster.pools[0].parallel.tensor": [1, 3, 2]}
    result = sweep(study(parts), executor=SERIAL)
    assert result.frame["status"].to_list() == ["ok", "refused", "ok"]
    assert "3" in result.frame["error"][1]
    assert result.counts == {"ok": 2, "refused": 1}
    assert result.frame["latency.ttft_s.p50"].null_count() == 1


def test_an_interrupted_sweep_goes_on_where_it_was(tmp_path: Path) -> None:
    first = sweep(small(), tmp_path, executor=Counting(stop_after=2))
    assert not first.complete and len(first.frame) == 2
    rest = Counting()
    second = sweep(small(), tmp_path, executor=rest, resume=True)
    assert rest.ran == [2]
    assert second.complete and second.reused == 2
    assert second.frame.equals(sweep(small(), executor=SERIAL).frame)


def test_a_study_that_changed_keeps_the_runs_that_it_shares(tmp_path: Path) -> None:
    sweep(small([1, 10]), tmp_path, executor=SERIAL)
    rest = Counting()
    result = sweep(small([5, 10]), tmp_path, executor=rest, resume=True)
    assert rest.ran == [0]
    assert result.frame["workload.arrivals.rate"].to_list() == [5, 10]


def test_what_failed_is_run_again_only_if_asked(tmp_path: Path) -> None:
    parts = study({"cluster.pools[0].parallel.tensor": [1, 3]})
    sweep(parts, tmp_path, executor=SERIAL)
    again, anew = Counting(), Counting()
    sweep(parts, tmp_path, executor=again, resume=True)
    sweep(parts, tmp_path, executor=anew, resume=True, retry=True)
    assert (again.ran, anew.ran) == ([], [1])


def test_results_are_not_mixed_unasked(tmp_path: Path) -> None:
    sweep(small([1]), tmp_path, executor=SERIAL)
    with pytest.raises(InputError, match="--resume"):
        sweep(small([1]), tmp_path, executor=SERIAL)


def test_a_store_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "points.sqlite").write_bytes(b"not a database at all, but long enough to be read as one" * 20)
    with pytest.raises(InputError, match="cannot be used"):
        sweep(small([1]), tmp_path, executor=SERIAL, resume=True)


def test_a_killed_sweep_loses_at_most_what_was_in_flight(tmp_path: Path) -> None:
    """kill -9 in the middle: what was done is there, and the whole equals an undisturbed one."""
    file = tmp_path / "study.yaml"
    rates = ", ".join(str(rate) for rate in range(1, 61))
    (tmp_path / "base.yaml").write_text(
        "model: meta-llama/Llama-3.1-8B\nperformance: {operators: builtin}\n"
        "cluster: {pools: [{name: serve, hardware: h100-sxm-80gb}]}\n"
        "workload: {arrivals: {process: poisson, rate: 1}, input_tokens: 100, output_tokens: 10,"
        " num_requests: 200}\n"
    )
    file.write_text(f"scenario: base.yaml\nparameters: {{workload.arrivals.rate: [{rates}]}}\n")
    out = tmp_path / "out"
    command = [sys.executable, "-m", "tokensim", "sweep", str(file), "-o", str(out), "--jobs", "2"]
    process = subprocess.Popen(
        [*command, "--quiet"], start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    done = 0
    while done < 3 and process.poll() is None:
        time.sleep(0.05)
        done = rows(out)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    kept = rows(out)
    assert kept >= done
    subprocess.run([*command, "--quiet", "--resume"], check=True, timeout=300)
    result = pl.read_parquet(out / "results.parquet")
    assert result["workload.arrivals.rate"].to_list() == list(range(1, 61))
    assert result.equals(sweep(Study.from_yaml(file), executor=SERIAL).frame)


def rows(folder: Path) -> int:
    """Outcomes in the store, as another process sees them."""
    if not (folder / "points.sqlite").exists():
        return 0
    base = sqlite3.connect(folder / "points.sqlite", timeout=10)
    try:
        return int(base.execute("SELECT COUNT(*) FROM outcomes").fetchone()[0])
    except sqlite3.OperationalError:  # not made yet
        return 0
    finally:
        base.close()


def test_a_process_that_dies_takes_one_run_with_it(tmp_path: Path) -> None:
    plugin = tmp_path / "deadly.py"
    plugin.write_text(
        "import os\n"
        "from tokensim import register\n"
        "from tokensim.scheduling.local import ContinuousBatching\n\n"
        "@register.local_scheduler('deadly')\n"
        "class Deadly(ContinuousBatching):\n"
        "    def __init__(self, *args, **options):\n"
        "        os._exit(9)\n"
    )
    made = study({"engine.policy": ["vllm", "deadly", "vllm", "sjf"]})
    result = sweep(made, executor=LocalExecutor(2, [str(plugin)]))
    assert result.frame["status"].to_list() == ["ok", "crashed", "ok", "ok"]
    assert "died" in result.frame["error"][1]


def test_processes_stay_for_the_next_run(tmp_path: Path) -> None:
    plugin = tmp_path / "counts.py"
    plugin.write_text(f"import os\nopen({str(tmp_path / 'loaded')!r}, 'a').write(f'{{os.getpid()}}\\n')\n")
    executor = LocalExecutor(1, [str(plugin)])
    for _ in range(2):
        assert sweep(small(), executor=executor).counts == {"ok": 3}
    assert len((tmp_path / "loaded").read_text().splitlines()) == 1


def test_leaves_of_a_summary_stand_under_dotted_paths_and_entries_under_their_name() -> None:
    tree = {"a": {"b": 1, "c": None}, "notes": ["x", "y"], "pools": [{"name": "p", "usd": 2.5}], "n": [1, 2]}
    assert flatten(tree) == {"a.b": 1, "a.c": None, "notes": "x; y", "pools.p.usd": 2.5}


def test_big_results_are_written_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep(small(), tmp_path / "whole", executor=SERIAL)
    monkeypatch.setattr("tokensim.explore.results.ROWS", 2)
    sweep(small(), tmp_path / "parts", executor=SERIAL)
    whole, parts = (pl.read_parquet(tmp_path / name / "results.parquet") for name in ("whole", "parts"))
    assert whole.equals(parts)
    assert sorted(f.name for f in (tmp_path / "parts").iterdir()) == [
        "points.sqlite",
        "report.html",
        "results.parquet",
        "study.yaml",
    ]
