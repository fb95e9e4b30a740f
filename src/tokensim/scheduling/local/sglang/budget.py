"""What one prefill batch may take: memory, now and later, and tokens; SGLang's ``PrefillAdder`` in numbers.

Memory that running requests are expected to need is a sum of floating-point numbers, row by row. Its value in
closed form can differ in the last bits; where that could matter, which is next to a whole number, the rows
are summed up one by one.
"""

from __future__ import annotations

from tokensim.memory.radix import RadixPool
from tokensim.scheduling.local.base import Limits
from tokensim.scheduling.local.sglang.batch import RunningBatch

OK, OTHER, NO_TOKEN = range(3)

NEAR = 1e-6
"""Far more than what summing up in another order changes: 1e-16 of each of some thousand terms of up to
4,096 tokens."""


class Budget:
    """The budget of one pass over the waiting queue; ``decodes`` rows of the running batch run along.

    ``chunk``: prompt tokens left for this batch (None: chunking is off); ``prompt``: the same for
    ``max_prefill_tokens``.
    """

    def __init__(
        self,
        pool: RadixPool,
        batch: RunningBatch,
        limits: Limits,
        *,
        ratio: float,
        max_prefill_tokens: int,
        decodes: int,
    ) -> None:
        self.pool = pool
        self.batch = batch
        self.page = limits.block_size
        self.ratio = ratio
        self.prompt = max_prefill_tokens - decodes
        self.chunk = limits.max_num_batched_tokens - decodes if limits.enable_chunked_prefill else None
        self.decodes = decodes
        self.now_offset = decodes
        uncertain = batch.remaining(False)
        self._exact = not uncertain
        self._offset = decodes + (batch.remaining(True) + uncertain * ratio)
        self._charges: list[int] = []

    @property
    def total(self) -> float:
        """Tokens left once all that runs has produced what it is expected to."""
        left = self.pool.available + self.pool.evictable - self._offset
        if not self._exact and abs(left - round(left)) < NEAR:
            self._exact = True
            self._offset = self.decodes + self.batch.estimate(self.ratio)
            for charge in self._charges:
                self._offset += charge
            left = self.pool.available + self.pool.evictable - self._offset
        return left

    @property
    def now(self) -> int:
        """Tokens left right now."""
        return self.pool.available + self.pool.evictable - self.now_offset

    def charge(self, tokens: int, outputs: int) -> None:
        """``tokens`` of a prompt run, and ``outputs`` may follow."""
        extent = self.ceil(tokens)
        self._charges.append(extent + self.page + outputs)
        self._offset += extent + self.page + outputs
        self.now_offset += extent + self.page
        self.prompt -= extent
        if self.chunk is not None:
            self.chunk -= extent

    def state(self) -> int:
        """Whether there is anything left, and if not, of what."""
        if self.total <= 0 or self.now <= 0:
            return NO_TOKEN
        if self.prompt <= 0 or (self.chunk is not None and self.chunk <= 0):
            return OTHER
        return OK

    def ceil(self, tokens: int) -> int:
        """``tokens`` in whole pages."""
        return -(-tokens // self.page) * self.page
