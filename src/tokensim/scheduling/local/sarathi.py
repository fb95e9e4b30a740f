"""Sarathi-Serve: chunked prefills that never stall a decode (Agrawal et al., OSDI'24).

Every step first gives each decoding request its token, then fills what is left of the token budget with the
prefill under way and with new ones, cut into chunks. So a step never gets much longer than the decodes alone,
and no decode waits for a prefill. ``max_num_batched_tokens`` is the paper's token budget: 512 keeps a strict
bound on the time between tokens, 2,048 favours throughput.

The rest follows the authors' code (``sarathi/core/scheduler/sarathi_scheduler.py``): who arrived last is
preempted, by recomputation, and admission goes on in the same step.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from tokensim.registry import register
from tokensim.scheduling.local import walk
from tokensim.scheduling.local.base import Step
from tokensim.scheduling.local.block_manager import WatermarkedBatching
from tokensim.scheduling.local.request import Request


def arrival(request: Request) -> tuple[float, int]:
    """First come, first served."""
    return request.arrival_s, request.index


@register.local_scheduler("sarathi")
class Sarathi(WatermarkedBatching):
    """``policy: sarathi``; its option is ``watermark``."""

    prefers: ClassVar[Mapping[str, Any]] = {
        "max_num_batched_tokens": 512,  # sarathi/config: SarathiSchedulerConfig.chunk_size
        "max_num_seqs": 128,  # sarathi/config: BaseSchedulerConfig.max_num_seqs
        "async_scheduling": False,
    }
    settles: ClassVar[Mapping[str, Any]] = {
        **WatermarkedBatching.settles,
        "enable_chunked_prefill": True,
        "enable_prefix_caching": False,
    }

    def _schedule_fully(self, step: Step, now: float) -> None:
        self._open(step)
        if self.exact_steps or not self._serve_decodes(step):
            self._walk(step)
        budget = self.budget - step.decode
        for request in list(self.prefilling):
            tokens = min(request.tokens - request.computed, budget)
            if tokens > 0:
                self.run_chunk(step, request, tokens)
                budget -= tokens
        if self.waiting:
            self._admit(step, now, budget, 0, False)
        if step.preempted:
            self._blocked = False

    def _walk(self, step: Step) -> None:
        """Serve the decodes one by one in order of arrival; the last of those not served gives way."""
        served: dict[Request, tuple[int, int]] = {}
        pool, size, counting = self.pool, self.block_size, self.exact_steps
        live = [r for r in self.running if not r.decoding or r.finish_step >= step.index]
        queue = sorted(live, key=arrival)
        at = 0
        while at < len(queue):
            request = queue[at]
            at += 1
            if not request.decoding:
                continue
            while self.lacks(request, 0):
                victim = queue.pop() if len(queue) > at else request
                self.preempt(step, victim, 0)
                if victim is request:
                    break
            else:
                before = request.computed if counting else request.base + step.index - 1
                need = -(-(before + 1) // size) - (-(-before // size))
                pool.take(need, request)
                if counting:
                    request.blocks += need
                served[request] = (1, before)
        walk.write_down(self, step, served, list(self.running))
