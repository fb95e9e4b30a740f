"""The runs that the figures show: examples of this repository, with notes on every step and token."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tokensim.assemble import Result, simulate
from tokensim.engine.hooks import Hook
from tokensim.engine.instance import Instance
from tokensim.memory import BlockByBlockPool
from tokensim.scenario.loading import load_scenario
from tokensim.scheduling.local import Request, Step

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@dataclass(frozen=True, slots=True)
class Moment:
    """One step of ``instance``: requests by their index in the workload.

    ``prefill``: tokens of each prefill chunk; ``decode``: who decodes; ``waiting`` and ``preempted`` after
    the decision. ``blocks``: ids that each holds (single instances, with ``exact_steps``); ``cached``: ids
    with a hash, whether held or free.
    """

    instance: int
    start_s: float
    end_s: float
    prefill: dict[int, int]
    decode: tuple[int, ...]
    waiting: tuple[int, ...]
    preempted: tuple[int, ...]
    blocks: dict[int, tuple[int, ...]]
    cached: frozenset[int]


class Notes(Hook):
    """Writes down every step, and when each request got its tokens."""

    def __init__(self) -> None:
        self.moments: list[Moment] = []
        self.tokens: dict[int, list[float]] = {}
        self._starts: dict[int, float] = {}
        self._seen: dict[int, Request] = {}

    def on_arrival(self, request: Request) -> None:
        """See ``Hook``."""
        self._seen[request.index] = request

    def on_token(self, request: Request, instance: Instance, time_s: float) -> None:
        """See ``Hook``."""
        self.tokens.setdefault(request.index, []).append(time_s)

    def before_step(self, instance: Instance, step: Step, start_s: float, seconds: float) -> None:
        """See ``Hook``."""
        self._starts[instance.index] = start_s

    def after_step(self, instance: Instance, step: Step, end_s: float) -> None:
        """See ``Hook``."""
        scheduler, pool = instance.scheduler, instance.scheduler.pool
        prefill = {r.index: tokens for r, (tokens, _) in zip(step.chunk_requests, step.chunks, strict=True)}
        served = [r.index for r in scheduler.served(step) if r.index not in prefill]
        blocks: dict[int, tuple[int, ...]] = {}
        cached: set[int] = set()
        if isinstance(pool, BlockByBlockPool):
            blocks = {r.index: pool.held(r) for r in scheduler.running}
            for request in self._seen.values():
                if request.content is not None:
                    most = (request.length - 1) // pool.block_size
                    cached.update(pool.find(request.content, most)[0])
        self.moments.append(
            Moment(
                instance.index,
                self._starts[instance.index],
                end_s,
                prefill,
                tuple(served),
                tuple(r.index for r in scheduler.waiting),
                tuple(r.index for r, _ in step.preempted),
                blocks,
                frozenset(cached),
            )
        )


def run(example: str, *overrides: str, hooks: tuple[Hook, ...] = (), exact_steps: bool = False) -> Result:
    """Simulate ``examples/<example>.yaml`` with ``overrides`` (``engine.block_size=4``)."""
    scenario = load_scenario(EXAMPLES / f"{example}.yaml", overrides)
    return simulate(scenario, hooks=hooks, exact_steps=exact_steps)


def watched(example: str, *overrides: str) -> tuple[Result, Notes]:
    """The same, step by step, with notes."""
    notes = Notes()
    return run(example, *overrides, hooks=(notes,), exact_steps=True), notes
