"""Study 0: the paper's Table II, what its totals can show, and a harder version near saturation.

python studies/00_table_2.py --figures docs/studies/figures
"""

from __future__ import annotations

from pathlib import Path

import kit
import polars as pl

from tokensim.explore.executors import Executor
from tokensim.explore.study import Study
from tokensim.report.figures.base import Figure
from tokensim.report.figures.study import Axis, Words, columns_of, line_figure

MEASURED_S = {100: 2.756, 200: 5.246, 300: 7.819, 400: 10.371, 500: 12.981}
"""Requests → the paper's measured total (arXiv 2503.08415, Table II: vLLM, LLaMA2-7B, one A100-80GB)."""

RATE = 40
"""The paper's, requests a second."""

SLOWER = "a fifth slower"


def run(small: bool, executor: Executor, folder: Path | None) -> pl.DataFrame:
    """One row a setup, speed, rate and number of requests."""
    less = ("workload.num_requests=100",) if small else ()
    frame = kit.swept(Study.from_yaml(kit.HERE / "00-table-2.yaml", less), executor, folder)
    return frame.rename({"workload.arrivals.rate": "rate", "workload.num_requests": "requests"})


def arrivals_s(requests: int) -> float:
    """When the last of evenly spaced requests comes: the total of a device that takes no time at all."""
    return (requests - 1) / RATE


def totals(frame: pl.DataFrame) -> pl.DataFrame:
    """The paper's table: for each number of requests the measured total, the errors of a device that takes no
    time, of the simulation, and of the one that is a fifth slower."""
    there = frame.filter((pl.col("setup") == frame["setup"][0]) & (pl.col("rate") == RATE))
    rows = []
    for requests, measured in MEASURED_S.items():
        of = there.filter(pl.col("requests") == requests)
        simulated, slower = (
            of.filter(pl.col("speed") == s)["makespan_s"][0] for s in ("as modelled", SLOWER)
        )
        error = [100 * (total / measured - 1) for total in (arrivals_s(requests), simulated, slower)]
        rows.append([requests, measured, simulated, *error])
    names = ("requests", "measured", "simulated", "no time", "error", "slower")
    return pl.DataFrame(rows, schema=list(names), orient="row")


def effects(frame: pl.DataFrame) -> pl.DataFrame:
    """By setup and rate, of the most requests: what a fifth less speed adds to the total and to the mean
    latency, in percent."""
    keys = ["setup", "rate"]
    most = frame.filter(pl.col("requests") == frame["requests"].max())
    figures = {"makespan_s": "total", "latency.e2e_s.mean": "mean latency"}
    base, slow = (
        most.filter((pl.col("speed") == SLOWER) == slower).select(*keys, *figures) for slower in (False, True)
    )
    both = base.join(slow, on=keys, suffix="_slow", maintain_order="left")
    return both.select(
        *keys,
        pl.col("latency.e2e_s.mean").alias("latency_s"),
        *[(100 * (pl.col(f"{f}_slow") / pl.col(f) - 1)).alias(name) for f, name in figures.items()],
    )


def figures(frame: pl.DataFrame) -> list[Figure]:
    """What a fifth less speed does, over the rate."""
    long = effects(frame).unpivot(["total", "mean latency"], index=["setup", "rate"], variable_name="figure")
    words = Words(
        "00-table-2",
        "What a device a fifth slower adds to 500 requests",
        "Percent by which the total time and the mean latency grow where everything takes a quarter longer.",
    )
    x, y = Axis("rate", "requests a second"), Axis("value", "longer by (%)", zero=True)
    return [
        line_figure(
            words, columns_of(long, "setup", "rate", "figure", "value"), x, y, "figure", panel="setup"
        )
    ]


def table(frame: pl.DataFrame) -> str:
    """Both tables of the page."""
    first = {
        "requests": "requests",
        "measured": "measured (s)",
        "simulated": "simulated (s)",
        "error": "error (%)",
        "no time": "of a device that takes no time (%)",
        "slower": "of one a fifth slower (%)",
    }
    second = {
        "setup": "",
        "rate": "requests/s",
        "latency_s": "mean latency (s)",
        "total": "total longer by (%)",
        "mean latency": "mean latency longer by (%)",
    }
    return f"{kit.markdown(totals(frame), first)}\n\n{kit.markdown(effects(frame), second)}"


if __name__ == "__main__":
    kit.main(run, figures, table)
