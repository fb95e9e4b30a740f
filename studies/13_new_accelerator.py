"""Study 13: which accelerator that does not exist yet serves most for the money?

python studies/13_new_accelerator.py [--small]
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import kit

from tokensim.explore.executors import Executor
from tokensim.explore.question import Question
from tokensim.explore.study import Study
from tokensim.hardware import Device, catalog_names, load_device
from tokensim.report.figures.base import Figure
from tokensim.report.figures.comparison import scatter
from tokensim.report.series.base import columns

if TYPE_CHECKING:
    import polars as pl

NAME = "13-new-accelerator"
SMALL = ("workload.num_requests=100",)
QUESTION = Question(load="rate", seeds=1, tolerance=0.05)
BASE = "h100-sxm-80gb"
LABELLED = 2
"""Designs of each model that have a label in the figure: those with the cheapest tokens."""
ABILITIES = ("compute", "bandwidth", "memory")
SCALE = "cluster.pools[0].scale."


def abilities(device: Device) -> tuple[float, float, float]:
    """16-bit FLOP/s, bytes/s and bytes of ``device``."""
    flops = max(device.flops.get("bfloat16", 0.0), device.flops.get("float16", 0.0))
    return flops, device.memory_bandwidth_bytes_per_s, device.memory_bytes


@cache
def prices() -> tuple[float, float, float]:
    """US dollars an hour for a FLOP/s, a byte/s and a byte: the non-negative combination closest,
    in relative terms, to the prices of the catalog's NVIDIA GPUs from Ampere on."""
    import numpy as np
    from scipy.optimize import nnls

    architectures = {"ampere", "ada", "hopper", "blackwell"}
    devices = [load_device(name) for name in catalog_names()]
    devices = [d for d in devices if d.vendor == "NVIDIA" and d.architecture in architectures]
    have = np.array([abilities(d) for d in devices])
    size = have.max(axis=0)
    price = np.array([[d.price_per_hour_usd] for d in devices])
    found, _ = nnls(have / size / price, np.ones(len(devices)))
    compute, bandwidth, memory = (found / size).tolist()
    return compute, bandwidth, memory


def price_of(compute: float, bandwidth: float, memory: float) -> float:
    """US dollars an hour for a device with so many times the abilities of ``BASE``."""
    have = zip(prices(), abilities(load_device(BASE)), (compute, bandwidth, memory), strict=True)
    return sum(unit * amount * factor for unit, amount, factor in have)


def answer(
    study: Study,
    executor: Executor | None = None,
    folder: Path | None = None,
    question: Question = QUESTION,
) -> pl.DataFrame:
    """Of every design: the price, the output tokens a second at the highest rate that it bears, and what
    a million of them cost (USD), the cheapest first for each model."""
    import polars as pl

    shown = {"output_tokens_per_s": "throughput.output_tokens_per_s"}
    rows = []
    for row in kit.rates(kit.borne(study, question, executor, folder), study, shown).to_dicts():
        design = {name: float(row[SCALE + name]) for name in ABILITIES}
        price = price_of(**design)
        made = row["output_tokens_per_s"] if row["rate"] else 0.0
        per_million = 1e6 * price / 3600 / made if made else float("inf")
        rows.append(
            {
                "model": row["model"],
                **design,
                "price": price,
                "tokens_per_s": made,
                "usd_per_million": per_million,
                "binding": row["binding"],
            }
        )
    order = list(dict.fromkeys(row["model"] for row in rows))
    return pl.DataFrame(sorted(rows, key=lambda row: (order.index(row["model"]), row["usd_per_million"])))


def draw(frame: pl.DataFrame) -> Figure:
    """Output tokens a second over the price, a panel for each model, coloured by bandwidth."""
    rows = frame.to_dicts()
    best = [
        row
        for rank, row in enumerate(rows)
        if rank < LABELLED or row["model"] != rows[rank - LABELLED]["model"]
    ]
    rows = sorted(rows, key=lambda row: row["bandwidth"])
    table = columns(
        panel=[row["model"] for row in rows],
        series=[f"bandwidth × {row['bandwidth']:g}" for row in rows],
        x=[row["price"] for row in rows],
        y=[row["tokens_per_s"] for row in rows],
        label=[
            f"{row['compute']:g} / {row['bandwidth']:g} / {row['memory']:g}" if row in best else ""
            for row in rows
        ],
    )
    return scatter(
        NAME,
        "Designs of an accelerator",
        "Output tokens a second at the highest rate under TTFT 500 ms and TPOT 50 ms (p90), over the "
        "price; a dot for each design, the two with the cheapest tokens labelled: "
        "compute / bandwidth / memory, times an H100's.",
        table,
        x="USD an hour",
        y="output tokens/s",
    )


if __name__ == "__main__":
    kit.one_figure(NAME, answer, draw, SMALL)
