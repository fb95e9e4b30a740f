"""What is asked of a search for a capacity, and its answer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tokensim.errors import InputError
from tokensim.explore.judging import Figures
from tokensim.explore.load import Load

SEEDS = 5
"""Runs of the search: enough for an interval of about ±1.2 standard deviations around the mean."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of every configuration.

    ``load``: its kind, see ``explore.load``. ``seeds``: of the scenario, and those that follow. ``tolerance``
    is between the load met and the one missed; ``confidence`` (0 to 1) is that of the interval over seeds.
    ``maximum``: no load above. ``goodput``: so large a share of requests (0 to 1) must keep all bounds;
    None: each bound must hold at the SLO's percentile.
    """

    load: str = "auto"
    seeds: int = SEEDS
    tolerance: float = 0.02
    confidence: float = 0.95
    maximum: float | None = None
    goodput: float | None = None

    def __post_init__(self) -> None:
        for name, fine, hint in (
            ("seeds", self.seeds >= 1, "at least 1"),
            ("tolerance", 1e-4 <= self.tolerance <= 1, "0.01 % to 100 %, e.g. 2%"),
            ("confidence", 0 < self.confidence < 1, "between 0 and 100 %, e.g. 95%"),
            ("maximum", self.maximum is None or self.maximum > 0, "above 0"),
            ("goodput", self.goodput is None or 0 < self.goodput <= 1, "above 0, up to 100 %"),
        ):
            if not fine:
                given = getattr(self, name)
                raise InputError(f"{given:g}", where="--max" if name == "maximum" else f"--{name}", hint=hint)


@dataclass(frozen=True, slots=True)
class SeedEdge:
    """What one seed found; ``figures`` and ``beyond`` are of the runs at ``low`` and ``high``."""

    seed: int
    low: float | None
    high: float | None
    figures: Figures
    beyond: Figures


TOLD = (
    *("requests.total", "throughput.requests_per_s", "throughput.output_tokens_per_s"),
    *(f"latency.{metric}_s.{which}" for metric in ("ttft", "tpot", "e2e", "itl") for which in ("p50", "p99")),
    *(f"slo.bounds.{metric}.value_s" for metric in ("ttft", "tpot", "e2e", "itl")),
    *("slo.good_share", "usage.kv_max", "usage.batch_max", "preemptions"),
)
"""Figures of every run that are told as plain data: those of a curve over the load."""


@dataclass(frozen=True, slots=True)
class Tried:
    """A run of the search: at ``load`` (inf: every request at once), with ``times`` the requests of the
    others; whether it ``met`` the SLO, and each bound's figure over its limit (``ratios``, by name)."""

    seed: int
    load: float
    met: bool
    ratios: Mapping[str, float]
    figures: Figures
    times: int = 1

    def to_dict(self) -> dict[str, Any]:
        """The same as plain data, with the figures of ``TOLD``."""
        return {
            "seed": self.seed,
            "load": _finite(self.load),
            "times": self.times,
            "met": self.met,
            "ratios": {name: _finite(ratio) for name, ratio in self.ratios.items()},
            "figures": {name: self.figures[name] for name in TOLD if self.figures.get(name) is not None},
        }


@dataclass(frozen=True, slots=True)
class Capacity:
    """What a configuration bears.

    ``status``: ``found``; ``none`` (the SLO is missed however low the load); ``unbounded`` (it is met by the
    highest load that was asked for, or could be); else what became of a run (``refused``, ``failed``,
    ``crashed``, with ``error``). ``value`` is the mean over seeds of the highest loads met; ``interval``
    covers the mean edge with the given confidence, the search's resolution included (None: one seed).
    ``binding``: the bound that the next higher load misses (``bound``: its name). ``tried``: all runs that
    went well, as they were made. ``lasts``: not known to be false; False if runs twice as long miss the SLO
    below it. ``notes``: what to know before trusting it.
    """

    status: str
    load: Load | None = None
    value: float | None = None
    interval: tuple[float, float] | None = None
    confidence: float = 0.95
    edges: tuple[SeedEdge, ...] = ()
    bound: str = ""
    binding: str = ""
    limits: str = ""
    saturated_per_s: float | None = None
    lasts: bool = True
    notes: tuple[str, ...] = ()
    error: str | None = None
    runs: int = 0
    tried: tuple[Tried, ...] = ()

    @property
    def figures(self) -> Figures:
        """Of the first seed's run at its highest load met."""
        return self.edges[0].figures if self.edges else {}

    def to_dict(self) -> dict[str, Any]:
        """The same as plain data, ready for JSON."""
        return {
            "status": self.status,
            "error": self.error,
            "load": None if self.load is None else {"kind": self.load.kind, "unit": self.load.unit},
            "capacity": self.value,
            "lasts": self.lasts,
            "interval": None if self.interval is None else list(self.interval),
            "confidence": self.confidence,
            "seeds": [
                {"seed": edge.seed, "met": _finite(edge.low), "missed": edge.high} for edge in self.edges
            ],
            "bound": self.bound,
            "binding": self.binding,
            "limits": self.limits,
            "saturated_requests_per_s": self.saturated_per_s,
            "notes": list(self.notes),
            "runs": self.runs,
            "figures": dict(self.figures),
            "tried": [run.to_dict() for run in self.tried],
        }


def _finite(value: float | None) -> float | None:
    return None if value == math.inf else value
