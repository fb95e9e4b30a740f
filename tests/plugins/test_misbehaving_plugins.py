"""A plug-in that misbehaves is stopped with a message that names it and what it did; one that behaves is not
touched."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import pytest

from tokensim import Scenario, register, simulate
from tokensim.assemble import Result
from tokensim.engine.hooks import Hook
from tokensim.errors import InputError, SimulationError
from tokensim.scheduling.cluster import GlobalScheduler
from tokensim.scheduling.cluster.base import T
from tokensim.scheduling.cluster.gateway import GatewayOrder
from tokensim.scheduling.local import ContinuousBatching, Request, Step

KINDS = ("local_scheduler", "global_scheduler", "gateway_order", "hook", "eviction")


@pytest.fixture(autouse=True)
def _forget_what_is_registered() -> Iterator[None]:
    before = {kind: dict(getattr(register, kind)._parts) for kind in KINDS}
    yield
    for kind, parts in before.items():
        getattr(register, kind)._parts = parts


LIMITS: dict[bool, dict[str, Any]] = {
    True: {"max_num_batched_tokens": 128},
    False: {"max_num_batched_tokens": 512},
}


def run(
    policy: str = "vllm",
    *,
    tight: bool = True,
    exact_steps: bool = False,
    hooks: Sequence[Hook] = (),
    **cluster: Any,
) -> Result:
    """40 requests in two seconds on an L4 with little memory for its KV cache."""
    scenario = {
        "model": "meta-llama/Llama-3.2-1B",
        "cluster": {"pools": [{"hardware": "l4"}], **cluster},
        "engine": {
            "num_gpu_blocks": 160,
            "max_model_len": 512,
            "max_num_seqs": 64,
            **LIMITS[tight],
            "policy": policy,
        },
        "performance": {"operators": "roofline"},
        "workload": {
            "arrivals": {"process": "poisson", "rate": 20},
            "input_tokens": {"distribution": "uniform", "min": 20, "max": 200},
            "output_tokens": {"distribution": "uniform", "min": 5, "max": 150},
            "num_requests": 40,
        },
    }
    return simulate(Scenario.model_validate(scenario), exact_steps=exact_steps, hooks=hooks)


def stranger() -> Request:
    return Request(999, 0.0, 10, 10, 20)


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


class Router(GlobalScheduler):
    answer: ClassVar[Callable[[Sequence[Any]], Any]]

    def route(self, request: Request, instances: Sequence[T], now: float) -> T:
        chosen: T = type(self).answer(instances)
        return chosen


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        (lambda instances: None, "chose None for Request"),
        (lambda instances: instances[7], "failed at .* IndexError"),
        (lambda instances: instances, r"chose \[.*\] for"),
    ],
    ids=["None", "raises", "all of them"],
)
def test_a_global_scheduler_is_stopped_by_name(answer: Callable[[Sequence[Any]], Any], what: str) -> None:
    register.global_scheduler("bad")(type("Astray", (Router,), {"answer": staticmethod(answer)}))
    with pytest.raises(SimulationError, match=f"the global scheduler Astray {what}"):
        run(router="bad")


def test_a_global_scheduler_that_chooses_an_instance_that_is_down_is_stopped() -> None:
    @register.global_scheduler("nostalgic")
    class Nostalgic(GlobalScheduler):
        first: Any = None

        def route(self, request: Request, instances: Sequence[T], now: float) -> T:
            self.first = self.first or instances[0]
            return self.first  # type: ignore[no-any-return]

    with pytest.raises(SimulationError, match=r"Nostalgic chose Replica.*down"):
        run(
            router="nostalgic",
            pools=[{"name": "p", "hardware": "l4", "replicas": 2}],
            failures=[{"pool": "p", "at": 0.5, "replica": 0}],
        )


@pytest.mark.parametrize("method", ["sent", "finished", "joined"])
def test_a_global_scheduler_that_fails_where_it_is_told_is_named(method: str) -> None:
    def fail(self: Any, *what: Any) -> None:
        raise ValueError("no")

    body = {"answer": staticmethod(lambda instances: instances[0]), method: fail}
    register.global_scheduler("deaf")(type("Deaf", (Router,), body))
    with pytest.raises(
        SimulationError, match=f"the global scheduler Deaf failed in {method}: ValueError: no"
    ):
        run(router="deaf")


class Order(GatewayOrder):
    def pick(self, heads: Sequence[Request]) -> Request:
        return heads[0]


@pytest.mark.parametrize(
    ("method", "answer", "what"),
    [
        ("pick", lambda self, heads: None, "picked None; pick must return one of the requests"),
        ("pick", lambda self, heads: stranger(), r"picked Request\(999, 10→10\); pick must"),
        ("pick", lambda self, heads: heads[9], "failed in pick: IndexError"),
        ("key", lambda self, request: None, r"gave Request\(\d+, .*\) the key None; key must return a tuple"),
        ("key", lambda self, request: (float("nan"),), r"the key \(nan,\); key must return a tuple"),
        ("entered", lambda self, request, weight: 1 / 0, "failed in entered: ZeroDivisionError"),
    ],
)
def test_a_gateway_order_is_stopped_by_name(method: str, answer: Callable[..., Any], what: str) -> None:
    register.gateway_order("bad")(type("Unruly", (Order,), {method: answer}))
    with pytest.raises(
        SimulationError, match=f"the gateway order Unruly .*{what}|the gateway order Unruly {what}"
    ):
        run(admission={"max_outstanding": 2, "order": "bad"})


def test_a_hook_that_fails_is_named() -> None:
    class Clumsy(Hook):
        def on_arrival(self, request: Request) -> None:
            raise KeyError("gone")

    with pytest.raises(SimulationError, match="the hook Clumsy failed in on_arrival: KeyError: 'gone'"):
        run(hooks=[Clumsy()])


def test_a_hook_that_waits_for_what_never_happens_is_refused() -> None:
    class Hopeful(Hook):
        def on_finnish(self, request: Request) -> None:
            """Never."""

    with pytest.raises(InputError, match=r"Hopeful.on_finnish is no event(.|\n)*on_finish"):
        run(hooks=[Hopeful()])


def test_what_a_hook_has_planned_is_named_when_it_fails() -> None:
    class Planner(Hook):
        def on_start(self) -> None:
            self.control.every(0.1, self.look)

        def look(self) -> None:
            raise LookupError("where")

    with pytest.raises(
        SimulationError, match=r"what a hook had planned failed \(.*Planner.look\): LookupError: where"
    ):
        run(hooks=[Planner()])


def test_what_is_no_hook_is_refused() -> None:
    from tokensim.assemble.operations import hooks_of

    register.hook("odd")(dict)
    scenario = {
        "model": "meta-llama/Llama-3.2-1B",
        "hooks": ["odd"],
        "cluster": {"pools": [{"hardware": "l4"}]},
    }
    workload = {"arrivals": {"process": "poisson", "rate": 1}, "num_requests": 1}
    lengths = {"input_tokens": 10, "output_tokens": 10}
    with pytest.raises(InputError, match=r"hooks\[0\]: the hook 'odd' made \{\}, which is no hook"):
        hooks_of(Scenario.model_validate({**scenario, "workload": {**workload, **lengths}}))


@pytest.mark.parametrize(
    ("method", "answer", "what"),
    [
        ("enter", lambda self, worth: None, "returned None from enter; it must return a number"),
        ("use", lambda self, value, worth: value - 1, "lowered the value of a block"),
        ("use", lambda self, value, worth: 1 / 0, "failed in use: ZeroDivisionError"),
    ],
)
def test_an_eviction_policy_is_stopped_by_name(method: str, answer: Callable[..., Any], what: str) -> None:
    from tokensim.memory.tiers.eviction import LeastRecentlyUsed
    from tokensim.memory.tiers.guard import make_eviction

    made = make_eviction(
        type("Fickle", (LeastRecentlyUsed,), {"__module__": "mine", method: answer}), "policy"
    )
    with pytest.raises(SimulationError, match=f"the eviction policy Fickle {what}"):
        made.use(made.enter(0.0), 0.0)


def test_an_eviction_policy_that_lacks_a_method_is_refused() -> None:
    from tokensim.memory.tiers.guard import make_eviction

    with pytest.raises(InputError, match=r"memory\.tiers: the eviction policy dict has no 'refreshes'"):
        make_eviction(dict, "memory.tiers")
