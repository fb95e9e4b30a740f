"""Tells hooks of single steps: what an instance is about to run, and what it has run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tokensim.cost.base import StepColumns, StepCost
from tokensim.engine.hooks import Hooks
from tokensim.scheduling.local import Step

if TYPE_CHECKING:
    from tokensim.engine.instance import Instance


class Watch:
    """Set as ``Instance.watch``, it is called around each step, which then is a run of its own."""

    def __init__(self, hooks: Hooks, cost: StepCost) -> None:
        self._hooks = hooks
        self._cost = cost

    def before(self, instance: Instance, step: Step, start_s: float, seconds: float) -> None:
        """``step`` was scheduled: it starts at ``start_s`` and lasts ``seconds``."""
        hooks = self._hooks
        if hooks.before_step is not None:
            hooks.before_step(instance, step, start_s, seconds)
        if hooks.on_operator is not None:
            for operator in self._cost.breakdown(columns_of(step, seconds)):
                hooks.on_operator(instance, step, operator)
        if hooks.on_token is not None:
            for request in list(instance.scheduler.served(step)):
                hooks.on_token(request, instance, start_s + seconds)

    def after(self, instance: Instance, step: Step, end_s: float) -> None:
        """``step`` has been run, and ends at ``end_s``."""
        if self._hooks.after_step is not None:
            self._hooks.after_step(instance, step, end_s)


def columns_of(step: Step, seconds: float) -> StepColumns:
    """``step``, which lasts ``seconds``, as columns of one entry."""

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
        samples=whole(step.decode + len(step.firsts)),
        chunk_row=np.zeros(len(step.chunks), np.int64),
        chunk_tokens=whole(*(tokens for tokens, _ in step.chunks)),
        chunk_context=whole(*(before for _, before in step.chunks)),
    )
