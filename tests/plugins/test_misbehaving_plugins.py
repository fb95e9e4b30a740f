"""A global scheduler, gateway order, hook or eviction policy that misbehaves is stopped with a message that
names it and what it did."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import pytest
from plugin_runs import run, stranger

from tokensim import Scenario, register
from tokensim.engine.hooks import Hook
from tokensim.errors import InputError, SimulationError
from tokensim.scheduling.cluster import GlobalScheduler
from tokensim.scheduling.cluster.base import T
from tokensim.scheduling.cluster.gateway import GatewayOrder
from tokensim.scheduling.local import Request

pytestmark = pytest.mark.usefixtures("forgets_what_is_registered")


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
