"""How far a simulation is from what was measured: relative errors of means, percentiles and throughput.

An error is simulated over measured less one. Percentiles interpolate linearly between the two nearest ranks,
and are of each side's own distribution; ``per_request`` compares request by request.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from tokensim.errors import InputError
from tokensim.validation.replay import Replay, Times
from tokensim.workload.base import Floats

METRICS = ("ttft", "tpot", "e2e")
STATISTICS = ("mean", "p50", "p90", "p95", "p99")

Figures = dict[str, dict[str, float | None]]
"""``figures[metric][statistic]``; the metrics are ``METRICS`` and ``throughput`` (which has a mean only).
None where there is no such figure (TPOT of requests with one output token)."""


@dataclass(frozen=True, slots=True)
class PerRequest:
    """Mean over requests of the absolute difference: in seconds, and relative to the request's measured
    time."""

    seconds: float | None
    relative: float | None


@dataclass(frozen=True, slots=True)
class CaseErrors:
    """The errors of one case, beside both sides' values (seconds; throughput: output tokens a second)."""

    name: str
    requests: int
    measured: Figures
    simulated: Figures
    error: Figures
    per_request: dict[str, PerRequest]
    notes: tuple[str, ...] = ()

    def worst_mean(self) -> float:
        """The largest absolute error among the means of TTFT, TPOT, E2E and throughput; what
        ``--fail-above`` looks at. Infinite where one side has no such figure and the other has."""
        worst = 0.0
        for metric, errors in self.error.items():
            if errors["mean"] is not None:
                worst = max(worst, abs(errors["mean"]))
            elif self.measured[metric]["mean"] is not None:
                worst = math.inf
        return worst

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "name": self.name,
            "requests": self.requests,
            "error": self.error,
            "measured": self.measured,
            "simulated": self.simulated,
            "per_request": {
                metric: {"mean_absolute_s": value.seconds, "mean_absolute_relative": value.relative}
                for metric, value in self.per_request.items()
            },
            "notes": list(self.notes),
        }


def errors_of(replay: Replay) -> CaseErrors:
    """The errors of ``replay``."""
    measured, simulated = figures_of(replay.measured), figures_of(replay.simulated)
    return CaseErrors(
        name=replay.case.name,
        requests=len(replay.measured.e2e_s),
        measured=measured,
        simulated=simulated,
        error={
            metric: {name: _relative(simulated[metric][name], value) for name, value in figures.items()}
            for metric, figures in measured.items()
        },
        per_request={
            metric: _per_request(series(replay.measured, metric), series(replay.simulated, metric))
            for metric in METRICS
        },
        notes=replay.notes,
    )


def series(times: Times, metric: str) -> Floats:
    """The times of one metric, an entry a request."""
    values: Floats = getattr(times, f"{metric}_s")
    return values


def figures_of(times: Times) -> Figures:
    """Mean and percentiles of each metric, and the throughput."""
    figures: Figures = {}
    for metric in METRICS:
        values = series(times, metric)
        known = values[~np.isnan(values)]
        if len(known):
            found = [float(known.mean()), *(float(v) for v in np.percentile(known, (50, 90, 95, 99)))]
            figures[metric] = dict(zip(STATISTICS, found, strict=True))
        else:
            figures[metric] = dict.fromkeys(STATISTICS)
    rate = times.output_tokens_per_s
    figures["throughput"] = {"mean": None if math.isnan(rate) else rate}
    return figures


def _relative(simulated: float | None, measured: float | None) -> float | None:
    return None if simulated is None or not measured else simulated / measured - 1.0


def _per_request(measured: Floats, simulated: Floats) -> PerRequest:
    both = ~np.isnan(measured) & ~np.isnan(simulated) & (measured > 0)
    if not both.any():
        return PerRequest(None, None)
    off = np.abs(simulated[both] - measured[both])
    return PerRequest(float(off.mean()), float((off / measured[both]).mean()))


def parse_share(text: str, where: str) -> float:
    """``"5%"`` or ``"0.05"`` → 0.05; raises ``InputError``."""
    number, percent = text.strip().removesuffix("%"), text.strip().endswith("%")
    try:
        value = float(number) / (100.0 if percent else 1.0)
    except ValueError:
        value = math.nan
    if not 0.0 <= value < math.inf:
        raise InputError(f"{text!r} is not a share", where=where, hint="e.g. 5% or 0.05")
    return value
