"""A local scheduler that misbehaves is stopped with a message that names it and what it did; one that behaves
is not touched."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from plugin_runs import run, stranger

from tokensim import register
from tokensim.errors import InputError, SimulationError
from tokensim.scheduling.local import ContinuousBatching, Request, Step

pytestmark = pytest.mark.usefixtures("forgets_what_is_registered")


class Misbehaving(ContinuousBatching):
    """Schedules as ever, then does one thing wrong."""

    def schedule(self, now: float) -> Step:
        step = super().schedule(now)
        self.spoil(step)
        return step

    def spoil(self, step: Step) -> None:
        """What it does wrong."""


class Twice(Misbehaving):
    def spoil(self, step: Step) -> None:
        if len(self.running) > 1 and step.chunks:
            step.firsts = []
            step.chunks = step.chunks[:1] * 2
            step.chunk_requests = step.chunk_requests[:1] * 2
            step.decode = step.context = 0


class NeverAdded(Misbehaving):
    def spoil(self, step: Step) -> None:
        if step.chunks:
            step.chunk_requests[0] = stranger()


class TooMuch(Misbehaving):
    def spoil(self, step: Step) -> None:
        if step.chunks:
            step.chunks[0] = (10_000, 0)


class Again(Misbehaving):
    def spoil(self, step: Step) -> None:
        if step.chunks and step.chunks[0][1]:
            step.chunks[0] = (1, 0)


class TooMany(Misbehaving):
    def spoil(self, step: Step) -> None:
        step.decode += 1_000


class Negative(Misbehaving):
    def spoil(self, step: Step) -> None:
        step.decode = -1


class Uneven(Misbehaving):
    def spoil(self, step: Step) -> None:
        step.chunk_requests = []


class Unready(Misbehaving):
    def spoil(self, step: Step) -> None:
        if step.chunks and not step.firsts:
            step.firsts = [step.chunk_requests[-1]]


class Overcommits(Misbehaving):
    def spoil(self, step: Step) -> None:
        self.pool.take(self.pool.free + 1)


class GivesTooMuchBack(Misbehaving):
    def spoil(self, step: Step) -> None:
        self.pool.take(-10_000)


class Leaks(Misbehaving):
    def spoil(self, step: Step) -> None:
        self.pool.take(1)


class Nonsense(ContinuousBatching):
    def schedule(self, now: float) -> Step:
        return None  # type: ignore[return-value]


class Raises(ContinuousBatching):
    def victim(self, running: list[Request]) -> Request:
        raise KeyError("nobody")


class Loses(ContinuousBatching):
    def add(self, request: Request) -> bool:
        return request.index == 5 or super().add(request)


class Vague(ContinuousBatching):
    def add(self, request: Request) -> bool:
        super().add(request)
        return None  # type: ignore[return-value]


class FinishesTwice(ContinuousBatching):
    def update(self, index: int) -> Sequence[Request]:
        done = super().update(index)
        return [*done, *done]


class FinishesUnseen(ContinuousBatching):
    def update(self, index: int) -> Sequence[Request]:
        return [stranger()]


class FinishesNothing(ContinuousBatching):
    def update(self, index: int) -> Sequence[Request]:
        return None  # type: ignore[return-value]


class Backwards(ContinuousBatching):
    def run_length(self, step: Step) -> int:
        return -3


class Halves(ContinuousBatching):
    def run_length(self, step: Step) -> int:
        return 1.5  # type: ignore[return-value]


class Forever(ContinuousBatching):
    """Its requests decode on and on."""

    def run_length(self, step: Step) -> int:
        return 1_000_000


LOCAL: list[tuple[type[ContinuousBatching], str]] = [
    (Twice, r"schedule schedules Request\(\d+, .*\) twice in one step"),
    (NeverAdded, r"schedule schedules Request\(999, 10→10\), which was never added, or is gone"),
    (TooMuch, r"schedule schedules 10000 tokens after 0 of Request\(0, \d+→\d+\), which has \d+"),
    (Again, r"schedule schedules Request\(\d+, .*\) from token 0 on, of which \d+ are computed"),
    (TooMany, r"schedule lets 1000 requests decode and 1 prefill, though 1 run"),
    (Negative, r"schedule returned a step with decode = -1, not a whole number"),
    (Uneven, r"schedule returned a step of 1 chunks for 0 chunk_requests"),
    (
        Unready,
        r"schedule completes the prefill of Request\(\d+, .*\) with a chunk that ends at \d+ of \d+ tokens",
    ),
    (Overcommits, r"schedule found its state contradicting itself: more KV blocks are taken than are free"),
    (GivesTooMuchBack, r"schedule gave back more memory than there is: \d+ of 159 blocks are free"),
    (Leaks, r"check_integrity found its state contradicting itself"),
    (Nonsense, r"schedule returned None; it must be a Step"),
    (Raises, r"schedule raised KeyError: 'nobody'"),
    (Loses, r"add lost requests: \d+ were added and have not finished, but"),
    (Vague, r"add returned None; it must be True or False"),
    (FinishesTwice, r"update finished Request\(\d+, .*\), which has finished"),
    (FinishesUnseen, r"update finished Request\(999, 10→10\), which was never added, or is gone"),
    (FinishesNothing, r"update returned None; it must be the requests that finished"),
    (Backwards, r"run_length returned -3; it must be a whole number, at least 1"),
    (Halves, r"run_length returned 1.5; it must be a whole number, at least 1"),
    (Forever, r"advance (decodes tokens that nobody asked for|overcommitted memory|found its state|raised)"),
]


@pytest.mark.parametrize(("policy", "what"), LOCAL, ids=lambda case: getattr(case, "__name__", ""))
def test_a_local_scheduler_is_stopped_by_name(policy: type[ContinuousBatching], what: str) -> None:
    register.local_scheduler("bad")(policy)
    with pytest.raises(
        SimulationError, match=rf"^the local scheduler {policy.__name__} was stopped at .* s: {what}"
    ):
        run("bad")


def test_one_that_never_schedules_is_named() -> None:
    @register.local_scheduler("lazy")
    class Lazy(ContinuousBatching):
        def schedule(self, now: float) -> Step:
            self.index += 1
            return Step(self.index)

    with pytest.raises(
        SimulationError, match=r"40 of 40 requests can never run.*instance 0 \(Lazy\): 0 running, 40"
    ):
        run("lazy")


def test_one_whose_decisions_never_give_a_token_is_in_a_live_lock() -> None:
    @register.local_scheduler("busy")
    class Busy(ContinuousBatching):
        """All rows of its steps belong to nobody."""

        def schedule(self, now: float) -> Step:
            self.index += 1
            step = Step(self.index)
            step.decode = step.idle = 1
            return step

        def run_length(self, step: Step) -> int:
            return 1

    with pytest.raises(
        SimulationError, match=r"Busy .*schedule gave nobody a token 10,000 times in a row.*live-lock"
    ):
        run("busy")


def test_what_is_no_local_scheduler_is_refused() -> None:
    register.local_scheduler("odd")(dict)
    with pytest.raises(InputError, match=r"engine.policy: <class 'dict'> is no local scheduler"):
        run("odd")


def test_one_that_cannot_be_made_is_refused() -> None:
    @register.local_scheduler("broken")
    class Broken(ContinuousBatching):
        def __init__(self, *what: Any, **options: Any) -> None:
            raise ZeroDivisionError("oh")

    with pytest.raises(
        InputError, match="the policy 'broken' failed when it was made: ZeroDivisionError: oh"
    ):
        run("broken")


@pytest.mark.parametrize("exact_steps", [False, True])
@pytest.mark.parametrize("policy", register.local_scheduler.names())
def test_a_guard_changes_nothing_of_one_that_behaves(policy: str, exact_steps: bool) -> None:
    """A user's subclass of each of ours, which does nothing of its own, is under guard."""
    plain = run(policy, tight=False, exact_steps=exact_steps)
    own = register.local_scheduler.get(policy)
    register.local_scheduler(policy)(type("Mine", (own,), {"__module__": "mine"}))
    guarded = run(policy, tight=False, exact_steps=exact_steps)
    assert guarded.requests.equals(plain.requests)
    assert guarded.steps.equals(plain.steps)
