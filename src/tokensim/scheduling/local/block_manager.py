"""Memory as vLLM's first block manager handles it; the base of ``vllm-v0`` and of Sarathi-Serve, built on it.

A request gets the blocks of its whole prompt when it is admitted, if that leaves ``watermark`` of the pool
free (``BlockSpaceManager.can_allocate``). A decode must find a free block whether it needs one or not
(``can_append_slots``). When nothing runs, the watermark keeps nobody out: the original would refuse for good
a prompt that only fits without it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from tokensim.errors import InputError
from tokensim.scheduling.local.base import WITHOUT_V1, Limits, Step
from tokensim.scheduling.local.continuous import ContinuousBatching
from tokensim.scheduling.local.request import Request

WATERMARK = 0.01
"""``BlockSpaceManager(watermark=0.01)``, vllm/core/block_manager.py of vLLM 0.2 to 0.6."""


class WatermarkedBatching(ContinuousBatching):
    """The base; ``watermark`` is a share of the pool."""

    can_tier = False
    holds_whole_prompts = True
    settles: ClassVar[Mapping[str, Any]] = {
        "scheduling_policy": "fcfs",
        **WITHOUT_V1,
    }

    def __init__(
        self,
        limits: Limits,
        version: str = "0.33.0",
        *,
        exact_steps: bool = False,
        watermark: float = WATERMARK,
    ) -> None:
        if not 0.0 <= watermark < 1.0:
            raise InputError(
                f"{watermark} is no share", where="policy_options.watermark", hint="from 0 to less than 1"
            )
        super().__init__(limits, version, exact_steps=exact_steps)
        self.watermark = int(watermark * self.pool.num_blocks)

    def lacks(self, request: Request, need: int) -> bool:
        """See ``ContinuousBatching.lacks``: one block must be free, needed or not."""
        return self.pool.free < 1

    def run_length(self, step: Step) -> int:
        """See ``LocalScheduler.run_length``: as long as a block is left over."""
        steps = super().run_length(step)
        if steps == 1 or self.pool.free < 1:
            return 1
        return 1 + self.decoding.steps_within(self.index + 1, steps - 1, self.pool.free - 1)

    def _serve_decodes(self, step: Step) -> bool:
        """See ``ContinuousBatching``; when it is close, the walk tells who finds a free block."""
        if self.decoding.n and self.decoding.blocks_at(step.index) >= self.pool.free:
            return False
        return super()._serve_decodes(step)
