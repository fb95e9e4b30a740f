"""How fast sweeps are, and whether their memory grows: 2,000 points of a scenario with 1,000 requests.

    python benchmarks/sweep.py              # everything, three to six minutes on two cores
    python benchmarks/sweep.py --quick      # 100 points
    python benchmarks/sweep.py --jobs 8

The scenario is the quickstart's with 1,000 requests; the points are chunk sizes × running requests × rates ×
seeds. Along the way it reads from /proc (Linux) how much memory and processor time the parent and its workers
have taken. Processor time tells more than wall time on a machine that others use too.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TICK = os.sysconf("SC_CLK_TCK")
SIZES = (100, 500, 1000, 1500, 2000)


def parents() -> dict[int, int]:
    """The parent of every process."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            found[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])
    return found


def descendants() -> list[int]:
    """The processes that this one has started, and theirs."""
    known, found = parents(), [os.getpid()]
    for process in found:
        found += [child for child, parent in known.items() if parent == process]
    return found[1:]


def resident(process: int) -> int:
    """MiB in memory."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) // 1024 if "VmRSS:" in status else 0


def processor_s(process: int) -> float:
    """Seconds of processor time so far."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="100 points")
    parser.add_argument("--jobs", type=int, default=None, help="runs at a time [default: one a processor]")
    options = parser.parse_args()

    from tokensim import Study, sweep
    from tokensim.explore.executors import make_executor

    study = Study.from_mapping(
        {
            "scenario": str(ROOT / "examples" / "quickstart.yaml"),
            "parameters": {
                "engine.max_num_batched_tokens": [1024, 2048, 4096, 8192],
                "engine.max_num_seqs": [32, 64, 128, 256, 512],
                "workload.arrivals.rate": {"from": 3, "to": 12, "steps": 10},
            },
            "seeds": 1 if options.quick else 10,
        },
        overrides=("workload.num_requests=1000",),
    )
    executor = make_executor("local", options.jobs)
    print(f"{'points':>6} {'wall_s':>7} {'cpu_s':>7} {'parent_MiB':>10}  workers_MiB", flush=True)
    began, cpu = time.perf_counter(), time.process_time()

    def look(done: int, failed: int, total: int) -> None:
        if done not in SIZES and done != total:
            return
        workers = descendants()
        wall_s = time.perf_counter() - began
        cpu_s = time.process_time() - cpu + sum(processor_s(worker) for worker in workers)
        sizes = sorted((resident(worker) for worker in workers), reverse=True)
        print(
            f"{done:6,} {wall_s:7.1f} {cpu_s:7.1f} {resident(os.getpid()):10,}  "
            + " ".join(f"{size:,}" for size in sizes[: executor.jobs]),
            flush=True,
        )

    with tempfile.TemporaryDirectory() as folder:
        result = sweep(study, Path(folder) / "out", executor=executor, progress=look)
        own = time.process_time() - cpu
        table = Path(folder) / "out" / "results.parquet"
        store = Path(folder) / "out" / "points.sqlite"
        print(f"in all {time.perf_counter() - began:.1f} s, of the parent's processor time {own:.1f} s")
        print(
            f"{len(result.frame):,} rows × {len(result.frame.columns)} columns; results.parquet"
            f" {table.stat().st_size / 2**20:.1f} MiB, points.sqlite {store.stat().st_size / 2**20:.1f} MiB;"
            f" {result.counts}"
        )


if __name__ == "__main__":
    main()
