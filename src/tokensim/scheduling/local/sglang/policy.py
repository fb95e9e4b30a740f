"""SGLang's scheduler, version 0.5.23: prefill first, decode otherwise, memory on credit.

Each iteration merges the last prefill batch into the running batch, then tries to make a prefill batch of
waiting requests (``admission.py``); only when there is none, the running batch decodes one token each.
Admission counts on a share of the outputs that running requests have declared (``ratio.py``); where that was
too little, requests are retracted, lose all they have and go back into the queue (``retraction.py``). KV
lives in a radix tree (``memory/radix.py``), into which a prompt goes when its prefill is over, and the rest
when the request is.

Models ``Scheduler.event_loop_normal`` and ``event_loop_overlap``, ``get_next_batch_to_run`` and what they
call, for a decoder with one full-attention pool.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

from tokensim.errors import InputError
from tokensim.memory.radix import RadixPool
from tokensim.registry import register
from tokensim.scenario.sglang import VERSIONS
from tokensim.scheduling.local.base import Limits, LocalScheduler, Step
from tokensim.scheduling.local.outlook import Outlook, cached_tokens
from tokensim.scheduling.local.queues import Fifo
from tokensim.scheduling.local.request import Request
from tokensim.scheduling.local.sglang import handover, integrity
from tokensim.scheduling.local.sglang.admission import Admission
from tokensim.scheduling.local.sglang.batch import DecodeBatch, RunningBatch
from tokensim.scheduling.local.sglang.budget import Budget
from tokensim.scheduling.local.sglang.kv import Kv
from tokensim.scheduling.local.sglang.launch import drop_foreseen, launch_decodes, launch_prefill
from tokensim.scheduling.local.sglang.options import Options
from tokensim.scheduling.local.sglang.order import WaitingOrder
from tokensim.scheduling.local.sglang.outlook import outlook
from tokensim.scheduling.local.sglang.ratio import NewTokenRatio
from tokensim.scheduling.local.sglang.retraction import retract, take_out
from tokensim.scheduling.local.sglang.row import Flight, Row
from tokensim.scheduling.local.sglang.walked import WalkedBatch

VERSION = VERSIONS[-1]


@register.local_scheduler("sglang")
class Sglang(LocalScheduler):
    """``policy: sglang``. ``limits.num_gpu_blocks`` counts pages of ``limits.block_size`` tokens, all usable;
    ``options`` are those of ``options.py``.
    """

    engine = "sglang"
    pause_s = 0.0
    looks_once_more = True
    lockstep = False
    can_load = True
    kv_format = "SGLang"
    pool: RadixPool
    running: dict[Request, None]

    def __init__(
        self, limits: Limits, version: str = VERSION, *, exact_steps: bool = False, **options: Any
    ) -> None:
        if version not in VERSIONS:
            raise InputError(
                f"the scheduling rules of SGLang {version} are not modelled",
                where="version",
                hint=f"modelled: {', '.join(VERSIONS)}",
            )
        self.limits = limits
        self.options = Options.of(options)
        self.page = page = limits.block_size
        self.pool = RadixPool(limits.num_gpu_blocks, page, caching=limits.enable_prefix_caching)
        self.kv = Kv(self.pool)
        clip = self.options.clip_max_new_tokens
        self._walked = exact_steps
        self.batch: RunningBatch = WalkedBatch(limits, clip) if exact_steps else DecodeBatch(limits, clip)
        self.ratio = NewTokenRatio(self.options)
        self.prompts = Fifo()  # wait for their prefill
        self.coming = Fifo()  # wait for room for KV from elsewhere
        self.arrived: dict[Request, None] = {}  # hold it, and wait for a place in the running batch
        self.waiting = handover.Queues(self.arrived, self.coming, self.prompts)
        self.loading: dict[Request, None] = {}  # hold memory for KV that is on its way
        self.holding: dict[Request, None] = {}  # have finished, but their KV stays
        self.barred = False  # who is coming stays out while the running batch just decodes
        self.retracted = 0  # of those that wait for their prefill
        self.running = {}  # all that hold memory and take part in steps
        self.rows: dict[Request, Row] = {}
        self.chunked: Row | None = None
        self.order = WaitingOrder(self)
        self.max_running = limits.max_num_seqs
        self.index = 0  # of the last launched step
        self.flights: deque[Flight] = deque()  # launched, not processed
        self.last: Flight | None = None  # what the iteration before launched
        self.interval = self.options.prefill_decode_interval or 0
        self.deferred = 0  # iterations that go by without a prefill
        self._longest = min(limits.max_model_len, limits.num_gpu_blocks * page) - 1

    # The interface to the engine.

    def rejects_from(self, max_model_len: int) -> int:
        """See ``LocalScheduler.rejects_from``: room is left for a few outputs (``max_req_input_len``)."""
        return min(max_model_len, self._longest - 5)

    def add(self, request: Request) -> bool:
        """See ``LocalScheduler.add``."""
        options, made = self.options, request.output_tokens
        declared = options.max_new_tokens
        if declared is None:
            declared = max(made, int(made * options.max_new_tokens_factor))
        if request.held:  # the rest is produced elsewhere
            declared = request.length - request.input_tokens
        self.enter(request, declared, options.runs_to_the_end)
        if handover.comes(self, request):
            self.prompts.remove(request)
            return self.coming.add(request) or not self.barred
        return not self.batch.full

    def enter(self, request: Request, declared: int, ignore_eos: bool) -> Row:
        """Put ``request``, which declares so many outputs, at the end of the queue."""
        prompt = request.input_tokens
        room = self.pool.num_blocks * self.page - -(-prompt // self.page) * self.page - self.page - 1
        most = max(0, min(declared, self._longest - prompt - 1, room))
        goal = max(request.tokens - prompt + 1, min(request.output_tokens, most))
        request.length = prompt + goal
        row = Row(request, goal, most, ignore_eos, self.pool.root)
        row.outs = request.tokens - prompt  # it may come from elsewhere
        self.rows[request] = row
        self.prompts.add(request)
        return row

    def schedule(self, now: float) -> Step:
        """See ``LocalScheduler.schedule``: one iteration of the loop. HOT PATH."""
        batch = self.batch
        step = Step(self.index + 1)
        batch.queued = self.flights[-1] if self.flights else None
        if self.chunked is not None:
            self._checkpoint_chunk(self.chunked)
        last = self.last
        if last is not None and last.rows:
            self._merge(last)
        if batch.over and batch.drop_over():
            batch.full = False
        if self.coming:
            handover.make_room(self, now)
        flight = None
        deferred = self.deferred > 0
        if deferred:
            self.deferred -= 1
        elif self.chunked is not None or self.prompts:
            flight = self._prefill(step, now)
        if flight is None:
            flight = self._decode(step, now)
        if flight is not None:
            self.index = step.index
            self.flights.append(flight)
        elif deferred:
            step.again = True
        elif not self.rows and (not self.limits.async_scheduling or last is None):
            self.ratio.reset()
        self.last = flight
        return step

    def run_length(self, step: Step) -> int:
        """See ``LocalScheduler.run_length``."""
        batch = self.batch
        if not isinstance(batch, DecodeBatch) or step.chunks or step.idle:
            return 1
        steps = batch.horizon()
        if self.coming and not self.barred:
            return 1
        if self.chunked is not None or (self.prompts and not batch.full):
            steps = min(steps, self.deferred)
        if steps < 1:
            return 1
        return 1 + batch.decoding.steps_within(batch.k + 1, steps, self.pool.free)

    def advance(self, steps: int) -> None:
        """See ``LocalScheduler.advance``."""
        batch, pool, page, flight = self.batch, self.pool, self.page, self.flights[-1]
        assert isinstance(batch, DecodeBatch)
        self._evict_for(steps)
        pool.take(page * batch.decoding.blocks_over(batch.k + 1, steps))
        self.index += steps
        flight.index = self.index
        batch.advance(steps)
        batch.plan(flight)
        self.ratio.fall(steps)
        self.deferred = max(0, self.deferred - steps)

    def _evict_for(self, steps: int) -> None:
        """Evict what that many further decodes evict. Each does until every row could get a page: together,
        what the last of them asks for."""
        batch = self.batch
        assert isinstance(batch, DecodeBatch)
        asked = len(batch.rows)
        if steps > 1:
            asked += batch.decoding.blocks_over(batch.k + 1, steps - 1)
        if self.page * asked > self.pool.available:
            self.pool.evict(self.page * asked)

    def update(self, index: int) -> Sequence[Request]:
        """See ``LocalScheduler.update``. HOT PATH."""
        flight = self.flights.popleft()
        assert flight.index == index, f"the output of step {index} comes before that of {flight.index}"
        done: list[Request] = []
        for row in flight.rows:
            if row.finished or row.retracted:
                continue
            if row.unfinished:
                row.unfinished -= 1
                continue
            row.outs += 1
            if row.outs >= row.goal:
                self._finish(row)
                done.append(row.request)
            else:
                self.kv.checkpoint(row, row.end)
                self.barred = False  # who comes may find it in the cache
        for row in self.batch.process(flight):
            self._finish(row)
            done.append(row.request)
        self.batch.queued = self.flights[-1] if self.flights else None
        return done

    def served(self, step: Step) -> Iterable[Request]:
        """See ``LocalScheduler.served``."""
        decoding = self.batch.rows if step.decode else {}
        return [*step.firsts, *(request for request, row in decoding.items() if not row.finished)]

    def remove(self, request: Request, *, keep: bool = False) -> None:
        """See ``LocalScheduler.remove``."""
        if not handover.remove(self, request):
            take_out(self, request, keep)

    def loaded(self, request: Request) -> None:
        """See ``LocalScheduler.loaded``."""
        handover.loaded(self, request)

    def release(self, request: Request) -> None:
        """See ``LocalScheduler.release``."""
        handover.release(self, request)

    def throttle(self, max_running: int | None) -> None:
        """See ``LocalScheduler.throttle``."""
        limit = self.limits.max_num_seqs
        self.max_running = limit if max_running is None else min(limit, max_running)
        self.batch.full = False

    def outlook(self) -> Outlook:
        """See ``LocalScheduler.outlook``."""
        return outlook(self)

    def cached_tokens(self, request: Request, steps: int) -> int:
        """See ``LocalScheduler.cached_tokens``: what these steps evict is evicted now."""
        if steps and request.content is not None and self.pool.caching:
            self._evict_for(steps)
        return cached_tokens(self, request)

    # One iteration.

    def _checkpoint_chunk(self, row: Row) -> None:
        """The chunk that ran goes into the tree, so that the next one goes on from there."""
        if row.end > row.prefix:
            self.kv.checkpoint(row, row.end)
            row.prefix = row.end

    def _merge(self, last: Flight) -> None:
        """The last prefill batch joins the running batch, but for the chunk that goes on and who is done."""
        batch = self.batch
        rows = [row for row in last.rows if row is not last.chunked and not row.finished]
        left_out = len(rows) < len(last.rows)
        mixed = last.decodes and not last.joined
        if mixed and batch.drop_over():
            left_out = True
        if left_out:
            batch.full = False
        if rows or mixed:
            if mixed or not batch.rows:
                batch.full = False
            batch.join(rows, front=mixed)

    def _prefill(self, step: Step, now: float) -> Flight | None:
        """Try to make a prefill batch."""
        batch, options = self.batch, self.options
        if not batch.rows:
            batch.full = False
        chunk = self.chunked
        if chunk is None and (batch.full or not self.prompts):
            return None
        elsewhere = len(self.loading) + len(self.arrived) + len(self.holding)
        free_rows = self.max_running - len(self.running) - elsewhere
        places = self.max_running - len(batch.rows)
        if chunk is None and min(places, free_rows) <= 0:
            batch.full = True
            return None
        self.order.arrange()
        mixed = options.enable_mixed_chunk
        admission = Admission(
            self,
            Budget(
                self.pool,
                batch,
                self.limits,
                ratio=self.ratio.value,
                max_prefill_tokens=options.max_prefill_tokens,
                decodes=len(batch) if mixed else 0,
            ),
        )
        if chunk is not None:
            admission.go_on(chunk)
        admission.admit_waiting(min(places, free_rows + (chunk is not None)))
        if not admission.rows:
            return None
        self.chunked = admission.chunked
        for row in admission.rows[len(admission.rows) - admission.admitted :]:
            self._admit(row, step, now)
        return launch_prefill(self, step, admission.rows, mixed and self.limits.enable_chunked_prefill)

    def _admit(self, row: Row, step: Step, now: float) -> None:
        request = row.request
        head = self.prompts.pop()
        assert head is request
        self.running[request] = None
        self.retracted -= row.retracted
        row.retracted = False
        self.note_admission(row, step, now)

    def note_admission(self, row: Row, step: Step, now: float) -> None:
        """Write down that ``row`` begins, or goes on, in ``step`` with ``row.prefix`` tokens."""
        request = row.request
        if step.admitted:
            step.admitted.append((request, row.prefix))
        else:
            step.admitted = [(request, row.prefix)]
        if request.scheduled_s == request.scheduled_s:  # not for the first time
            request.recomputed_tokens += max(0, request.lost_tokens - row.prefix)
        else:
            request.scheduled_s = now
            request.cached_tokens = row.prefix

    def _decode(self, step: Step, now: float) -> Flight | None:
        """The running batch decodes, and those whose KV has come with it; who does not fit is retracted."""
        batch = self.batch
        rows = batch.rows
        before = len(rows)
        if before and drop_foreseen(self):
            batch.full = False
        if not (rows or self.arrived):
            return None
        if rows:
            if self.pool.evict(batch.need()):
                self.ratio.fall()
            elif len(rows) < before:
                return None
            else:
                retract(self, step)
                batch.full = batch.full and len(rows) == before
        flight = Flight(step.index, [], None, False)
        if self.arrived:
            handover.join(self, flight, step, now)
        if rows:
            launch_decodes(self, step, flight)
        return flight if rows or flight.rows else None

    def _finish(self, row: Row) -> None:
        """The request has its last token: its tokens stay in the tree, for whoever may need them."""
        request, batch = row.request, self.batch
        if request in batch.rows:
            row.alloc = batch.alloc(row)
            batch.over.append(row)
        row.finished = request.finished = True
        self.kv.checkpoint(row, row.alloc)
        del self.running[request]
        self.barred = False
        if request.held:
            handover.hold(self, row)
            return
        self.kv.free(row)
        del self.rows[request]

    def lose(self, row: Row) -> None:
        """``row`` loses its memory, of which nothing enters the tree, and no longer runs."""
        request = row.request
        self.kv.free(row)
        request.tokens = row.length
        request.computed = 0
        request.decoding = False
        del self.running[request]

    def check_integrity(self) -> None:
        """See ``LocalScheduler.check_integrity``."""
        integrity.check(self)
