"""Hooks: what a user's own code hears of a run, from a request down to an operator.

A hook overrides the methods that it cares for and may act through ``self.control``. One that listens to
steps, tokens or operators makes every instance take its steps one by one: slower, never different.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from tokensim.cost.base import OperatorTime
from tokensim.errors import InputError, SimulationError, nearest
from tokensim.scheduling.local import Request, Step

if TYPE_CHECKING:
    from tokensim.engine.control import Control
    from tokensim.engine.instance import Instance
    from tokensim.engine.replica import Replica


class Hook:
    """Does nothing; override what you need. ``control`` is there from ``on_start`` on."""

    control: Control

    def on_start(self) -> None:
        """The cluster stands, and no request has arrived yet."""

    def on_arrival(self, request: Request) -> None:
        """``request`` has reached the cluster and will be routed."""

    def on_route(self, request: Request, replica: Replica) -> None:
        """``request`` was sent to ``replica`` (of a cluster with prefill and decode apart: for either
        stage)."""

    def before_step(self, instance: Instance, step: Step, start_s: float, seconds: float) -> None:
        """``instance`` will run ``step`` from ``start_s`` on, for ``seconds``."""

    def after_step(self, instance: Instance, step: Step, end_s: float) -> None:
        """``step`` of ``instance`` has been run; it ended, or will end, at ``end_s`` (asynchronous scheduling
        looks at it when it starts)."""

    def on_operator(self, instance: Instance, step: Step, operator: OperatorTime) -> None:
        """One operator (all layers together) of ``step``, called after ``before_step``."""

    def on_token(self, request: Request, instance: Instance, time_s: float) -> None:
        """``request`` gets a token at ``time_s``."""

    def on_token_lost(self, request: Request, instance: Instance, time_s: float) -> None:
        """The token of ``time_s`` that ``on_token`` has told of is thrown away: ``request`` lost its place
        while that step was in flight (SGLang retracts so)."""

    def on_preempt(self, request: Request, instance: Instance) -> None:
        """``request`` lost its place in the batch, for want of memory."""

    def on_transfer(self, request: Request, source: Replica, target: Replica, bytes_: float) -> None:
        """The KV of ``request`` has come from ``source`` to ``target``, ``bytes_`` in all."""

    def on_finish(self, request: Request, replica: Replica, time_s: float) -> None:
        """``request`` ends in ``replica`` at ``time_s`` with its last token."""

    def on_end(self) -> None:
        """Every request is accounted for."""


EVENTS = tuple(name for name in vars(Hook) if name.startswith(("on_", "before_", "after_")))
STEPWISE = ("before_step", "after_step", "on_operator", "on_token")


class Hooks:
    """The hooks of a run, by event: an attribute an event, that calls each hook that overrides it, or None.

    Raises ``InputError`` for a hook with a method ``on_…`` that is no event.
    """

    on_start: Callable[[], None] | None
    on_arrival: Callable[[Request], None] | None
    on_route: Callable[[Request, Replica], None] | None
    before_step: Callable[[Instance, Step, float, float], None] | None
    after_step: Callable[[Instance, Step, float], None] | None
    on_operator: Callable[[Instance, Step, OperatorTime], None] | None
    on_token: Callable[[Request, Instance, float], None] | None
    on_token_lost: Callable[[Request, Instance, float], None] | None
    on_preempt: Callable[[Request, Instance], None] | None
    on_transfer: Callable[[Request, Replica, Replica, float], None] | None
    on_finish: Callable[[Request, Replica, float], None] | None
    on_end: Callable[[], None] | None

    def __init__(self, hooks: Iterable[Hook] = ()) -> None:
        self.hooks = tuple(hooks)
        for hook in self.hooks:
            for name in dir(type(hook)):
                if name.startswith(("on_", "before_", "after_")) and name not in EVENTS:
                    raise InputError(
                        f"{type(hook).__name__}.{name} is no event that a hook can hear of",
                        where="hooks",
                        hint=nearest(name, EVENTS),
                    )
        for event in EVENTS:
            listeners = [hook for hook in self.hooks if _overrides(hook, event)]
            setattr(self, event, _caller(event, listeners) if listeners else None)

    @property
    def stepwise(self) -> bool:
        """Whether somebody wants to hear of single steps."""
        return any(getattr(self, event) is not None for event in STEPWISE)


def _overrides(hook: Hook, event: str) -> bool:
    method = getattr(type(hook), event, None)
    return method is not None and method is not getattr(Hook, event)


def _caller(event: str, hooks: Sequence[Hook]) -> Callable[..., None]:
    """A function that calls ``event`` of ``hooks`` in turn; an error there names the hook."""
    methods = [(type(hook).__name__, getattr(hook, event)) for hook in hooks]

    def call(*what: Any) -> None:
        for name, method in methods:
            try:
                method(*what)
            except (SimulationError, InputError):
                raise
            except Exception as error:
                raise SimulationError(
                    f"the hook {name} failed in {event}: {type(error).__name__}: {error}"
                ) from error

    return call
