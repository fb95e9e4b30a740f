"""``vllm bench serve --save-result --save-detailed``: one JSON object with a list a quantity.

Lists by request: ``input_lens``, ``output_lens``, ``ttfts``, ``itls`` (gaps between tokens), ``start_times``
(when it was sent), ``errors`` ("" if it succeeded); newer versions add ``latencies`` and ``queue_times``
(held back by the client). With ``--append-result`` a file holds one object a line. Source:
vllm/benchmarks/serve.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from tokensim.validation.imports.base import MeasuredRequest, ResultFile, Run, number, tokens, usable

LISTS = ("input_lens", "output_lens", "ttfts", "itls", "start_times")
"""What a case is made from."""


class VllmBench:
    """Reads ``vllm bench serve`` results."""

    tool = "vllm bench serve"

    def recognises(self, file: ResultFile) -> bool:
        """See ``ResultFormat``."""
        return all(
            isinstance(document, Mapping) and {"total_input_tokens", "request_throughput"} <= document.keys()
            for document in file.documents
        )

    def read(self, file: ResultFile, index: int | None) -> Run:
        """See ``ResultFormat``."""
        names = [f"{d.get('date')} at {d.get('request_rate')} req/s" for d in file.documents]
        document: Mapping[str, Any] = file.pick(file.documents, index, names)
        missing = [name for name in LISTS if not isinstance(document.get(name), list)]
        if missing:
            raise file.refuse(
                f"no {', '.join(missing)} in it: it has sums, not requests",
                "run the benchmark with --save-detailed (start_times: with a newer vllm)",
            )
        count = len(document["start_times"])
        if any(len(document[name]) != count for name in LISTS):
            raise file.refuse("its lists differ in length", "the file as it was written")
        sent = [number(value) for value in document["start_times"]]
        cap = document.get("max_concurrency")
        arrivals, notes = _arrivals(document, sent)
        latencies = document.get("latencies") or [
            number(ttft) + math.fsum(number(gap) for gap in gaps or ())
            for ttft, gaps in zip(document["ttfts"], document["itls"], strict=True)
        ]
        errors = document.get("errors") or [""] * count
        found = [
            MeasuredRequest(arrivals[i], sent[i], tokens(prompt), tokens(output), number(ttft), number(e2e))
            for i, (prompt, output, ttft, e2e) in enumerate(
                zip(
                    document["input_lens"], document["output_lens"], document["ttfts"], latencies, strict=True
                )
            )
        ]
        good = [r for r, error in zip(found, errors, strict=True) if not error and usable(r)]
        return Run(
            tool=self.tool,
            model=str(document.get("model_id") or ""),
            max_in_flight=cap if isinstance(cap, int) else None,
            requests=good,
            failed=count - len(good),
            notes=tuple(notes),
        )


def _arrivals(document: Mapping[str, Any], sent: list[float]) -> tuple[list[float], list[str]]:
    """When the client meant to send each request."""
    waited = document.get("queue_times")
    if isinstance(waited, list) and len(waited) == len(sent):
        return [at - max(number(wait), 0.0) for at, wait in zip(sent, waited, strict=True)], []
    if document.get("max_concurrency") is None:
        return sent, []
    if str(document.get("request_rate")) == "inf":
        return [min(sent)] * len(sent), []
    return sent, [
        "the file does not say when the client meant to send what it held back: the times at which it sent"
        " are taken instead"
    ]
