"""Continuous batching with chunked prefill, as vLLM's V1 scheduler does it; the base of every policy like it.

There is no prefill phase and no decode phase. Each step gives every running request, in order of admission,
the tokens that it still lacks, within a token budget; while it lacks memory, it preempts. Then, if nobody was
preempted, waiting requests are admitted in order until the head does not fit.

A running request either still prefills (it stands in ``prefilling`` too) or decodes one token a step, and
then it is only arithmetic in ``decoding``. When budget and memory suffice for all, a step is decided without
looking at the decoding requests one by one (``serve.py``); else, and always with ``exact_steps``, the list
is walked (``walk.py``): same rules, same result.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

from tokensim.memory import BlockByBlockPool, BlockPool, Content, KvPool
from tokensim.scheduling.local import elsewhere, integrity, walk
from tokensim.scheduling.local.adapters import Adapters
from tokensim.scheduling.local.admission import admit
from tokensim.scheduling.local.base import Limits, LocalScheduler, Step
from tokensim.scheduling.local.cadence import PrefillCadence, prefill_cap
from tokensim.scheduling.local.decoding import FAR, DecodeSet, WindowedDecodeSet
from tokensim.scheduling.local.outlook import Outlook, cached_ahead, kept
from tokensim.scheduling.local.preemption import preempt
from tokensim.scheduling.local.queues import ByPriority, Fifo, Ordered, WaitingQueue
from tokensim.scheduling.local.request import Request
from tokensim.scheduling.local.serve import serve_all
from tokensim.scheduling.local.versions import rules_of


class ContinuousBatching(LocalScheduler):
    """The policy. Override ``admission_order``, ``victim`` or ``horizon`` to make another; those beside it
    in this folder also say who may have memory (``claim``, ``lacks``) and what a preemption does.
    """

    holds_whole_prompts: ClassVar[bool] = False
    """Whether a request gets the blocks of its whole prompt when it is admitted, not those of each chunk."""

    can_load = True
    can_tier = True
    pool: KvPool

    def __init__(self, limits: Limits, version: str = "0.33.0", *, exact_steps: bool = False) -> None:
        self.limits = limits = self.settled(limits)
        self.rules = rules = rules_of(version)
        self.exact_steps = exact_steps
        self.block_size = limits.block_size
        self.pool: KvPool = (BlockByBlockPool if exact_steps else BlockPool)(
            limits.num_gpu_blocks,
            limits.block_size,
            caching=limits.enable_prefix_caching,
            unhashed_first=rules.unhashed_blocks_first,
        )
        self.pool.settle = self._settle
        scheduled = limits.max_num_scheduled_tokens
        self.budget = min(
            limits.max_num_batched_tokens, limits.max_num_batched_tokens if scheduled is None else scheduled
        )
        active = limits.max_num_active_seqs
        self.max_active = limits.max_num_seqs if active is None else min(active, limits.max_num_seqs)
        self.watermark = int(limits.watermark * limits.num_gpu_blocks)
        self.lag = 1 if limits.async_scheduling else 0  # tokens in flight are not in the prefix cache yet

        self.index = 0  # of the last scheduled step
        self.waiting: WaitingQueue = self._queue()
        self.running: dict[Request, None] = {}  # in order of admission
        self.prefilling: dict[Request, None] = {}  # those of them that do not decode yet, same order
        self.decoding = (
            DecodeSet(limits.block_size, limits.longest)
            if limits.window is None
            else WindowedDecodeSet(limits.block_size, limits.window, limits.longest)
        )
        self.leaving: list[Request] = []  # their last token is in flight
        self.loading: dict[Request, None] = {}  # they hold blocks and wait for KV from elsewhere
        self.holding: dict[Request, None] = {}  # finished, but their KV is kept for somebody
        self.sitting_out: dict[Request, None] = {}  # decoding, but left out of the last step
        self._elaborate = (  # what only ``_schedule_fully`` knows of
            exact_steps or limits.long_prefill_token_threshold > 0 or limits.prefill_schedule_interval > 1
        )
        self._windowed = limits.window is not None
        self._longest = limits.longest
        self._asks = type(self).horizon is not ContinuousBatching.horizon
        self._claims = type(self).claim is not ContinuousBatching.claim
        self._blocked = False  # the head of the queue stays out until somebody leaves
        self._passable = False  # somebody waits for a slot for its adapter: others may overtake it
        self._registering: Request | None = None  # a prefill chunk of the step being made
        self.taken_ahead = 0  # blocks, for steps that ``advance`` does not know of yet
        self._growing = False  # answers that other prompts may contain are, or were, being generated
        self._admissions = 0
        self.adapters: Adapters | None = None  # set by whoever assembles the instance
        self.cadence = PrefillCadence(limits.prefill_schedule_interval)

    # What a policy of the user's own may say.

    def admission_order(self, waiting: list[Request]) -> Iterable[Request]:
        """The order in which waiting requests are admitted; called whenever the queue has changed."""
        return waiting

    def victim(self, running: list[Request]) -> Request:
        """The request to preempt when memory is short; ``running`` is in order of admission."""
        if self.limits.scheduling_policy == "priority":
            return max(running, key=lambda r: (r.priority, r.arrival_s))
        return running[-1]

    def horizon(self) -> int:
        """How many steps may pass before this policy wants to be asked again though nothing happened."""
        return FAR

    def claim(self, request: Request) -> bool:
        """The head of the queue fits: whether it may have its place now; False keeps it out until somebody
        leaves. True: it is admitted, so whatever the policy counts can be counted here."""
        return True

    def grant(self, request: Request) -> bool:
        """There is room for the KV of the head of the queue, which is to come from elsewhere: whether it may
        have it now. What has it passes ``claim`` too, before it runs."""
        return True

    def revoke(self, request: Request) -> None:
        """``request``, which had been granted room, or held it for others, has lost it."""

    def lacks(self, request: Request, need: int) -> bool:
        """Whether the free blocks do not suffice for a step of ``request`` that takes ``need`` of them."""
        return need > self.pool.free

    def preempt(self, step: Step, request: Request, served: int) -> None:
        """Send ``request`` back, which was given ``served`` tokens in this step before."""
        preempt(self, step, request, served)

    # The interface to the engine.

    def add(self, request: Request) -> bool:
        """See ``LocalScheduler.add``."""
        if self.exact_steps and request.content is None and self.pool.caching:
            request.content = Content.unique(request.index)  # its blocks are entered one by one
        nobody_waited = not self.waiting
        heads = self.waiting.add(request)
        if self.adapters is not None:
            if not self.adapters.admits(request):
                self._passable = True
                return False
            self.adapters.all_wait = False
        if len(self.running) >= self.max_active or self.decoding.n >= self.budget:
            return False
        return heads or nobody_waited or not self._blocked or self._passable

    def schedule(self, now: float) -> Step:
        """See ``LocalScheduler.schedule``. HOT PATH."""
        self.index = index = self.index + 1
        decoding = self.decoding
        if index - 1 in decoding.finishing:
            self._retire(index - 1)
        step = Step(index)
        if self._elaborate or self.prefilling or not self._serve_decodes(step):
            self._schedule_fully(step, now)
        elif self.waiting:
            self._open(step)
            self._admit(step, now, self.budget - step.decode, 0, False)
        if self.adapters is not None:
            step.adapters = len(self.adapters.active)
            self._line_up(self.adapters)
        return step

    def _line_up(self, adapters: Adapters) -> None:
        """Requests that wait for a slot for their adapter keep their places; others may overtake them."""
        passed_over = adapters.passed_over
        if passed_over and not self.waiting:
            adapters.all_wait = True
        self._passable = bool(passed_over) or adapters.all_wait
        while passed_over:
            self.waiting.put_back(passed_over.pop())

    def _open(self, step: Step) -> None:
        """Make room in ``step`` for more than decodes."""
        step.chunks, step.chunk_requests, step.firsts, step.admitted = [], [], [], []

    def _schedule_fully(self, step: Step, now: float) -> None:
        """The whole procedure, for steps that may have more in them than decodes."""
        self._open(step)
        pushed_out = len(step.preempted)
        cap = prefill_cap(self.limits, self.rules, len(self.running) + len(self.waiting))
        deferred = self.cadence.defers(decoding=len(self.running) > len(self.prefilling))
        budget = -1 if self.exact_steps else serve_all(self, step, cap, deferred)
        if budget < 0:
            budget = walk.serve_in_order(self, step, cap, deferred)
        if len(step.preempted) > pushed_out:
            self._blocked = False
        else:
            if self.waiting:
                self._admit(step, now, budget, cap, deferred)
            if not deferred:
                self.cadence.capacity_bound = bool(self.waiting)
        self.cadence.count(step)

    def run_length(self, step: Step) -> int:
        """See ``LocalScheduler.run_length``."""
        if self.exact_steps or self.prefilling or step.chunks or step.preempted or not step.whole:
            return 1
        if self.waiting and not self._blocked:
            return 1
        index, decoding = self.index, self.decoding
        last = decoding.next_finish()
        if self._asks:
            last = min(last, index + self.horizon() - 1)
        if self._windowed:
            last = min(last, decoding.next_crossing(index))
        if last <= index:
            return 1
        pool = self.pool
        free = pool.free if pool.evicting is None else pool.spare  # evictions are told at their own step
        return 1 + decoding.steps_within(index + 1, last - index, free)

    def advance(self, steps: int) -> None:
        """See ``LocalScheduler.advance``."""
        blocks = self.decoding.blocks_over(self.index + 1, steps) - self.taken_ahead
        self.taken_ahead = 0
        if blocks:
            self.pool.take(blocks)
        self.index += steps
        self.cadence.executed += steps

    def update(self, index: int) -> Sequence[Request]:
        """See ``LocalScheduler.update``. HOT PATH."""
        if self.sitting_out and self.lag:  # what they had in flight has come back
            for request in self.sitting_out:
                self.register_output(request, self.computed(request))
        if index in self.decoding.finishing:
            self._retire(index)
        done = self.leaving
        if not done:
            return done
        self.leaving = []
        if len(done) > 1:
            done.sort(key=_admission)
        running, size = self.running, self.block_size
        for request in done:
            request.finished = True
            if request not in running:  # it was preempted while its last token was in flight
                self.waiting.remove(request)
                if request.content is not None:
                    self.pool.forget(request.content)
                continue
            del running[request]
            computed = request.length - 1
            assert not self.exact_steps or request.computed == computed, (
                f"{request} ends after {request.computed}"
            )
            if request.held:
                elsewhere.hold(self, request)
            elif request.content is None:
                self.pool.discard(request, -(-computed // size), computed // size)
            else:
                self._free(request, computed)
        self._blocked = False
        return done

    def _free(self, request: Request, computed: int) -> None:
        """Free a finished request whose tokens others may look up."""
        assert request.content is not None
        elsewhere.complete(self, request, computed)
        self.pool.release(request)
        self.pool.forget(request.content)

    def served(self, step: Step) -> Iterable[Request]:
        """See ``LocalScheduler.served``."""
        return [request for request in super().served(step) if request not in self.sitting_out]

    def remove(self, request: Request, *, keep: bool = False) -> None:
        """See ``LocalScheduler.remove``."""
        elsewhere.remove(self, request, keep)

    def throttle(self, max_running: int | None) -> None:
        """See ``LocalScheduler.throttle``."""
        limits = self.limits
        own = limits.max_num_seqs if limits.max_num_active_seqs is None else limits.max_num_active_seqs
        self.max_active = min(own, limits.max_num_seqs, own if max_running is None else max_running)
        self._blocked = False

    def loaded(self, request: Request) -> None:
        """See ``LocalScheduler.loaded``."""
        elsewhere.loaded(self, request)

    def release(self, request: Request) -> None:
        """See ``LocalScheduler.release``."""
        elsewhere.release(self, request)

    def outlook(self) -> Outlook:
        """See ``LocalScheduler.outlook``."""
        return kept(self)

    def cached_tokens(self, request: Request, steps: int) -> int:
        """See ``LocalScheduler.cached_tokens``."""
        return cached_ahead(self, request, steps)

    def check_integrity(self) -> None:
        """See ``LocalScheduler.check_integrity``."""
        integrity.check(self)

    def computed(self, request: Request) -> int:
        """Tokens of ``request`` whose KV is computed, or being computed by the last scheduled step."""
        return request.base + min(self.index, request.finish_step) if request.decoding else request.computed

    # How a step is made.

    def _serve_decodes(self, step: Step) -> bool:
        """Give every decoding request its token; False (nothing done) if not all can have it. HOT PATH."""
        decoding, pool = self.decoding, self.pool
        n = decoding.n
        if not n:
            return True
        need = decoding.phase[(step.index - 1) % self.block_size]
        if n > self.budget or need > pool.free:
            return False
        step.decode = n
        step.context = decoding.base_sum + n * step.index
        if self._windowed:
            step.window_context, step.window_growth = decoding.window_context(step.index)
        if self._longest:
            step.longest = decoding.longest_context(step.index)
        if self.sitting_out:
            for request in list(self.sitting_out):
                self.come_back(step, request)
        if need:
            pool.take(need)
        return True

    def run_chunk(self, step: Step, request: Request, tokens: int) -> None:
        """Run the next ``tokens`` of a prefill, whose blocks the request already holds. HOT PATH."""
        before = request.computed
        request.computed = computed = before + tokens
        step.chunks.append((tokens, before))
        step.chunk_requests.append(request)
        if request.content is not None:
            self.register_chunk(request, computed)
        if computed < request.tokens:
            return
        if before:
            self.prefilling.pop(request, None)
        step.firsts.append(request)
        request.decoding = True
        request.base = base = computed - step.index
        request.finish_step = request.length - 1 - base
        self.decoding.join(request, step.index)
        if request.shared_output:
            assert request.content is not None
            self.pool.start_growing(request.content, request)
            self._growing = True

    def _admit(self, step: Step, now: float, budget: int, cap: int, deferred: bool) -> None:
        """Admit waiting requests until the head does not fit."""
        admit(self, step, now, budget, cap, deferred)

    def _retire(self, index: int) -> None:
        """The requests whose last token was scheduled in step ``index`` decode no more."""
        decoding = self.decoding
        for request in decoding.finishing.pop(index):
            decoding.leave(request, index)
            self.leaving.append(request)
            if self.adapters is not None:
                self.adapters.leave(request)

    def _settle(self, growers: Iterable[object]) -> None:
        """Register what these decoding requests have generated up to the last scheduled step."""
        chunk = self._registering
        for request in growers:
            assert isinstance(request, Request)
            if request.decoding:
                # In this step, who stands behind the prefill that registers has not had its turn yet.
                later = chunk is not None and request.seq > chunk.seq and request.finish_step >= self.index
                self.register_output(request, self.computed(request) - self.lag - later)

    def register_chunk(self, request: Request, computed: int) -> None:
        """Enter the full blocks of a prefill that has come to ``computed`` into the prefix cache, in turn."""
        self._registering = request
        self.register_output(request, computed)
        self._registering = None

    def register_output(self, request: Request, tokens: int) -> None:
        """Enter the full blocks of the first ``tokens`` of ``request`` into the prefix cache."""
        if request.content is not None:
            self.pool.register(request, request.content, tokens // self.block_size)

    def come_back(self, step: Step, request: Request) -> None:
        """``request`` decodes in ``step`` after sitting out; nothing of it was in flight, so all it has is
        known."""
        del self.sitting_out[request]
        step.came_back = [*step.came_back, request]
        self.register_output(request, request.base + step.index)

    def _queue(self) -> WaitingQueue:
        if type(self).admission_order is not ContinuousBatching.admission_order:
            return Ordered(self.admission_order)
        return ByPriority() if self.limits.scheduling_policy == "priority" else Fifo()


def _admission(request: Request) -> int:
    return request.seq
