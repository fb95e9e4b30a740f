"""vLLM's V0 scheduler: prompts first, then decodes, never both in one step.

Models ``vllm/core/scheduler.py`` of vLLM 0.6 without chunked prefill (its default):

- while nobody is swapped out, waiting prompts that fit are run whole, and every decode sits out that step;
- else each running request decodes one token. While one finds no free block, the request that was admitted
  last gives way: it is recomputed (``preemption: recompute``), or its blocks are copied to host memory
  (``swap``, up to ``swap_space``), which holds up the step;
- when nobody gave way, those swapped out come back, first out first in, each with a token in this very step.
- a request whose KV has come from another instance goes on in the next step of decodes, as in DistServe
  (Zhong et al., OSDI 2024), whose two kinds of instances batch like this.

When the host memory is full, a request is recomputed; the original ends with an error and asks for more
``swap_space``. Memory is that of ``block_manager.py``.

Steps that make decodes sit out do not move their arithmetic, so ``index`` counts only those that decode;
the engine knows a step by its ``serial`` number.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import takewhile
from operator import attrgetter
from typing import Any, ClassVar

from tokensim.errors import InputError
from tokensim.registry import register
from tokensim.scheduling.local import elsewhere, walk
from tokensim.scheduling.local.base import Limits, Step
from tokensim.scheduling.local.block_manager import WATERMARK, WatermarkedBatching
from tokensim.scheduling.local.queues import Fifo, WaitingQueue
from tokensim.scheduling.local.request import Request


class FifoAndSwapped(Fifo):
    """First come, first served; who is swapped out waits too, but in a queue of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.swapped: deque[Request] = deque()

    def __len__(self) -> int:
        return super().__len__() + len(self.swapped)

    def __iter__(self) -> Iterator[Request]:
        yield from self.swapped
        yield from super().__iter__()

    def __contains__(self, request: object) -> bool:
        return any(request is other for other in self)

    def remove(self, request: Request) -> None:
        """Remove a request from wherever it stands."""
        if request in self.swapped:
            self.swapped.remove(request)
            self._went(request)
        else:
            super().remove(request)

    def come(self) -> int:
        """How many are next in line since their KV has come from elsewhere."""
        return sum(1 for _ in takewhile(attrgetter("loaded"), super().__iter__()))

    def swap_out(self, request: Request) -> None:
        """Behind all that are swapped out."""
        self._came(request)
        self.swapped.append(request)

    def swap_in(self) -> None:
        """The first of those swapped out runs again."""
        self._went(self.swapped.popleft())


@register.local_scheduler("vllm-v0")
class VllmV0(WatermarkedBatching):
    """``policy: vllm-v0``; its option is ``watermark``. Limits with ``swap_blocks`` make it swap."""

    can_swap: ClassVar[bool] = True
    prefers: ClassVar[Mapping[str, Any]] = {
        "max_num_seqs": 256,  # vllm/config.py: SchedulerConfig.max_num_seqs
        "enable_prefix_caching": False,
        "async_scheduling": False,
    }
    settles: ClassVar[Mapping[str, Any]] = {
        **WatermarkedBatching.settles,
        "enable_chunked_prefill": False,
    }
    waiting: FifoAndSwapped

    def __init__(
        self,
        limits: Limits,
        version: str = "0.33.0",
        *,
        exact_steps: bool = False,
        watermark: float = WATERMARK,
    ) -> None:
        if limits.swap_blocks and limits.enable_prefix_caching:
            raise InputError(
                "swapped blocks are not kept in the prefix cache",
                where="enable_prefix_caching",
                hint="leave it out, or recompute: preemption: recompute",
            )
        super().__init__(limits, version, exact_steps=exact_steps, watermark=watermark)
        self.serial = 0  # of the last scheduled step
        self.host_free = limits.swap_blocks

    def schedule(self, now: float) -> Step:
        """See ``LocalScheduler.schedule``."""
        if self.index in self.decoding.finishing:
            self._retire(self.index)
        waiting, step = self.waiting, None
        if waiting and not waiting.swapped and not waiting.come():
            step = self._prefills(now)
        if step is None:
            self.index += 1
            step = Step(self.index)
            self._decodes(step, now)
        self.serial = step.index = self.serial + 1
        return step

    def _prefills(self, now: float) -> Step | None:
        """A step of the waiting prompts that fit; None if none does."""
        step = Step(self.index)
        decoding = self.decoding.n
        self._open(step)
        self._admit(step, now, self.budget, 0, False)
        step.paused = decoding
        return step if step.chunks else None

    def _decodes(self, step: Step, now: float) -> None:
        """Make ``step`` one of decodes, and of the first tokens of those whose KV has come."""
        if self.exact_steps or not self._serve_decodes(step):
            walk.serve_in_order(self, step, 0, False)
        if step.preempted:
            self._blocked = False
            return
        if self.waiting.swapped:
            self._swap_in(step)
            self._blocked = True  # prompts wait until all are back
            if self.running:
                return
        come = self.waiting.come()
        if come:
            self._open(step)
            self._admit(step, now, min(come, self.budget - step.decode), 0, False)
            self._blocked = False  # prompts have not been looked at

    def preempt(self, step: Step, request: Request, served: int) -> None:
        """See ``ContinuousBatching.preempt``."""
        computed = request.base + step.index - 1
        blocks = -(-computed // self.block_size)
        if request.finish_step < step.index or not 0 < blocks <= self.host_free:
            super().preempt(step, request, served)
            return
        self.decoding.leave(request, step.index - 1)
        self.decoding.withdraw(request)
        request.computed = computed
        request.tokens = computed + 1
        request.decoding = request.loaded = False
        request.blocks = blocks
        self.pool.release(request)
        del self.running[request]
        request.preemptions += 1
        self.host_free -= blocks
        self.waiting.swap_out(request)
        step.stall_s += blocks * self.limits.swap_s_per_block
        step.preempted = [*step.preempted, (request, True)]

    def _swap_in(self, step: Step) -> None:
        """Bring back who was swapped out, in turn, while there is memory for it and its next token."""
        swapped, pool, size = self.waiting.swapped, self.pool, self.block_size
        window = self.limits.window
        while swapped and len(self.running) < self.max_active and step.decode < self.budget:
            request = swapped[0]
            computed = request.computed
            blocks = -(-(computed + 1) // size)
            if blocks > pool.free - (self.watermark if self.running else 0):
                if self.source is not None and elsewhere.make_room(self, request):
                    continue
                return
            self.waiting.swap_in()
            held = -(-computed // size)
            self.host_free += held
            step.stall_s += held * self.limits.swap_s_per_block
            pool.take(blocks, request)
            request.blocks = blocks
            request.base = computed - (step.index - 1)
            request.finish_step = request.length - 1 - request.base
            request.decoding = True
            self._admissions = request.seq = self._admissions + 1
            self.running[request] = None
            self.decoding.join(request, step.index - 1)
            if self.exact_steps:
                request.computed = computed + 1
            step.decode += 1
            step.context += computed + 1
            step.longest = max(step.longest, computed + 1) if self.limits.longest else 0
            if window is not None:
                step.window_context += min(computed + 1, window)
            step.came_back = [*step.came_back, request]

    def run_length(self, step: Step) -> int:
        """See ``LocalScheduler.run_length``."""
        return 1 if step.came_back or not step.decode else super().run_length(step)

    def advance(self, steps: int) -> None:
        """See ``LocalScheduler.advance``."""
        super().advance(steps)
        self.serial += steps

    def update(self, index: int) -> Sequence[Request]:
        """See ``LocalScheduler.update``. If another step was scheduled since, whoever finished with this one
        has been retired."""
        if index == self.serial and self.index in self.decoding.finishing:
            self._retire(self.index)
        return super().update(-1)

    def served(self, step: Step) -> Iterable[Request]:
        """See ``LocalScheduler.served``."""
        if step.firsts and not step.decode:
            return step.firsts
        return [request for request in self.running if request.finish_step >= self.index]

    def remove(self, request: Request, *, keep: bool = False) -> None:
        """See ``LocalScheduler.remove``."""
        if request not in self.waiting.swapped:
            super().remove(request, keep=keep)
            return
        self.waiting.remove(request)
        self.host_free += -(-request.computed // self.block_size)
        request.lost_tokens, request.computed = request.computed, 0
        self._blocked = False

    def check_integrity(self) -> None:
        """See ``LocalScheduler.check_integrity``."""
        super().check_integrity()
        swapped = sum(-(-request.computed // self.block_size) for request in self.waiting.swapped)
        assert self.host_free + swapped == self.limits.swap_blocks, "host blocks leaked"

    def _queue(self) -> WaitingQueue:
        return FifoAndSwapped()
