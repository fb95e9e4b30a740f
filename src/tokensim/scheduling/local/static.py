"""Static batching: the batch runs to the end of its longest answer, as in FasterTransformer.

Request-level scheduling (the baseline of Orca, OSDI'22): waiting requests are put together into a batch of
at most ``max_num_seqs``, their prompts run in one step, and nobody joins until all have finished. The KV
cache is one array of [batch, longest prompt + longest answer], and so bounds the batch. A request that has
finished keeps its row and its memory, and the row goes on to be computed, until the batch ends
(``ParallelGpt::forward`` of FasterTransformer 5.3).

Tokens leave as they are made (its streaming mode). Prompts are not padded to the longest one
(``remove_padding``). The rows of finished requests are charged their attention too, which
FasterTransformer's kernel skips: their cost is an upper bound.
"""

from __future__ import annotations

from collections.abc import Sequence

from tokensim.errors import SimulationError
from tokensim.memory import Table
from tokensim.registry import register
from tokensim.scheduling.local.base import Limits, Step
from tokensim.scheduling.local.request import Request
from tokensim.scheduling.local.reserved import ReservedBatching


@register.local_scheduler("static")
class Static(ReservedBatching):
    """``policy: static``; ``max_num_seqs`` is the batch size, ``max_num_batched_tokens`` bounds the prompts
    of one batch."""

    def __init__(self, limits: Limits, version: str = "0.33.0", *, exact_steps: bool = False) -> None:
        super().__init__(limits, version, exact_steps=exact_steps)
        self._rows: list[int] = []  # of the batch: tokens computed of each (kept where steps are walked)
        self._idle = 0  # rows that have finished
        self._memory = Table()  # of the batch

    def may_admit(self) -> bool:
        """See ``ReservedBatching.may_admit``."""
        return not self._rows

    def admit(self, step: Step, now: float) -> None:
        """See ``ReservedBatching.admit``: a new batch, when there is none."""
        if self._rows:
            return
        longest_prompt = longest_answer = tokens = blocks = 0
        while self.waiting and len(self._rows) < self.max_active:
            request = self.waiting.head()
            longest_prompt = max(longest_prompt, request.tokens)
            longest_answer = max(longest_answer, request.length - request.tokens)
            tokens += request.tokens
            needed = (len(self._rows) + 1) * self.blocks(longest_prompt + longest_answer)
            if needed > self.pool.free or tokens > self.limits.max_num_batched_tokens:
                if self._rows:
                    break
                needed = min(needed, self.pool.free)  # alone it fits: its last token needs no memory
            blocks = needed
            self._rows.append(request.tokens)
            self.start(step, now, request)
        self.pool.take(blocks, self._memory)
        self._memory.blocks = blocks

    def end(self, done: Sequence[Request]) -> None:
        """See ``ReservedBatching.end``: with the last one the whole batch goes."""
        for request in done:
            del self.running[request]
        if self._idle == len(self._rows):
            self._rows.clear()
            self._idle = 0
            self.decoding = self.fresh_decode_set()
            self.pool.release(self._memory)

    def leave(self, request: Request, step: int) -> None:
        """See ``ReservedBatching.leave``: its row stays."""
        self._idle += 1

    def remove(self, request: Request, *, keep: bool = False) -> None:
        """See ``LocalScheduler.remove``: its row stays too, but nobody keeps its KV."""
        if keep:
            raise SimulationError(f"the policy {type(self).__name__} does not keep KV for others")
        if request not in self.running:
            self.waiting.remove(request)
            return
        self.detach(request)
        request.computed = 0
        self._idle += 1
        self.end([request])

    def _serve(self, step: Step) -> None:
        if self._idle < len(self._rows):  # else the last token of all is in flight
            super()._serve(step)
            step.idle = self._idle

    def _walk(self, step: Step) -> None:
        if self._idle == len(self._rows):
            return
        self._rows = rows = [computed + 1 for computed in self._rows]
        step.decode, step.context, step.idle = len(rows), sum(rows), self._idle
        window = self.limits.window
        if window is not None:
            step.window_context = sum(min(row, window) for row in rows)
        if self.limits.longest:
            step.longest = max(rows)

    def check_integrity(self) -> None:
        """See ``LocalScheduler.check_integrity``."""
        rows = len(self._rows)
        assert self.decoding.n == rows, f"{self.decoding.n} rows decode of {rows}"
        live = [r for r in self.running if r.finish_step >= self.index or r in self.leaving]
        assert len(live) + self._idle >= rows, "a row belongs to nobody"
        self.pool.check_integrity([self._memory])
