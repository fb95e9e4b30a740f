"""Drives a local scheduler through the real engine's loop, a step at a time, and tells what it did."""

from __future__ import annotations

from typing import Any, NamedTuple

from conformance.replay import scheduled
from tokensim.memory import Content
from tokensim.scheduling.local import ContinuousBatching, Limits, Request, Step, Vllm, form_for


class Row(NamedTuple):
    """One step: [request, tokens, computed before]; who was admitted, sent back, hit how much, finished."""

    ran: list[list[int]]
    admitted: list[int]
    preempted: list[int]
    hits: list[tuple[int, int]]
    finished: list[int]


class Drive:
    """One instance; unless told otherwise 40 usable blocks of 4 tokens, synchronous, no prefix cache."""

    def __init__(
        self,
        *,
        exact_steps: bool,
        version: str = "0.33.0",
        policy: type[ContinuousBatching] = Vllm,
        blocks: int = 40,
        **limits: Any,
    ) -> None:
        options = {
            "block_size": 4,
            "max_num_seqs": 16,
            "max_num_batched_tokens": 100,
            "enable_prefix_caching": False,
            "async_scheduling": False,
            **limits,
        }
        self.limits = Limits(num_gpu_blocks=blocks + 1, **options)
        self.scheduler = form_for(policy, self.limits)(self.limits, version, exact_steps=exact_steps)
        self.flying: Step | None = None
        self.last: Step
        self.number = 0

    def add(
        self,
        prompt: int,
        output: int = 50,
        *,
        priority: int = 0,
        at: float | None = None,
        run: int | None = None,
    ) -> Request:
        """A request arrives; ``run``: the identity of its prompt, for prefix caching."""
        length = min(prompt + output, self.limits.max_model_len)
        arrival = float(self.number) if at is None else at
        request = Request(self.number, arrival, prompt, output, length)
        request.priority = priority
        if run is not None:
            request.content = Content.of_runs([(run, prompt)], -1 - self.number)
        self.number += 1
        self.scheduler.add(request)
        return request

    def step(self) -> Row:
        """One iteration: schedule, then update the step before (asynchronous) or this one."""
        scheduler = self.scheduler
        self.last = step = scheduler.schedule(0.0)
        ran = scheduled(scheduler, step)
        done = self.flying if self.limits.async_scheduling else step
        self.flying = step
        finished = scheduler.update(done.index) if done is not None else ()
        scheduler.check_integrity()
        return Row(
            ran,
            [r.index for r, _ in step.admitted],
            [r.index for r, _ in step.preempted],
            [(r.index, hit) for r, hit in step.admitted if hit],
            [r.index for r in finished],
        )

    def steps(self, count: int) -> list[list[list[int]]]:
        """What ran in each of the next ``count`` steps."""
        return [self.step().ran for _ in range(count)]

    @property
    def free(self) -> int:
        return self.scheduler.pool.free

    @property
    def waiting(self) -> list[int]:
        return [request.index for request in self.scheduler.waiting]
