"""What SGLang's scheduler still has to do, as routers read it (``scheduling/local/outlook.py``).

From the sums of the running batch and the queue, with a look only at the few rows that are just coming or
going; where every row is walked, row by row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tokensim.scheduling.local.outlook import Outlook
from tokensim.scheduling.local.sglang.batch import DecodeBatch
from tokensim.scheduling.local.sglang.row import Row

if TYPE_CHECKING:
    from tokensim.scheduling.local.request import Request
    from tokensim.scheduling.local.sglang.policy import Sglang


def outlook(policy: Sglang) -> Outlook:
    """As of the last launched step; see ``Outlook``."""
    batch = policy.batch
    prefill = policy.prompts.prefill_tokens + policy.coming.prefill_tokens
    decode = policy.prompts.decode_tokens + policy.coming.decode_tokens
    for request in (*policy.loading, *policy.arrived):
        prefill += 1
        decode += request.length - request.tokens
    n = context = 0
    phase = [0] * policy.page
    if isinstance(batch, DecodeBatch):
        rows = _outside(policy)
        decoding, k = batch.decoding, batch.k
        n, context = decoding.n - len(batch.over), decoding.base_sum + decoding.n * k
        decode += decoding.finish_sum - decoding.n * k
        at = k % policy.page
        phase = [*decoding.phase[at:], *decoding.phase[:at]]
        for row in batch.over:
            context -= batch.alloc(row)
        for request in batch.past:
            if request in batch.rows:
                decode += k - request.finish_step
    else:
        rows = {request: policy.rows[request] for request in policy.running}
        for request, row in rows.items():
            if request in batch.rows:
                n += 1
                phase[-row.alloc % policy.page] += 1
    for row in rows.values():
        context += row.alloc
        if row.completes or row.request.decoding:
            decode += max(0, row.goal - row.outs - _coming(policy, row))
        else:
            prefill += row.length - row.end
            decode += row.goal - row.outs
    return Outlook(
        len(policy.running),
        len(policy.waiting) + len(policy.loading),
        prefill,
        decode,
        n,
        context,
        policy.pool.free,
        tuple(phase),
    )


def _coming(policy: Sglang, row: Row) -> int:
    """Outputs of ``row`` in flight."""
    return sum(
        row in flight.decoded or row in flight.ended or (row in flight.rows and row is not flight.chunked)
        for flight in policy.flights
    )


def _outside(policy: Sglang) -> dict[Request, Row]:
    """The rows that hold memory beside the running batch: prefilled a moment ago, about to end, or the prompt
    whose next chunk is to come."""
    rows: list[Row] = [] if policy.chunked is None else [policy.chunked]
    for flight in policy.flights:
        rows += flight.rows
        rows += flight.ended
    if policy.last is not None:
        rows += policy.last.rows
    batch, running = policy.batch.rows, policy.running
    return {row.request: row for row in rows if row.request in running and row.request not in batch}
