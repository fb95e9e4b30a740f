"""Drives any local scheduler a step at a time, in the synchronous loop, and tells in one line what it ran.

``"0 1 | 2:16 -3 !0"``: requests 0 and 1 decode, 2 runs 16 tokens of its prefill, 3 lost its place, 0 is done.
"""

from __future__ import annotations

from typing import Any

from tokensim.registry import register
from tokensim.scheduling.local import Limits, Request, Step, Traits
from tokensim.scheduling.local.outlook import walked


class Story:
    """One instance of the policy ``name`` with ``options``; unless told otherwise 40 blocks of 4 tokens."""

    def __init__(
        self,
        name: str,
        *,
        exact_steps: bool,
        blocks: int = 40,
        options: dict[str, Any] | None = None,
        **limits: Any,
    ) -> None:
        given = {
            "block_size": 4,
            "max_num_seqs": 16,
            "max_num_batched_tokens": 100,
            "enable_prefix_caching": False,
            "async_scheduling": False,
            **limits,
        }
        policy = register.local_scheduler.get(name)
        self.scheduler = policy(
            Limits(num_gpu_blocks=blocks + 1, **given), exact_steps=exact_steps, **(options or {})
        )
        self.last: Step
        self.number = 0

    def add(self, prompt: int, output: int, priority: int = 0, **traits: Any) -> Request:
        """A request arrives, one second after the one before."""
        request = Request(self.number, float(self.number), prompt, output, prompt + output)
        request.priority = priority
        request.traits = Traits(**traits)
        self.number += 1
        self.scheduler.add(request)
        return request

    def step(self) -> str:
        """One iteration."""
        scheduler = self.scheduler
        self.last = step = scheduler.schedule(0.0)
        decodes = [request for request in scheduler.served(step) if request not in step.firsts]
        assert step.decode == len(decodes) + step.idle
        told = [str(request.index) for request in decodes]
        if step.chunks:
            told.append("|")
            runs = zip(step.chunk_requests, step.chunks, strict=True)
            told += [f"{request.index}:{tokens}" for request, (tokens, _) in runs]
        told += [f"-{request.index}" for request, _ in step.preempted]
        told += [f"!{request.index}" for request in scheduler.update(step.index)]
        scheduler.check_integrity()
        seen = walked(scheduler, scheduler.index, scheduler.block_size)
        assert scheduler.outlook()._replace(phase=()) == seen._replace(phase=())
        return " ".join(told)

    def steps(self, count: int) -> list[str]:
        """The next ``count`` of them."""
        return [self.step() for _ in range(count)]

    @property
    def free(self) -> int:
        """Free blocks."""
        return int(self.scheduler.pool.free)

    @property
    def waiting(self) -> list[int]:
        """Who waits."""
        return [request.index for request in self.scheduler.waiting]
