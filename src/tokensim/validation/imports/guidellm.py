"""GuideLLM: ``benchmarks.json``, a report of one or more benchmarks, each with the requests that succeeded.

A request has ``prompt_tokens``, ``output_tokens``, ``time_to_first_token_ms``, ``request_latency`` (seconds)
and when it started; since 0.4 ``info.timings`` also says when it was meant to. The strategy says whether the
loop is closed: ``synchronous``, ``concurrent`` (its ``streams``) and ``throughput`` send as fast as they may,
``constant`` and ``poisson`` at times of their own. Source: GuideLLM's schemas (benchmark, request
statistics).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from tokensim.validation.imports.base import MeasuredRequest, ResultFile, Run, dig, number, tokens, usable

CLOSED = ("synchronous", "concurrent", "throughput")


class GuideLLM:
    """Reads GuideLLM's reports."""

    tool = "GuideLLM"

    def recognises(self, file: ResultFile) -> bool:
        """See ``ResultFormat``."""
        benchmarks = dig(file.documents[0], "benchmarks")
        return isinstance(benchmarks, list) and all(
            isinstance(benchmark, Mapping) and "requests" in benchmark for benchmark in benchmarks
        )

    def read(self, file: ResultFile, index: int | None) -> Run:
        """See ``ResultFormat``."""
        report = file.documents[0]
        benchmarks = report["benchmarks"]
        benchmark = file.pick(benchmarks, index, [_label(_strategy(b)) for b in benchmarks])
        strategy, requests = _strategy(benchmark), benchmark["requests"]
        records = dig(requests, "successful") or []
        made = number(dig(benchmark, "metrics", "request_totals", "successful"))
        if made > len(records):
            raise file.refuse(
                f"{len(records)} requests in it, of {made:.0f} that were made: a sample",
                "a run is replayed whole; have GuideLLM keep every request",
            )
        found = [request for request in map(_request, records) if usable(request)]
        kind = str(strategy.get("type_"))
        cap = {"synchronous": 1, "concurrent": strategy.get("streams")}.get(
            kind, strategy.get("max_concurrency")
        )
        if kind in CLOSED and found:
            first = min(request.sent_s for request in found)
            found = [request._replace(arrival_s=first) for request in found]
        others = sum(len(dig(requests, status) or []) for status in ("errored", "incomplete"))
        return Run(
            tool=self.tool,
            model=str(
                dig(report, "args", "model")
                or dig(benchmark, "worker", "backend_model")
                or dig(benchmark, "config", "backend", "model")
                or ""
            ),
            max_in_flight=cap if isinstance(cap, int) else None,
            requests=found,
            failed=others + len(records) - len(found),
        )


def _strategy(benchmark: Mapping[str, Any]) -> Mapping[str, Any]:
    """How the requests were sent."""
    for key in ("config", "args"):
        strategy = dig(benchmark, key, "strategy")
        if isinstance(strategy, Mapping):
            return strategy
    return {}


def _label(strategy: Mapping[str, Any]) -> str:
    amount = strategy.get("rate") or strategy.get("streams")
    return str(strategy.get("type_")) + (f" {amount:g}" if isinstance(amount, int | float) else "")


def _request(record: Mapping[str, Any]) -> MeasuredRequest:
    timings = dig(record, "info", "timings") or {}
    scheduler = record.get("scheduler_info") or {}
    sent = _first(record.get("request_start_time"), record.get("start_time"), timings.get("request_start"))
    target = _first(timings.get("targeted_start"), scheduler.get("targeted_start_time"))
    ttft = number(record.get("time_to_first_token_ms")) / 1e3
    e2e = _first(record.get("request_latency"), number(record.get("end_time")) - sent)
    return MeasuredRequest(
        arrival_s=sent if math.isnan(target) else min(target, sent),
        sent_s=sent,
        input_tokens=tokens(record.get("prompt_tokens")),
        output_tokens=tokens(record.get("output_tokens")),
        ttft_s=ttft,
        e2e_s=e2e,
    )


def _first(*values: Any) -> float:
    """The first of ``values`` that is a number; NaN if none is."""
    return next((found for value in values if not math.isnan(found := number(value))), math.nan)
