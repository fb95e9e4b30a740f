"""Batching from before paged memory: a request holds all the memory that it may ever need from its admission.

The base of ``static`` and ``orca``. Nobody is ever preempted and nothing is shared, so that a step of decodes
changes nothing but time: a run of them lasts until the next one finishes. With ``exact_steps`` every request
is walked in every step.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from tokensim.memory import BlockByBlockPool, BlockPool, KvPool
from tokensim.scheduling.local.base import WITHOUT_V1, Limits, LocalScheduler, Step
from tokensim.scheduling.local.decoding import DecodeSet, WindowedDecodeSet
from tokensim.scheduling.local.outlook import Outlook, walked
from tokensim.scheduling.local.queues import Fifo
from tokensim.scheduling.local.request import Request


class ReservedBatching(LocalScheduler):
    """The base: a policy says who is admitted to a step (``admit``) and when memory comes back (``end``)."""

    prefers: ClassVar[Mapping[str, Any]] = {"async_scheduling": False}
    waiting: Fifo
    running: dict[Request, None]
    settles: ClassVar[Mapping[str, Any]] = {
        "scheduling_policy": "fcfs",
        "enable_chunked_prefill": False,
        "enable_prefix_caching": False,
        **WITHOUT_V1,
        "max_num_active_seqs": None,
        "max_num_scheduled_tokens": None,
    }

    def __init__(self, limits: Limits, version: str = "0.33.0", *, exact_steps: bool = False) -> None:
        self.limits = limits = self.settled(limits)
        self.exact_steps = exact_steps
        self.block_size = limits.block_size
        self.pool: KvPool = (BlockByBlockPool if exact_steps else BlockPool)(
            limits.num_gpu_blocks, limits.block_size, caching=False, unhashed_first=True
        )
        self.lag = 1 if limits.async_scheduling else 0
        self.max_active = limits.max_num_seqs
        self.index = 0  # of the last scheduled step
        self.waiting = Fifo()
        self.running = {}  # in order of admission
        self.decoding = self.fresh_decode_set()
        self.leaving: list[Request] = []  # their last token is in flight

    @abstractmethod
    def admit(self, step: Step, now: float) -> None:
        """Admit waiting requests to ``step`` (``start``), which already holds the decodes."""

    @abstractmethod
    def end(self, done: Sequence[Request]) -> None:
        """``done`` have their last token: what becomes of their memory and places."""

    def may_admit(self) -> bool:
        """Whether an arrival that nobody waits before might be admitted to a step not yet scheduled."""
        return len(self.running) < self.max_active

    def fresh_decode_set(self) -> DecodeSet:
        """Nobody decodes."""
        limits = self.limits
        if limits.window is None:
            return DecodeSet(limits.block_size, limits.longest)
        return WindowedDecodeSet(limits.block_size, limits.window, limits.longest)

    def blocks(self, tokens: int) -> int:
        """Blocks that hold ``tokens``."""
        return -(-tokens // self.block_size)

    # The interface to the engine.

    def add(self, request: Request) -> bool:
        """See ``LocalScheduler.add``: only who waits first can change a decision."""
        return self.waiting.add(request) and self.may_admit()

    def schedule(self, now: float) -> Step:
        """See ``LocalScheduler.schedule``. HOT PATH."""
        self.index = index = self.index + 1
        if index - 1 in self.decoding.finishing:
            self._retire(index - 1)
        step = Step(index)
        (self._walk if self.exact_steps else self._serve)(step)
        if self.waiting:
            self.admit(step, now)
        return step

    def start(self, step: Step, now: float, request: Request) -> None:
        """Take the head of the queue into ``step``: all of its prompt that has no KV runs."""
        self.waiting.pop()
        if not step.chunks:
            step.chunks, step.admitted = [], []
            step.firsts = step.chunk_requests = []  # each who runs a prompt runs it whole
        tokens, before = request.tokens, request.computed
        if request.scheduled_s == request.scheduled_s:  # not for the first time
            request.recomputed_tokens += max(0, request.lost_tokens - before)
        else:
            request.scheduled_s = now
            request.cached_tokens = before
        request.seq = self.index
        self.running[request] = None
        step.admitted.append((request, before))
        step.chunks.append((tokens - before, before))
        step.firsts.append(request)
        request.computed = tokens
        request.decoding = True
        request.base = tokens - step.index
        request.finish_step = request.length - 1 - request.base
        self.decoding.join(request, step.index)

    def run_length(self, step: Step) -> int:
        """See ``LocalScheduler.run_length``."""
        if self.exact_steps or step.chunks:
            return 1
        last = min(self.decoding.next_finish(), self.decoding.next_crossing(step.index))
        return max(1, last - step.index + 1)

    def advance(self, steps: int) -> None:
        """See ``LocalScheduler.advance``."""
        self.index += steps

    def update(self, index: int) -> Sequence[Request]:
        """See ``LocalScheduler.update``."""
        if index in self.decoding.finishing:
            self._retire(index)
        done, self.leaving = self.leaving, []
        for request in done:
            request.finished = True
        if done:
            self.end(done)
        return done

    def detach(self, request: Request) -> None:
        """``request`` decodes no more; what it has generated counts as prompt from now on."""
        self.decoding.withdraw(request)
        request.lost_tokens = request.computed = request.base + self.index
        request.tokens, request.decoding = request.computed + 1, False

    def throttle(self, max_running: int | None) -> None:
        """See ``LocalScheduler.throttle``."""
        own = self.limits.max_num_seqs
        self.max_active = own if max_running is None else min(own, max_running)

    def outlook(self) -> Outlook:
        """See ``LocalScheduler.outlook``: no further step takes a block."""
        return walked(self, self.index, self.block_size)._replace(phase=(0,) * self.block_size)

    # How a step is made.

    def leave(self, request: Request, step: int) -> None:
        """``request`` has decoded its last token in ``step``."""
        self.decoding.leave(request, step)

    def _serve(self, step: Step) -> None:
        decoding = self.decoding
        step.decode = decoding.n
        step.context = decoding.context(step.index)
        step.window_context, step.window_growth = decoding.window_context(step.index)
        step.longest = decoding.longest_context(step.index)

    def _walk(self, step: Step) -> None:
        """The same, request by request, each with its own count of tokens."""
        window = self.limits.window
        for request in self.running:
            if request.computed >= request.length - 1:
                continue  # its last token is in flight
            request.computed += 1
            step.decode += 1
            step.context += request.computed
            if window is not None:
                step.window_context += min(request.computed, window)
            if self.limits.longest:
                step.longest = max(step.longest, request.computed)

    def _retire(self, index: int) -> None:
        """The requests whose last token was scheduled in step ``index``."""
        for request in self.decoding.finishing.pop(index):
            self.leave(request, index)
            self.leaving.append(request)
