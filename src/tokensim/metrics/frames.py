"""The log as tables: one row a request, one row a run of equal steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tokensim.metrics.energy import RequestEnergy
from tokensim.metrics.intake import queued_s
from tokensim.metrics.latency import request_latency
from tokensim.metrics.log import STATUSES, RunLog
from tokensim.metrics.tiers import hits_by_tier
from tokensim.workload.base import Floats, Ints

if TYPE_CHECKING:
    import polars as pl


def requests_frame(log: RunLog, energy: RequestEnergy | None = None) -> pl.DataFrame:
    """One row a request, in the order of the workload; a time or instance that never came is null.

    ``request_id`` is the trace's own id, else the index, as a string. ``arrival_s`` is when the request was
    sent, ``intended_s`` when the client meant to send it. ``status`` is one of ``STATUSES``.
    ``first_token_s`` and ``finish_s`` are the engine's times, ``first_delivery_s`` and ``last_delivery_s``
    those at which the client gets the tokens, which latencies count; ``queued_s`` is when the engine's core
    took the request in. ``prefill_j`` and ``decode_j`` are what it stands for of ``energy``, where given.
    If KV was handed over: ``prefill_instance``, and ``kv_arrived_s``, when it had come (the last time);
    if something failed: ``retries``.
    """
    import polars as pl

    r = log.requests
    latency = request_latency(r)
    ids = pl.Series(r.names, dtype=pl.String) if r.names is not None else _index(len(r.status))
    frame = pl.DataFrame(
        {
            "request_id": ids,
            "arrival_s": r.arrival_s,
            "input_tokens": r.input_tokens,
            "output_tokens": r.output_tokens,
            "cached_tokens": r.cached_tokens,
            "instance": r.instance,
            "scheduled_s": r.scheduled_s,
            "first_token_s": r.first_token_s,
            "finish_s": r.finish_s,
            "ttft_s": latency.ttft_s,
            "tpot_s": latency.tpot_s,
            "e2e_s": latency.e2e_s,
            "queue_s": latency.queue_s,
            "preemptions": r.preemptions,
            "status": pl.Series(STATUSES, dtype=pl.String).gather(r.status.astype(np.int64)),
            "intended_s": r.intended_s,
            "requested_output_tokens": r.requested_output_tokens,
            "recomputed_tokens": r.recomputed_tokens,
            "queued_s": queued_s(log),
            "first_delivery_s": r.first_delivery_s,
            "last_delivery_s": r.last_delivery_s,
            **{f"cached_tokens_{name}": hits for name, hits in hits_by_tier(log).items()},
        }
    )
    if (moved := log.handovers) is not None:
        arrived_s = np.full(len(r.status), np.nan)
        arrived_s[moved.request] = moved.arrived_s  # the last time, of several
        given_by = pl.Series("prefill_instance", log.prefilled_on)
        frame = frame.with_columns(
            pl.when(given_by >= 0).then(given_by).alias("prefill_instance"),
            pl.Series("kv_arrived_s", arrived_s),
        )
    if log.retries is not None:
        frame = frame.with_columns(pl.Series("retries", log.retries))
    if energy is not None:
        frame = frame.with_columns(
            pl.Series("prefill_j", energy.prefill_j), pl.Series("decode_j", energy.decode_j)
        )
    instance = pl.col("instance")
    return frame.with_columns(
        pl.col(pl.Float64).fill_nan(None), pl.when(instance >= 0).then(instance).alias("instance")
    )


def steps_frame(log: RunLog) -> pl.DataFrame:
    """One row a run of ``steps`` equal steps (see ``StepRows`` and ``StepColumns`` for the columns).

    ``chunk_tokens`` and ``chunk_context`` list the prefill chunks of a step, null where there are none.
    """
    import polars as pl

    s, what = log.steps, log.steps.what
    frame = pl.DataFrame(
        {
            "instance": s.instance,
            "start_s": s.start_s,
            "end_s": s.end_s,
            "steps": what.steps,
            "first_step_s": s.first_step_s,
            "last_step_s": s.last_step_s,
            "decode": what.decode,
            "prefill_tokens": s.prefill_tokens,
            "running": s.running,
            "waiting": s.waiting,
            "used_blocks": s.used_blocks,
            "first_blocks": s.first_blocks,
            "waited_s": s.waited_s,
            "context": what.context,
            "window_context": what.window_context,
            "window_growth": what.window_growth,
            "samples": what.samples,
            "adapters": _or_zero(what.adapters, what.steps),
            "copies_s": _or_zero(what.copies_s, what.seconds),
            "drafts": np.zeros(len(what.steps), np.int64) if what.drafting is None else what.drafting.drafts,
            "row": np.arange(len(s.instance)),
        }
    )
    chunks = (
        pl.DataFrame(
            {
                "row": what.chunk_row,
                "chunk_tokens": what.chunk_tokens,
                "chunk_context": what.chunk_context,
            }
        )
        .group_by("row", maintain_order=True)
        .agg(pl.all())
    )
    return frame.join(chunks, on="row", how="left", maintain_order="left").drop("row")


def _or_zero(column: Ints | Floats | None, like: Ints | Floats) -> Ints | Floats:
    return np.zeros_like(like) if column is None else column


def _index(length: int) -> pl.Series:
    import polars as pl

    return pl.Series(np.arange(length)).cast(pl.String)
