"""KV that comes from another instance into SGLang's running batch, or stays for somebody else.

Coming (the decode server's queues, ``srt/disaggregation/decode.py``): a request whose prompt is computed
elsewhere waits in ``coming`` until there is room for its KV beside ``num_reserved_decode_tokens`` for each
request here (``DecodePreallocQueue``); it holds that room in ``loading`` while the KV comes
(``DecodeTransferQueue``), then waits in ``arrived`` for a place in the running batch and joins it without a
prefill. Staying (the prefill server's in-flight queue, ``prefill.py``): a ``held`` request has finished, but
its pages stay in ``holding``, those in the tree locked, until the other side has them.

The room taken has one token more than SGLang's, for the one that the request computes first.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import chain, islice
from typing import TYPE_CHECKING

from tokensim.scheduling.local.base import Step
from tokensim.scheduling.local.request import Request
from tokensim.scheduling.local.sglang.launch import run_row
from tokensim.scheduling.local.sglang.row import Flight, Row

if TYPE_CHECKING:
    from tokensim.scheduling.local.sglang.policy import Sglang

FEW = 32
"""Up to so many running requests a decode server keeps twice as many rows more for requests whose KV comes
(``pre_alloc_size`` in ``srt/model_executor``)."""


class Queues(Collection[Request]):
    """Several queues as one."""

    def __init__(self, *queues: Collection[Request]) -> None:
        self._queues = queues

    def __len__(self) -> int:
        return sum(map(len, self._queues))

    def __iter__(self) -> Iterator[Request]:
        return chain(*self._queues)

    def __contains__(self, request: object) -> bool:
        return any(request in queue for queue in self._queues)


def comes(policy: Sglang, request: Request) -> bool:
    """Whether the KV of ``request`` lies elsewhere; then it waits for room for it."""
    return policy.source is not None and policy.source.offer(request, 0, request.arrival_s) is not None


def make_room(policy: Sglang, now: float) -> None:
    """Give requests in ``coming`` room for their KV, in turn, while there is any (``pop_preallocated``)."""
    coming, source = policy.coming, policy.source
    policy.barred = False
    while coming and source is not None and policy.chunked is None:
        request = coming.head()
        row = policy.rows[request]
        if source.offer(request, 0, now) is None:  # it is lost: the prompt has to be computed here
            policy.prompts.add(coming.pop())
            continue
        if not _has_room(policy, row):
            return
        coming.pop()
        row.node, row.prefix = policy.kv.match(row, row.length - 1)
        row.owned, row.end = row.prefix, row.length
        policy.pool.lock(row.node)
        policy.pool.evict(-(-row.length // policy.page) * policy.page - row.owned)
        policy.kv.extend(row)
        request.computed = row.length - 1
        policy.loading[request] = None
        offer = source.offer(request, row.prefix, now)
        assert offer is not None
        source.load(request, offer, now)


def _has_room(policy: Sglang, row: Row) -> bool:
    """Whether the KV of ``row`` may come now. If what keeps it out cannot change while the running batch just
    decodes, the policy is ``barred``."""
    pool, batch, page = policy.pool, policy.batch, policy.page
    here = len(policy.running) + len(policy.loading) + len(policy.arrived)
    most, few = policy.limits.max_num_seqs, policy.limits.max_num_seqs <= FEW
    policy.barred = True
    if policy.retracted or here + len(policy.holding) >= most * (3 if few else 1):
        return False
    hit = idle = 0
    if pool.caching and not row.unseen:
        hit, idle = (page * pages for pages in pool.find(row.content, (row.length - 1) // page)[1:])
    free = pool.available + pool.evictable - idle
    new = row.length - hit
    if -(-row.length // page) * page - hit > free:
        return False
    if not here:  # nobody will ever leave more
        policy.barred = False
        return True
    reserve = policy.options.num_reserved_decode_tokens
    if new + reserve > free - reserve * here:
        return False
    policy.barred = False
    # Each must be able to end when all that run are retracted, which those whose KV comes cannot be.
    retractable = batch.context()
    alone = row.prompt + min(row.max_new, batch.clip) - retractable
    return max(new + reserve, alone) <= free - max(reserve * here, batch.longest_end() - retractable)


def loaded(policy: Sglang, request: Request) -> None:
    """The KV of ``request`` has come."""
    del policy.loading[request]
    request.loaded = True
    policy.arrived[request] = None


def join(policy: Sglang, flight: Flight, step: Step, now: float) -> None:
    """Let those whose KV has come take part in ``flight``: each computes one token, as if it decoded."""
    places = policy.max_running - len(policy.batch.rows)
    joining = list(islice(policy.arrived, max(0, places)))
    if not joining:
        return
    step.chunks, step.chunk_requests, step.firsts, step.admitted = [], [], [], []
    for request in joining:
        row = policy.rows[request]
        del policy.arrived[request]
        policy.running[request] = None
        row.prefix = row.length - 1
        policy.note_admission(row, step, now)
        flight.rows.append(row)
        run_row(policy, row, step)
    flight.joined = True


def hold(policy: Sglang, row: Row) -> None:
    """``row`` has finished here, but its KV stays."""
    row.request.computed = row.alloc
    policy.holding[row.request] = None


def release(policy: Sglang, request: Request) -> None:
    """Nobody needs the KV of the held ``request`` any more."""
    del policy.holding[request]
    policy.kv.free(policy.rows.pop(request))
    policy.batch.full = policy.barred = False


def remove(policy: Sglang, request: Request) -> bool:
    """Take ``request`` out if it waits for KV, or holds some for others; whether it did."""
    for place in (policy.arrived, policy.loading, policy.holding):
        if request in place:
            del place[request]
            policy.kv.free(policy.rows.pop(request))
            request.computed, request.loaded = 0, False
            policy.batch.full = policy.barred = False
            return True
    if request in policy.coming:
        policy.coming.remove(request)
        del policy.rows[request]
        policy.barred = False
        return True
    return False
