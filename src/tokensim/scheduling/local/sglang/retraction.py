"""Retraction: the running batch does not fit into memory any more, so some of it goes back into the queue.

Who has produced the fewest outputs goes first, of those with equally many who has the longest prompt. The
outputs are kept: prompt and outputs are one long prompt next time. Section 6 of the scheduler's rules
(``ScheduleBatch.retract_decode``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tokensim.errors import SimulationError
from tokensim.scheduling.local.base import Step
from tokensim.scheduling.local.request import Request
from tokensim.scheduling.local.sglang.handover import hold
from tokensim.scheduling.local.sglang.row import Row

if TYPE_CHECKING:
    from tokensim.scheduling.local.sglang.policy import Sglang


def retract(policy: Sglang, step: Step) -> None:
    """Retract rows of the running batch until what is left can decode, and set the new-token ratio."""
    batch, pool, options = policy.batch, policy.pool, policy.options
    rows = batch.in_order()
    outs = {row: batch.outs(row) for row in rows}
    rows.sort(key=lambda row: (outs[row], -row.prompt), reverse=True)
    retracted: list[Row] = []
    while len(rows) > 1 and (not retracted or not _fits(policy, rows)):
        row = rows.pop()
        retracted.append(row)
        _take_back(policy, step, row)
        pool.evict(len(rows) * options.retract_decode_steps)
    coming = policy.loading or policy.arrived or policy.holding
    if len(rows) == 1 and coming and not _fits(policy, rows):
        retracted.append(rows.pop())  # it can go on when these have gone
        _take_back(policy, step, retracted[-1])
    if len(rows) == 1 and not _fits(policy, rows):
        raise SimulationError(
            f"{rows[0].request} alone does not fit into the KV pool beside a prompt that is being prefilled;"
            " SGLang aborts it (out of memory)"
        )
    batch.reorder(rows)
    declared = sum(row.max_new for row in rows)
    known = sum(outs[row] for row in rows)
    policy.ratio.retracted((known + options.retract_decode_steps * len(rows)) / (declared + 1))
    policy.retracted += len(retracted)
    for row in retracted:
        policy.prompts.add(row.request)


def _fits(policy: Sglang, rows: list[Row]) -> bool:
    """Whether these rows can decode, after evicting what that takes."""
    page, batch = policy.page, policy.batch
    return policy.pool.evict(page * sum(batch.alloc(row) % page == 0 for row in rows))


def _take_back(policy: Sglang, step: Step, row: Row) -> None:
    """Take everything from ``row``; nothing of it enters the tree."""
    batch, request = policy.batch, row.request
    flying = batch.in_flight(row)
    batch.withdraw(row)
    batch.leave(row)
    request.preemptions += 1
    request.lost_tokens = row.alloc
    row.retracted = True
    policy.lose(row)
    step.preempted = [*step.preempted, (request, not flying)]
    if flying:
        step.lost = [*step.lost, request]


def take_out(policy: Sglang, request: Request, keep: bool) -> None:
    """Take ``request`` out for good (``LocalScheduler.remove``), unless it is one of ``handover.py``."""
    row = policy.rows[request]
    if request.content is None and policy.pool.caching:
        request.content = row.content  # it may come back and find what is left of it
    if request not in policy.running:
        del policy.rows[request]
        policy.prompts.remove(request)
        policy.retracted -= row.retracted
        return
    batch = policy.batch
    if row is policy.chunked:
        policy.chunked = None
    if request in batch.rows:
        batch.withdraw(row)
        batch.leave(row)
        batch.full = False
    request.lost_tokens = row.alloc
    row.finished = True  # if it has just been prefilled, it does not join the running batch
    if keep:
        policy.kv.checkpoint(row, row.alloc)
        request.tokens, request.decoding = row.length, False
        del policy.running[request]
        hold(policy, row)
        return
    del policy.rows[request]
    policy.lose(row)
