"""Continuous batching in the order of a rank instead of that of arrival; optionally with preemption for it.

Waiting requests are admitted in ascending order of their rank, which must not change while they wait. With
``preemptive``, the head of the queue that cannot be admitted pushes out running requests of a higher rank,
the highest first, until it fits. That is how vLLM 0.6 treats ``--scheduling-policy priority``
(``Scheduler._schedule_priority_preemption``); V1 only orders its queue. Memory is taken back from the highest
rank first, too. All else is vLLM V1's procedure (``continuous.py``).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from heapq import heappop, heappush
from typing import Any, ClassVar

from tokensim.scheduling.local.base import Limits, Step
from tokensim.scheduling.local.continuous import ContinuousBatching
from tokensim.scheduling.local.queues import ByRank, Rank, WaitingQueue
from tokensim.scheduling.local.request import Request


class Ranked(ContinuousBatching):
    """The base of policies that are an order: they say ``rank``."""

    settles: ClassVar[Mapping[str, Any]] = {"scheduling_policy": "fcfs", "prefill_schedule_interval": 1}

    def __init__(
        self,
        limits: Limits,
        version: str = "0.33.0",
        *,
        exact_steps: bool = False,
        preemptive: bool = False,
    ) -> None:
        super().__init__(limits, version, exact_steps=exact_steps)
        self.preemptive = preemptive
        self._highest: list[tuple[Rank, int, Request]] = []  # a heap of those admitted, ranks negated

    @abstractmethod
    def rank(self, request: Request) -> Rank:
        """Where ``request`` stands: the lowest first. Numbers that differ between any two requests."""

    def victim(self, running: list[Request]) -> Request:
        """See ``ContinuousBatching.victim``: the highest rank."""
        return max(running, key=self.rank)

    def schedule(self, now: float) -> Step:
        """See ``LocalScheduler.schedule``."""
        if not (self.preemptive and self.waiting):
            return super().schedule(now)
        self.index += 1
        if self.index - 1 in self.decoding.finishing:
            self._retire(self.index - 1)
        step = Step(self.index)
        self.push_out(step)
        self._schedule_fully(step, now)
        return step

    def push_out(self, step: Step) -> None:
        """Preempt those of a higher rank than the head of the queue until that fits, highest first."""
        head = self.waiting.head()
        while not self._fits(head):
            highest = self._highest_rank()
            if highest is None or self.rank(highest) < self.rank(head):
                return
            self.preempt(step, highest, 0)

    def _fits(self, request: Request) -> bool:
        """Whether there is a place for ``request`` and memory for its prompt beside the next decodes."""
        if len(self.running) >= self.max_active:
            return False
        hit = idle = 0
        most = -(-min(request.tokens, self.limits.max_model_len) // self.block_size)
        if request.loaded:
            hit = request.blocks
        elif request.content is not None:
            _, hit, idle = self.pool.find(request.content, (request.tokens - 1) // self.block_size)
        free = self.pool.free - idle - (self.watermark if self.running else 0)
        return most - hit <= free - self.decoding.blocks_at(self.index)

    def run_length(self, step: Step) -> int:
        """See ``LocalScheduler.run_length``: 1 as long as somebody may be pushed out."""
        if self.preemptive and self.waiting:
            highest = self._highest_rank()
            if highest is not None and self.rank(self.waiting.head()) < self.rank(highest):
                return 1
        return super().run_length(step)

    def add(self, request: Request) -> bool:
        """See ``LocalScheduler.add``."""
        heads = super().add(request)
        if not self.preemptive or self.waiting.head() is not request:
            return heads
        highest = self._highest_rank()
        return heads or (highest is not None and self.rank(request) < self.rank(highest))

    def claim(self, request: Request) -> bool:
        """See ``ContinuousBatching.claim``: remember who may be pushed out again."""
        if self.preemptive:
            negated = tuple(-number for number in self.rank(request))
            heappush(self._highest, (negated, self._admissions + 1, request))
        return True

    def _highest_rank(self) -> Request | None:
        """The running request of the highest rank whose last token is not in flight yet."""
        heap = self._highest
        while heap:
            _, seq, request = heap[0]
            over = request.decoding and request.finish_step <= self.index
            if request.seq == seq and request in self.running and not over:
                return request
            heappop(heap)
        return None

    def _queue(self) -> WaitingQueue:
        return ByRank(self.rank)
