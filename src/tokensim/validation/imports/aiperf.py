"""AIPerf: ``profile_export.jsonl``, one record a request, and ``profile_export_aiperf.json`` beside it.

A record has ``metadata`` (``request_start_ns``, ``credit_issued_ns``, ``benchmark_phase``), ``metrics``
(``{"value": …, "unit": "ms"}`` each) and ``error``. The file beside it holds the load that was asked for. A
run with a concurrency and no rate sends as fast as it may: a closed loop. Source: AIPerf's documentation,
"Working with profile export files".
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokensim.validation.imports.base import MeasuredRequest, ResultFile, Run, dig, number, tokens, usable

UNITS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "sec": 1.0}


class AIPerf:
    """Reads AIPerf's records."""

    tool = "AIPerf"

    def recognises(self, file: ResultFile) -> bool:
        """See ``ResultFormat``."""
        first = file.documents[0]
        return dig(first, "metadata", "request_start_ns") is not None and "metrics" in first

    def read(self, file: ResultFile, index: int | None) -> Run:
        """See ``ResultFormat``."""
        if index not in (None, 1):
            raise file.refuse(f"no run {index} in it", "an AIPerf file holds one run")
        records = [r for r in file.documents if dig(r, "metadata", "benchmark_phase") in (None, "profiling")]
        good = [r for r in records if r.get("error") is None and not dig(r, "metadata", "was_cancelled")]
        if good and not any(dig(r, "metrics", "time_to_first_token") for r in good):
            raise file.refuse("no time_to_first_token in it", "run AIPerf with --streaming")
        requests = [request for request in map(_request, good) if usable(request)]
        load, model = _asked(file.path.with_name("profile_export_aiperf.json"))
        cap = load.get("concurrency")
        notes = []
        if not load:
            notes.append(
                "no profile_export_aiperf.json beside the records: whether the client capped its requests in"
                " flight is not known (--max-in-flight says so)"
            )
        if cap and load.get("request_rate") is None and requests:
            first = min(request.sent_s for request in requests)
            requests = [request._replace(arrival_s=first) for request in requests]
        return Run(
            tool=self.tool,
            model=model,
            max_in_flight=cap if isinstance(cap, int) else None,
            requests=requests,
            failed=len(records) - len(requests),
            notes=tuple(notes),
        )


def _request(record: Mapping[str, Any]) -> MeasuredRequest:
    metadata, metrics = record["metadata"], record.get("metrics") or {}
    sent = number(metadata.get("request_start_ns")) * 1e-9
    issued = number(metadata.get("credit_issued_ns")) * 1e-9
    output = dig(metrics, "output_sequence_length", "value")
    return MeasuredRequest(
        arrival_s=sent if math.isnan(issued) else min(issued, sent),
        sent_s=sent,
        input_tokens=tokens(dig(metrics, "input_sequence_length", "value")),
        output_tokens=tokens(dig(metrics, "output_token_count", "value") if output is None else output),
        ttft_s=_seconds(metrics.get("time_to_first_token")),
        e2e_s=_seconds(metrics.get("request_latency")),
    )


def _seconds(metric: Any) -> float:
    """A metric's value in seconds; NaN where it is none."""
    return number(dig(metric, "value")) * UNITS.get(str(dig(metric, "unit")), math.nan)


def _asked(file: Path) -> tuple[Mapping[str, Any], str]:
    """The load that was asked for and the model, from the file beside the records; empty where it is
    absent."""
    try:
        config = dig(json.loads(file.read_text(encoding="utf-8")), "input_config")
    except (OSError, ValueError):
        return {}, ""
    load = dig(config, "loadgen")
    models = dig(config, "endpoint", "model_names")
    return load if isinstance(load, Mapping) else {}, str(models[0]) if isinstance(
        models, list
    ) and models else ""
