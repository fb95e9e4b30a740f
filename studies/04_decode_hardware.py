"""Study 4: which device should decode, when all together may cost as much as eight of the usual ones?

    python studies/04_decode_hardware.py --figures docs/studies/figures

The sweep is made here, since how many devices the budget buys depends on their price.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import kit
import polars as pl

from tokensim.explore.executors import Executor
from tokensim.explore.study import Study
from tokensim.report.figures.base import Figure
from tokensim.report.figures.study import Axis, Words, bar_figure, columns_of

SCENARIO = kit.HERE / "scenarios" / "prefill-and-decode.yaml"


@dataclass(frozen=True, slots=True)
class Kind:
    """What decodes: catalog id, US dollars an hour for one instance, and what its pool has besides."""

    name: str
    hardware: str
    usd: float
    pool: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Setup:
    """A model, and the ``kinds`` that may decode: the first one prefills, and eight of it are the budget."""

    name: str
    model: str
    weights: str
    kinds: tuple[Kind, ...]

    @property
    def budget(self) -> float:
        """US dollars an hour."""
        return DEVICES * self.kinds[0].usd


DEVICES = 8
A100_USD, H100_USD = 1.79, 2.99
"""An hour of one, from the device catalog (on-demand list prices of 2025, not re-checked)."""
V100_USD = A100_USD / 3
"""Assumed: the catalog's 3.90 is another provider's list price, more than for the newer device."""
AIM_USD = A100_USD / 4
"""Assumed, for a card: it is not rented by the hour. An instance takes two, as the model fills one."""
QUARTER = 0.5
"""Assumed: the price of a device with a quarter of the arithmetic, as a share of the whole one's."""

AIM = Kind("2 × GDDR6-AiM", "gddr6-aim-16gb", 2 * AIM_USD, {"parallel": {"tensor": 2}})
LESS: dict[str, Any] = {"scale": {"compute": 0.25}}

SETUPS = (
    Setup(
        "LLaMA2-7B, A100",
        "meta-llama/Llama-2-7b-hf",
        "float16",
        (
            Kind("A100", "a100-sxm-80gb", A100_USD),
            Kind("V100", "v100-sxm-32gb", V100_USD),
            AIM,
            Kind("A100, ¼ compute", "a100-sxm-80gb", QUARTER * A100_USD, LESS),
        ),
    ),
    Setup(
        "Llama-3.1-8B, H100",
        "meta-llama/Llama-3.1-8B",
        "bfloat16",
        (
            Kind("H100", "h100-sxm-80gb", H100_USD),
            Kind("A100", "a100-sxm-80gb", A100_USD),
            AIM,
            Kind("H100, ¼ compute", "h100-sxm-80gb", QUARTER * H100_USD, LESS),
        ),
    ),
)

LENGTHS = {"chat": (161, 338), "long prompts": (1155, 211)}
"""Mean tokens in and out: of ShareGPT (Kwon et al., SOSP 2023, figure 11), and of the Azure LLM inference
trace 2023, conversation."""

PREFILL = (1, 2, 3, 4, 5, 6)
"""Devices that prefill."""

AMPLE = 4
"""So many keep one instance that decodes busy, and more."""

ALONE = 0
"""In place of a split: one instance that decodes, with ample prefill and an eighth of the users."""


def run(small: bool, executor: Executor, folder: Path | None) -> pl.DataFrame:
    """One row a setup, workload, kind and split: requests a second, and the longest gaps."""
    points = list(_points(small))
    names = ("setup", "lengths", "kind", "usd", "prefill", "decode")
    study = {
        "name": "Decode hardware under a budget",
        "scenario": str(SCENARIO),
        "parameters": {"point": {str(n): settings for n, (_, settings) in enumerate(points)}},
    }
    frame = kit.swept(Study.from_mapping(study), executor, folder)
    figures = {
        "throughput.requests_per_s": "rate",
        "latency.ttft_s.p99": "ttft",
        "latency.itl_s.p99": "gap",
        "usage.pools.prefill.busy_share": "prefill_busy",
    }
    known = pl.DataFrame([row for row, _ in points], schema=list(names), orient="row")
    return pl.concat([known, frame.select(list(figures)).rename(figures)], how="horizontal")


def _points(small: bool) -> Iterator[tuple[tuple[Any, ...], dict[str, Any]]]:
    """What is known of each run beforehand, and its settings."""
    for setup in SETUPS[:1] if small else SETUPS:
        for lengths, (given, made) in LENGTHS.items():
            for kind in setup.kinds:
                for prefill in (ALONE, *PREFILL):
                    spent = prefill * setup.kinds[0].usd
                    decode = int((setup.budget - spent) / kind.usd + 1e-9)
                    users = 768
                    if prefill == ALONE:
                        decode, users = 1, users // DEVICES
                    elif small:
                        continue
                    pools = [
                        {
                            "name": "prefill",
                            "role": "prefill",
                            "hardware": setup.kinds[0].hardware,
                            "replicas": prefill or AMPLE,
                        },
                        {"name": "decode", "role": "decode", "hardware": kind.hardware, "replicas": decode}
                        | kind.pool,
                    ]
                    yield (
                        (setup.name, lengths, kind.name, kind.usd, prefill, decode),
                        {
                            "model": setup.model,
                            "weights": setup.weights,
                            "cluster.pools": pools,
                            "workload.arrivals.concurrency": users,
                            "workload.num_requests": 3 * users,
                            "workload.input_tokens.mean": given,
                            "workload.output_tokens.mean": made,
                        },
                    )


KEYS = ["setup", "lengths", "kind"]


def best(frame: pl.DataFrame) -> pl.DataFrame:
    """By setup, workload and kind: the split that serves most for the budget."""
    splits = frame.filter(pl.col("prefill") != ALONE)
    top = pl.col("rate").arg_max()
    return splits.group_by(KEYS, maintain_order=True).agg(
        *(pl.col(name).get(top) for name in ("prefill", "decode", "usd", "ttft", "gap")),
        pl.col("rate").max(),
    )


def worth(frame: pl.DataFrame) -> pl.DataFrame:
    """By setup, workload and kind: what one instance alone decodes, and the price an hour at which a dollar
    buys as much as with the first kind."""
    alone = frame.filter(pl.col("prefill") == ALONE)
    first = pl.col("rate").first() / pl.col("usd").first()
    return alone.with_columns((pl.col("rate") / first).over("setup", "lengths").alias("even_usd"))


def figures(frame: pl.DataFrame) -> list[Figure]:
    """The best of each kind, by workload."""
    shown = best(frame).with_columns((pl.col("setup") + "; " + pl.col("kind")).alias("bar"))
    words = Words(
        "04-decode-hardware",
        "Requests a second for the price of eight devices",
        "The best split between prefill and decode for the budget, by what decodes and by workload.",
    )
    drawn = columns_of(shown, "bar", "lengths", "rate")
    return [
        bar_figure(
            words, drawn, Axis("bar", ""), Axis("rate", "requests a second", zero=True), group="lengths"
        )
    ]


def table(frame: pl.DataFrame) -> str:
    """Both tables of the page."""
    shared = {"setup": "", "lengths": "workload", "kind": "decodes"}
    first = shared | {
        "prefill": "prefill devices",
        "decode": "decode instances",
        "rate": "requests/s",
        "ttft": "TTFT p99 (s)",
        "gap": "gap p99 (s)",
    }
    second = shared | {
        "usd": "USD/h, as assumed",
        "rate": "requests/s of one instance",
        "gap": "gap p99 (s)",
        "even_usd": "break-even USD/h",
    }
    return f"{kit.markdown(best(frame), first)}\n\n{kit.markdown(worth(frame), second)}"


if __name__ == "__main__":
    kit.main(run, figures, table)
