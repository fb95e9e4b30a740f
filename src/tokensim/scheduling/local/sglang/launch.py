"""A batch that was decided gets its memory and is launched."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tokensim.errors import SimulationError
from tokensim.scheduling.local.base import Step
from tokensim.scheduling.local.sglang.row import Flight, Row

if TYPE_CHECKING:
    from tokensim.scheduling.local.sglang.policy import Sglang


def launch_prefill(policy: Sglang, step: Step, rows: list[Row], mixed: bool) -> Flight:
    """Give the rows their memory and launch them, with the running batch if it may and can join."""
    batch, pool, page = policy.batch, policy.pool, policy.page
    if policy.chunked is not None:
        policy.chunked.unfinished += 1
    demand = sum(row.end - row.prefix for row in rows) + (page * len(rows) if page > 1 else 0)
    if demand > pool.available:
        pool.evict(demand)
    step.chunks, step.chunk_requests, step.firsts = [], [], []
    for row in rows:
        policy.kv.extend(row)
        run_row(policy, row, step)
    if pool.available < 0:
        raise SimulationError(
            f"a prefill of {demand} tokens does not fit into the KV pool: mixed chunks have used what was"
            " reserved for it (SGLang fails here too: out of memory); use a larger pool, or no"
            " enable_mixed_chunk"
        )
    flight = Flight(step.index, rows, policy.chunked, False)
    policy.deferred = policy.interval
    if mixed and batch.rows:
        if drop_foreseen(policy):
            batch.full = False
        if batch.rows and pool.evict(batch.need()):
            launch_decodes(policy, step, flight)
    step.paused = 0 if flight.decodes else batch.going_on()
    return flight


def run_row(policy: Sglang, row: Row, step: Step) -> None:
    """The extension of ``row`` runs in ``step``."""
    row.step = step.index
    row.made = row.outs + 1
    row.request.computed = row.end
    step.chunks.append((row.end - row.prefix, row.prefix))
    step.chunk_requests.append(row.request)
    if row is not policy.chunked:
        step.firsts.append(row.request)
        row.request.decoding = True


def launch_decodes(policy: Sglang, step: Step, flight: Flight) -> None:
    """The running batch decodes in ``step``, with memory that is there."""
    batch, pool = policy.batch, policy.pool
    flight.decodes = True
    need = batch.need()
    asked = len(batch.rows) * policy.page
    if asked > pool.available:
        pool.evict(asked)
    pool.take(need)
    batch.launch(step, flight)


def drop_foreseen(policy: Sglang) -> bool:
    """Rows that end by length with the queued batch have nothing left to decode; whether there are
    any."""
    if policy.batch.queued is None:
        return False
    foreseen = policy.batch.foreseen()
    for row in foreseen:
        policy.batch.leave(row)
    return bool(foreseen)
