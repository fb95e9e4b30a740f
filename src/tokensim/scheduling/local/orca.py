"""Orca: iteration-level scheduling with reserved memory (Yu et al., OSDI'22).

After every iteration finished requests leave and waiting ones join, first come, first served, up to
``max_num_seqs`` (the paper's max_bs) and as long as their memory can be reserved; a prompt runs whole beside
the decodes of the others (selective batching). A request reserves room for its prompt and the longest answer
that it may give (``max_tokens``), which is how Orca never runs out and why much of its memory lies idle.

``reserve`` says what that is, after the three variants of the vLLM paper (Kwon et al., SOSP'23, 6.1):
``oracle``: just what the request will generate; ``pow2``: that, rounded up to a power of two; ``max``:
``max_model_len`` less the prompt.
"""

from __future__ import annotations

from collections.abc import Sequence

from tokensim.errors import InputError, nearest
from tokensim.registry import register
from tokensim.scheduling.local.base import Limits, Step
from tokensim.scheduling.local.request import Request
from tokensim.scheduling.local.reserved import ReservedBatching

RESERVES = ("oracle", "pow2", "max")


@register.local_scheduler("orca")
class Orca(ReservedBatching):
    """``policy: orca``; the option ``reserve`` is one of ``RESERVES``."""

    can_load = True

    def __init__(
        self, limits: Limits, version: str = "0.33.0", *, exact_steps: bool = False, reserve: str = "oracle"
    ) -> None:
        if reserve not in RESERVES:
            raise InputError(
                f"unknown reserve {reserve!r}",
                where="policy_options.reserve",
                hint=nearest(reserve, RESERVES),
            )
        self.reserve = reserve
        super().__init__(limits, version, exact_steps=exact_steps)
        self._stuck = False  # the head of the queue needs memory, or the budget, of others
        self.loading: dict[Request, None] = {}  # hold their memory, and wait for KV from elsewhere
        self.holding: dict[Request, None] = {}  # have finished, but their KV is kept for somebody

    def reserved_tokens(self, request: Request) -> int:
        """Tokens for which ``request`` reserves memory."""
        longest = min(self.limits.max_model_len, self.pool.num_blocks * self.block_size)
        if self.reserve == "oracle":
            return request.length
        if self.reserve == "max":
            return longest
        output = request.length - request.input_tokens
        return min(request.input_tokens + (1 << (output - 1).bit_length()), longest)

    def admit(self, step: Step, now: float) -> None:
        """See ``ReservedBatching.admit``."""
        budget = self.limits.max_num_batched_tokens - step.decode
        self._stuck = False
        while self.waiting and len(self.running) < self.max_active:
            request = self.waiting.head()
            tokens = request.tokens - request.computed
            blocks = self.blocks(self.reserved_tokens(request)) - request.blocks
            offer = None
            if self.source is not None and not request.loaded:
                offer = self.source.offer(request, 0, now)
            if blocks > self.pool.free or (
                offer is None and tokens > budget and (step.decode or step.chunks)
            ):
                self._stuck = True
                return
            self.pool.take(blocks, request)
            request.blocks += blocks
            if offer is None or self.source is None:
                budget -= tokens
                self.start(step, now, request)
            else:
                self.waiting.pop()
                request.computed = min(offer.tokens, request.tokens - 1)
                self.loading[request] = None
                self.source.load(request, offer, now)

    def run_length(self, step: Step) -> int:
        """See ``LocalScheduler.run_length``."""
        full = len(self.running) >= self.max_active
        return 1 if self.waiting and not (full or self._stuck) else super().run_length(step)

    def end(self, done: Sequence[Request]) -> None:
        """See ``ReservedBatching.end``: all of it is free at once."""
        for request in done:
            del self.running[request]
            if request.held:
                self.holding[request] = None
            else:
                self.pool.release(request)
        self._stuck = False

    def loaded(self, request: Request) -> None:
        """See ``LocalScheduler.loaded``: it is next in line."""
        del self.loading[request]
        request.loaded = True
        self.waiting.put_back(request)
        self._stuck = False

    def release(self, request: Request) -> None:
        """See ``LocalScheduler.release``."""
        del self.holding[request]
        self.pool.release(request)
        self._stuck = False

    def remove(self, request: Request, *, keep: bool = False) -> None:
        """See ``LocalScheduler.remove``."""
        if request in self.running:
            self.detach(request)
            self.decoding.leave(request, self.index)
            del self.running[request]
            if keep:
                self.holding[request] = None
                return
        elif request in self.loading:
            del self.loading[request]
        elif request in self.holding:
            del self.holding[request]
        else:
            self.waiting.remove(request)
        self.pool.release(request)
        request.computed, request.loaded = 0, False
        self._stuck = False

    def check_integrity(self) -> None:
        """See ``LocalScheduler.check_integrity``."""
        live = [r for r in self.running if r.finish_step >= self.index and r not in self.leaving]
        assert self.decoding.n == len(live), f"{self.decoding.n} decode, {len(live)} in the list"
        assert self.decoding.base_sum == sum(r.base for r in live), "sum of contexts is off"
        self.pool.check_integrity((*self.running, *self.waiting, *self.loading, *self.holding))
