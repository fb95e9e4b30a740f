"""The figures of a run that people look at first, and how they read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from tokensim.errors import InputError, nearest
from tokensim.explore.figures import in_seconds
from tokensim.report.numbers import count, duration, money, share


@dataclass(frozen=True, slots=True)
class KeyFigure:
    """A figure by its ``name`` in a summary (dotted), its ``title``, and how its numbers are written."""

    name: str
    title: str
    written: Callable[[float | None], str]

    @property
    def better(self) -> str | None:
        """What is better: ``more`` or ``less``; None: neither, or nobody knows."""
        if self.name.startswith(("latency.", "spending.", "preemptions")):
            return "less"
        more = self.name.startswith("throughput.") or self.name.endswith(("goodput_per_s", "good_share"))
        return "more" if more else None


KEY_FIGURES = (
    KeyFigure("throughput.requests_per_s", "requests/s", count),
    KeyFigure("throughput.output_tokens_per_s", "output tokens/s", count),
    KeyFigure("latency.ttft_s.mean", "TTFT mean", duration),
    KeyFigure("latency.ttft_s.p50", "TTFT p50", duration),
    KeyFigure("latency.ttft_s.p99", "TTFT p99", duration),
    KeyFigure("latency.tpot_s.mean", "TPOT mean", duration),
    KeyFigure("latency.tpot_s.p50", "TPOT p50", duration),
    KeyFigure("latency.tpot_s.p99", "TPOT p99", duration),
    KeyFigure("latency.itl_s.p99", "ITL p99", duration),
    KeyFigure("latency.e2e_s.mean", "E2E mean", duration),
    KeyFigure("latency.e2e_s.p50", "E2E p50", duration),
    KeyFigure("latency.e2e_s.p99", "E2E p99", duration),
    KeyFigure("slo.good_share", "within the SLO", share),
    KeyFigure("slo.goodput_per_s", "goodput/s", count),
    KeyFigure("usage.kv_mean", "KV use mean", share),
    KeyFigure("preemptions", "preemptions", count),
    KeyFigure("spending.usd_per_million_total_tokens", "USD/M tokens", money),
    KeyFigure("spending.joules_per_output_token", "J/output token", count),
)

_BY_NAME = {figure.name: figure for figure in KEY_FIGURES}


def key_figures(names: Sequence[str], known: Iterable[str], where: str) -> tuple[KeyFigure, ...]:
    """The figures ``names`` (none: the usual ones) of those ``known``; raises ``InputError``."""
    if not names:
        return KEY_FIGURES
    there = list(known)
    for name in names:
        if name not in there:
            raise InputError(f"no figure '{name}'", where=where, hint=nearest(name, there))
    return tuple(by_name(name) for name in names)


def written(name: str) -> Callable[[float | None], str]:
    """How the figure ``name`` is written, if it is none of ``KEY_FIGURES``: as time, money, or a number."""
    if in_seconds(name):
        return duration
    return money if "usd" in name.rpartition(".")[2].split("_") else count


def by_name(name: str) -> KeyFigure:
    """The figure ``name``, which a run is known to have."""
    return _BY_NAME.get(name) or KeyFigure(name, name, written(name))
