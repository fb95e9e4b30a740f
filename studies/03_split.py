"""Study 3: how many of eight devices should prefill, by the lengths of prompts and answers.

python studies/03_split.py --figures docs/studies/figures
"""

from __future__ import annotations

from pathlib import Path

import kit
import polars as pl

from tokensim.explore.executors import Executor
from tokensim.explore.study import Study
from tokensim.report.figures.base import Figure
from tokensim.report.figures.study import Axis, Words, columns_of, heat_map

SMALL = (
    "workload.num_requests=512",
    "workload.arrivals.concurrency=256",
)


def run(small: bool, executor: Executor, folder: Path | None) -> pl.DataFrame:
    """One row a setup, split and pair of lengths."""
    study = Study.from_yaml(kit.HERE / "03-split.yaml", SMALL if small else ())
    return named(kit.swept(study, executor, folder))


def named(frame: pl.DataFrame) -> pl.DataFrame:
    """``frame`` with short names, and the devices that prefill as a number."""
    names = {"workload.input_tokens": "input", "workload.output_tokens": "output"}
    names["throughput.requests_per_s"] = "rate"
    prefill = pl.col("split").str.split(":").list.first().cast(pl.Int64)
    return frame.rename(names).with_columns(prefill.alias("prefill"))


def best(frame: pl.DataFrame) -> pl.DataFrame:
    """By setup and lengths: the split that serves most, its rate, and what 4:4 serves less, in percent."""
    keys = ["setup", "input", "output"]
    top = pl.col("rate").arg_max()
    return frame.group_by(keys, maintain_order=True).agg(
        pl.col("split").get(top),
        pl.col("prefill").get(top),
        pl.col("rate").max(),
        (100 * (1 - pl.col("rate").filter(pl.col("split") == "4:4").first() / pl.col("rate").max())).alias(
            "lost"
        ),
    )


def figures(frame: pl.DataFrame) -> list[Figure]:
    """Heat maps of the best split and of its rate."""
    there = best(frame).with_columns(
        pl.col("rate").map_elements(lambda r: f"{r:.3g}", pl.String).alias("text")
    )
    x, y = Axis("output", "output tokens"), Axis("input", "input tokens")
    drawn = columns_of(there, "setup", "input", "output", "split", "prefill", "rate", "text")
    splits = Words(
        "03-split-best",
        "The best split of eight devices",
        "Prefill : decode devices that serve most requests a second, by the lengths of prompts and answers.",
    )
    rates = Words(
        "03-split-rate",
        "What it serves",
        "Requests a second of the best split, by the lengths of prompts and answers.",
    )
    return [
        heat_map(splits, drawn, x, y, Axis("prefill", "prefill devices"), label="split", panel="setup"),
        heat_map(rates, drawn, x, y, Axis("rate", "requests/s", log=True), label="text", panel="setup"),
    ]


def table(frame: pl.DataFrame) -> str:
    """The best split by setup and lengths."""
    titles = {
        "setup": "",
        "input": "input tokens",
        "output": "output tokens",
        "split": "best prefill : decode",
        "rate": "requests/s",
        "lost": "4:4 serves less by (%)",
    }
    return kit.markdown(best(frame), titles)


if __name__ == "__main__":
    kit.main(run, figures, table)
