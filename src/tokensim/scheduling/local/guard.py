"""A guard around a local scheduler that is not ours: what it does wrong is said, with its name, when it does
it.

The guard is a class put before the policy's own, so that everything else of the policy stays what it is. A
check costs a look at what the decision names (chunks, admissions, preemptions, finishes), never at all who
run; only now and then the policy's own ``check_integrity`` looks at everything.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from functools import cache
from numbers import Integral
from types import new_class
from typing import Any

from tokensim.errors import InputError, SimulationError
from tokensim.memory import KvPool
from tokensim.scheduling.local.base import LocalScheduler, Step
from tokensim.scheduling.local.ledger import Ledger
from tokensim.scheduling.local.outlook import Outlook
from tokensim.scheduling.local.request import Request

FUTILE_DECISIONS = 10_000
"""Decisions in a row in which nobody gets a token though requests are there, that are taken for a live-lock.
Engines that find nothing to do look again after a millisecond: these are ten seconds."""

CHECKED_AT_FIRST = 8
"""Decisions that are followed by a whole ``check_integrity``, at the beginning of a run."""

CHECKED_EVERY = 64
"""Of the decisions after these, every so many-th is."""


@cache
def guarded(kind: type[LocalScheduler]) -> type[LocalScheduler]:
    """The class ``kind`` under guard, unless it is one of ours. Raises ``InputError`` if it is no local
    scheduler at all."""
    if not (isinstance(kind, type) and issubclass(kind, LocalScheduler)):
        raise InputError(
            f"{kind!r} is no local scheduler",
            where="policy",
            hint="register a class that is derived from tokensim.scheduling.local.LocalScheduler",
        )
    if kind.__module__.startswith("tokensim."):
        return kind
    made = new_class(kind.__name__, (Guard, kind))
    made.__module__, made.__qualname__, made.__doc__ = kind.__module__, kind.__qualname__, kind.__doc__
    return made


class Guard:
    """Comes before a policy's class: each method asks the policy's own, and looks at what that answers.

    Raises ``SimulationError`` with the policy's name, the method, the simulated time, and what it did.
    """

    pool: KvPool
    running: Collection[Request]
    waiting: Collection[Request]
    loading: Collection[Request]
    _ledger: Ledger

    def __init__(self, *what: Any, **options: Any) -> None:
        name = type(self).__name__
        self._ledger = Ledger(name)
        super().__init__(*what, **options)
        for part in ("pool", "running", "waiting"):
            if not hasattr(self, part):
                raise InputError(
                    f"the local scheduler {name} has no '{part}'",
                    where="policy",
                    hint="a local scheduler sets pool, running and waiting when it is made",
                )

    def add(self, request: Request) -> bool:
        """See ``LocalScheduler.add``."""
        self._ledger.enter(request)
        changes = self._ask("add", request)
        if changes is not True and changes is not False:
            raise self._ledger.blame("add", f"returned {changes!r}; it must be True or False")
        self._look_around("add")
        return changes

    def schedule(self, now: float) -> Step:
        """See ``LocalScheduler.schedule``."""
        ledger = self._ledger
        ledger.now = now
        step = self._ask("schedule", now)
        if not isinstance(step, Step):
            raise ledger.blame("schedule", f"returned {step!r}; it must be a Step")
        ledger.take_down(step, len(self.running))
        self._look_around("schedule")
        if step.decode > step.idle or step.chunks:
            ledger.futile = 0
        elif self.running or self.waiting:
            ledger.futile += 1
            if ledger.futile > FUTILE_DECISIONS:
                raise ledger.blame(
                    "schedule",
                    f"gave nobody a token {FUTILE_DECISIONS:,} times in a row, while {len(self.running)}"
                    f" requests run and {len(self.waiting)} wait: a live-lock",
                )
        ledger.decisions += 1
        if ledger.decisions <= CHECKED_AT_FIRST or ledger.decisions % CHECKED_EVERY == 0:
            self._ask("check_integrity")
        return step

    def run_length(self, step: Step) -> int:
        """See ``LocalScheduler.run_length``."""
        steps = self._ask("run_length", step)
        if not isinstance(steps, Integral) or steps < 1:
            raise self._ledger.blame(
                "run_length", f"returned {steps!r}; it must be a whole number, at least 1"
            )
        return int(steps)

    def advance(self, steps: int) -> None:
        """See ``LocalScheduler.advance``."""
        self._ask("advance", steps)
        self._ledger.repeat(steps)
        self._look_around("advance")

    def update(self, index: int) -> Sequence[Request]:
        """See ``LocalScheduler.update``."""
        done = self._ask("update", index)
        if not isinstance(done, Sequence):
            raise self._ledger.blame("update", f"returned {done!r}; it must be the requests that finished")
        for request in done:
            self._ledger.finish(request)
        self._look_around("update")
        return done

    def served(self, step: Step) -> Iterable[Request]:
        """See ``LocalScheduler.served``."""
        own: Callable[[Step], Iterable[Request]] = getattr(super(), "served")  # noqa: B009
        served: list[Request] = self._call("served", lambda: list(own(step)))
        for request in served:
            self._ledger.must_be_here("served", request, "names")
        return served

    def remove(self, request: Request, *, keep: bool = False) -> None:
        """See ``LocalScheduler.remove``."""
        self._ask("remove", request, keep=keep)
        self._ledger.leave(request)
        self._look_around("remove")

    def throttle(self, max_running: int | None) -> None:
        """See ``LocalScheduler.throttle``."""
        self._ask("throttle", max_running)

    def loaded(self, request: Request) -> None:
        """See ``LocalScheduler.loaded``."""
        self._ask("loaded", request)
        self._look_around("loaded")

    def release(self, request: Request) -> None:
        """See ``LocalScheduler.release``."""
        self._ask("release", request)
        self._look_around("release")

    def outlook(self) -> Outlook:
        """See ``LocalScheduler.outlook``."""
        outlook = self._ask("outlook")
        if not isinstance(outlook, Outlook):
            raise self._ledger.blame("outlook", f"returned {outlook!r}; it must be an Outlook")
        return outlook

    def cached_tokens(self, request: Request, steps: int) -> int:
        """See ``LocalScheduler.cached_tokens``."""
        tokens = self._ask("cached_tokens", request, steps)
        if not isinstance(tokens, Integral) or not 0 <= int(tokens) <= request.tokens:
            raise self._ledger.blame(
                "cached_tokens", f"returned {tokens!r} for {request}, which has {request.tokens} tokens"
            )
        return int(tokens)

    def _ask(self, method: str, *what: Any, **options: Any) -> Any:
        """What ``method`` of the policy answers."""
        own = getattr(super(), method)
        return self._call(method, lambda: own(*what, **options))

    def _call(self, method: str, act: Callable[[], Any]) -> Any:
        try:
            return act()
        except (SimulationError, InputError):
            raise
        except AssertionError as error:
            raise self._ledger.blame(method, f"found its state contradicting itself: {error}") from error
        except Exception as error:
            raise self._ledger.blame(method, f"raised {type(error).__name__}: {error}") from error

    def _look_around(self, method: str) -> None:
        """The pool and the number of requests are possible after ``method``."""
        ledger, pool = self._ledger, self.pool
        if not 0 <= pool.free <= pool.num_blocks:
            raise ledger.blame(
                method,
                f"overcommitted memory: {pool.free} of the {pool.num_blocks} KV blocks are free"
                if pool.free < 0
                else f"gave back more memory than there is: {pool.free} of {pool.num_blocks} blocks are free",
            )
        here = len(self.running) + len(self.waiting) + len(self.loading)
        did = "lost" if here < len(ledger.here) else "made up"
        if here != len(ledger.here):
            raise ledger.blame(
                method,
                f"{did} requests: {len(ledger.here)} were added and"
                f" have not finished, but {len(self.running)} run, {len(self.waiting)} wait and"
                f" {len(self.loading)} load",
            )
