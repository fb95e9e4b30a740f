"""TensorRT-LLM's in-flight batching with its two capacity schedulers.

Models ``capacityScheduler.cpp`` and ``microBatchScheduler.cpp`` in ``cpp/tensorrt_llm/batch_manager`` of
release 1.0, without chunked context (off by default) and without block reuse:

``guaranteed_no_evict`` (default): a request is admitted only when the blocks that it may need to its end are
left over by what the running ones may need to theirs. Nobody is ever paused.

``max_utilization``: a request is admitted when its prompt fits. Every generating request must find the blocks
of its next two steps (as the next one is prepared before this one has ended); while one does not, the request
that started last is paused: it loses its blocks and computes them again later, in its old place.

In both, requests go first come, first served, a context runs whole beside the generations, and
``max_num_batched_tokens`` and ``max_num_seqs`` (TensorRT-LLM: max_num_tokens, max_batch_size) bound a step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from tokensim.errors import InputError, nearest
from tokensim.registry import register
from tokensim.scheduling.local.base import WITHOUT_V1, Limits, Step
from tokensim.scheduling.local.continuous import ContinuousBatching
from tokensim.scheduling.local.request import Request

CAPACITY_POLICIES = ("guaranteed_no_evict", "max_utilization")


@register.local_scheduler("trtllm")
class TensorRtLlm(ContinuousBatching):
    """``policy: trtllm``; the option ``capacity`` is one of ``CAPACITY_POLICIES``."""

    can_tier = False
    kv_format = "TensorRT-LLM"
    prefers: ClassVar[Mapping[str, Any]] = {"async_scheduling": False}
    settles: ClassVar[Mapping[str, Any]] = {
        "scheduling_policy": "fcfs",
        "enable_chunked_prefill": False,
        "enable_prefix_caching": False,
        **WITHOUT_V1,
    }

    def __init__(
        self,
        limits: Limits,
        version: str = "0.33.0",
        *,
        exact_steps: bool = False,
        capacity: str = "guaranteed_no_evict",
    ) -> None:
        if capacity not in CAPACITY_POLICIES:
            raise InputError(
                f"unknown capacity scheduler {capacity!r}",
                where="policy_options.capacity",
                hint=nearest(capacity, CAPACITY_POLICIES),
            )
        super().__init__(limits, version, exact_steps=exact_steps)
        self.evicts = capacity == "max_utilization"
        self._promises: dict[Request, int] = {}  # blocks that each holds or may still need to its end
        self._promised = 0  # their sum
        self._ahead = 0  # blocks of the step after this one, of those that have been served

    def to_completion(self, request: Request) -> int:
        """Blocks of ``request`` at its end."""
        return -(-request.length // self.block_size)

    def claim(self, request: Request) -> bool:
        """See ``ContinuousBatching.claim``."""
        if self.evicts:
            held = request.blocks if request.loaded else 0
            return -(-request.tokens // self.block_size) - held + self._ahead <= self.pool.free
        if request in self._promises:  # its KV has come from elsewhere
            return True
        needed = self.to_completion(request)
        if self._promised + needed > self.pool.num_blocks:
            return False
        self._promises[request] = needed
        self._promised += needed
        return True

    def grant(self, request: Request) -> bool:
        """See ``ContinuousBatching.grant``."""
        return self.claim(request)

    def revoke(self, request: Request) -> None:
        """See ``ContinuousBatching.revoke``."""
        self._promised -= self._promises.pop(request, 0)

    def update(self, index: int) -> Sequence[Request]:
        """See ``LocalScheduler.update``."""
        done = super().update(index)
        for request in done:
            if not request.held:
                self.revoke(request)
        return done

    def run_length(self, step: Step) -> int:
        """See ``LocalScheduler.run_length``."""
        steps = super().run_length(step)
        if steps == 1 or not self.evicts:
            return steps
        return max(1, self.decoding.steps_within(self.index + 1, steps, self.pool.free))

    def lacks(self, request: Request, need: int) -> bool:
        """See ``ContinuousBatching.lacks``: two steps count, beside what others have been promised of the
        second."""
        if not self.evicts:
            return super().lacks(request, need)
        later = (request.base + self.index) % self.block_size == 0 and request.finish_step > self.index
        if need + later + self._ahead > self.pool.free:
            return True
        self._ahead += later
        return False

    def _serve_decodes(self, step: Step) -> bool:
        if self.evicts:
            ahead = self._need_after(step.index)
            if self.decoding.blocks_at(step.index) + ahead > self.pool.free:
                return False
            self._ahead = ahead
        return super()._serve_decodes(step)

    def _schedule_fully(self, step: Step, now: float) -> None:
        self._ahead = 0
        super()._schedule_fully(step, now)

    def _need_after(self, step: int) -> int:
        """Blocks that those who decode in ``step`` and do not finish with it need in the next one."""
        size, last = self.block_size, self.decoding.finishing.get(step, ())
        return self.decoding.blocks_at(step + 1) - sum((request.base + step) % size == 0 for request in last)
