"""Tells hooks of single steps: what an instance is about to run, and what it has run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from tokensim.cost.base import Drafting, StepColumns, StepCost
from tokensim.engine.hooks import Hooks
from tokensim.scheduling.local import Request, Step

if TYPE_CHECKING:
    from tokensim.engine.instance import Instance


class Watch:
    """Set as ``Instance.watch``, it is called around each step, which then is a run of its own.

    ``keeps_first``: the first token of a request that goes on elsewhere is not its client's (it is computed
    there again), so that nobody hears of it.
    """

    def __init__(self, hooks: Hooks, cost: StepCost, *, keeps_first: bool = False) -> None:
        self._hooks = hooks
        self._cost = cost
        self._keeps_first = keeps_first

    def before(
        self,
        instance: Instance,
        step: Step,
        start_s: float,
        seconds: float,
        parts: Sequence[tuple[StepCost, float]] | None = None,
        drafting: Drafting | None = None,
    ) -> None:
        """``step`` was scheduled: it starts at ``start_s`` and lasts ``seconds``.

        ``parts`` are the (cost, seconds) of its pipeline stages, ``drafting`` what speculation adds.
        """
        hooks = self._hooks
        if hooks.before_step is not None:
            hooks.before_step(instance, step, start_s, seconds)
        if hooks.on_operator is not None:
            for cost, part_s in parts or [(self._cost, seconds)]:
                for operator in cost.breakdown(columns_of(step, part_s, drafting)):
                    hooks.on_operator(instance, step, operator)
        if hooks.on_token is not None:
            for request in list(instance.scheduler.served(step)):
                if not (request.held and self._keeps_first):
                    hooks.on_token(request, instance, start_s + seconds)

    def lost(self, instance: Instance, requests: Sequence[Request], time_s: float) -> None:
        """What each of ``requests`` was to get at ``time_s`` is thrown away."""
        if self._hooks.on_token_lost is not None:
            for request in requests:
                self._hooks.on_token_lost(request, instance, time_s)

    def outputs(self, instance: Instance, requests: Sequence[tuple[Request, int]], time_s: float) -> None:
        """Each of ``requests`` gets so many tokens at ``time_s`` (where ``before`` could not know)."""
        if self._hooks.on_token is not None:
            for request, tokens in requests:
                for _ in range(0 if request.held and self._keeps_first else tokens):
                    self._hooks.on_token(request, instance, time_s)

    def after(self, instance: Instance, step: Step, end_s: float) -> None:
        """``step`` has been run, and ends at ``end_s``."""
        if self._hooks.after_step is not None:
            self._hooks.after_step(instance, step, end_s)


def columns_of(step: Step, seconds: float, drafting: Drafting | None = None) -> StepColumns:
    """``step``, which lasts ``seconds``, as columns of one entry."""
    drafts = 0 if drafting is None else int(drafting.drafts[0])

    def one(value: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        return np.array([float(value)])

    def whole(*values: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        return np.array(values, np.int64)

    return StepColumns(
        steps=whole(1),
        decode=whole(step.decode),
        context=one(step.context),
        window_context=one(step.window_context),
        window_growth=one(step.window_growth),
        longest=one(step.longest),
        clock_share=one(0.0),
        seconds=one(seconds),
        samples=whole(step.decode + drafts + len(step.firsts)),
        chunk_row=np.zeros(len(step.chunks), np.int64),
        chunk_tokens=whole(*(tokens for tokens, _ in step.chunks)),
        chunk_context=whole(*(before for _, before in step.chunks)),
        drafting=drafting,
    )
