"""Where each policy sends a request, worked out by hand from loads that are given."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from tokensim.errors import InputError
from tokensim.registry import register
from tokensim.scheduling.cluster import GlobalScheduler
from tokensim.scheduling.local import Request, Traits


@dataclass
class Pool:
    name: str = "serve"
    price_per_hour_usd: float = 1.0


@dataclass
class FakeTarget:
    index: int
    pool: Pool = field(default_factory=Pool)


class FakeLoads:
    """What it is told; a column that nobody gave is an error."""

    def __init__(self, **columns: Any) -> None:
        self.columns = columns

    def __getattr__(self, name: str) -> Any:
        value = self.columns[name]
        if name == "longest_prefix":
            return lambda request, instances: value
        return lambda *arguments: np.array(value)


def request(tokens: int = 100, output: int = 10, session: int = -1) -> Request:
    made = Request(0, 0.0, tokens, output, tokens + output)
    made.traits = Traits(session=session)
    return made


def routed(policy: str, count: int, options: dict[str, Any] | None = None, **columns: Any) -> int:
    router = register.global_scheduler.get(policy)(seed=0, **(options or {}))
    assert isinstance(router, GlobalScheduler)
    router.loads = FakeLoads(**columns)
    return router.route(request(), [FakeTarget(i) for i in range(count)], 0.0).index


@pytest.mark.parametrize(
    ("policy", "column"),
    [
        ("least-requests", "outstanding_requests"),
        ("least-tokens", "outstanding_tokens"),
        ("shortest-queue", "work_s"),
        ("slo-aware", "ttft_s"),
    ],
)
def test_the_least_wins_and_the_first_of_equals(policy: str, column: str) -> None:
    assert routed(policy, 4, **{column: [3, 2, 1, 1]}) == 2


def test_least_kv_asks_for_requests_only_between_equals() -> None:
    assert routed("least-kv", 3, kv_use=[0.2, 0.1, 0.1], outstanding_requests=[0, 9, 8]) == 2
    assert routed("least-kv", 3, kv_use=[0.2, 0.09, 0.1], outstanding_requests=[0, 9, 8]) == 1


def test_power_of_two_takes_the_better_of_two_different_ones() -> None:
    router = register.global_scheduler.get("power-of-two")(seed=3)
    router.loads = FakeLoads(outstanding_requests=[0, 5, 9])
    targets = [FakeTarget(i) for i in range(3)]
    taken = Counter(router.route(request(), targets, 0.0).index for _ in range(3000))
    assert taken[2] == 0, "it is never the better one"
    assert taken[0] == pytest.approx(2000, rel=0.05), "of three pairs, two have the idle one"


def test_weighted_is_smooth() -> None:
    router = register.global_scheduler.get("weighted")(weights={"big": 5})
    targets = [FakeTarget(0, Pool("big")), FakeTarget(1), FakeTarget(2)]
    order = [router.route(request(), targets, 0.0).index for _ in range(14)]
    assert order == [0, 0, 1, 0, 2, 0, 0] * 2  # nginx's own example for weights 5, 1, 1


def test_weighted_keeps_credit_when_instances_come_and_go() -> None:
    router = register.global_scheduler.get("weighted")(weights={})
    one, other = FakeTarget(0), FakeTarget(1)
    assert router.route(request(), [one, other], 0.0) is one
    assert router.route(request(), [one, other, FakeTarget(2)], 0.0) is other


def test_a_session_stays_and_few_move_when_an_instance_leaves() -> None:
    router = register.global_scheduler.get("session-affinity")()
    router.loads = FakeLoads(outstanding_requests=[4, 3, 2, 1])
    targets = [FakeTarget(i) for i in range(4)]
    first = [router.route(request(session=s), targets, 0.0).index for s in range(400)]
    assert first == [router.route(request(session=s), targets, 0.0).index for s in range(400)]
    assert min(Counter(first).values()) > 60, "the ring is about even"
    router.left(targets[3])
    later = [router.route(request(session=s), targets[:3], 0.0).index for s in range(400)]
    assert all(a == b for a, b in zip(first, later, strict=True) if a != 3), "nobody else moves"
    assert router.route(request(), targets, 0.0).index == 3, "without a session: the least loaded"


PREFIX = {"cache_threshold": 0.3, "balance_abs_threshold": 10, "balance_rel_threshold": 1.5}


@pytest.mark.parametrize(
    ("busy", "match", "expected"),
    [
        ([5, 4], (0, 31), 0),  # more than 30 of 100 tokens
        ([5, 4], (0, 30), 1),  # not more than the threshold
        ([15, 4], (0, 90), 1),  # 11 more, and more than 1.5 times as many
        ([14, 4], (0, 90), 0),  # only 10 more
        ([40, 29], (0, 90), 0),  # 11 more, but not 1.5 times as many
    ],
)
def test_prefix_aware_follows_the_cache_while_the_load_is_balanced(
    busy: list[int], match: tuple[int, int], expected: int
) -> None:
    assert routed("prefix-aware", 2, PREFIX, outstanding_requests=busy, longest_prefix=match) == expected


def test_slo_aware_looks_for_room_among_those_in_time() -> None:
    columns = {"ttft_s": [0.1, 0.4, 0.6], "work_s": [9.0, 5.0, 1.0]}
    assert routed("slo-aware", 3, {"ttft": "500ms"}, **columns) == 1
    assert routed("slo-aware", 3, {"ttft": 0.05}, **columns) == 0, "nobody is in time: the soonest"


def test_cost_aware_takes_the_cheapest_in_time() -> None:
    columns = {
        "ttft_s": [0.1, 0.4, 0.6, 0.1],
        "kv_use": [0.5, 0.5, 0.5, 0.9],
        "price_per_hour_usd": [4.0, 1.0, 0.5, 0.1],
        "service_s": [1.0, 3.0, 3.0, 3.0],
    }
    assert routed("cost-aware", 4, {"ttft": "500ms"}, **columns) == 1  # 3 against 4; 2 too late, 3 too full
    assert routed("cost-aware", 4, {"ttft": "500ms", "max_kv_use": 1.0}, **columns) == 3
    assert routed("cost-aware", 4, {"ttft": "50ms"}, **columns) == 0


def test_pd_pair_takes_the_nearest_of_those_that_are_not_busy() -> None:
    near = {"transfer_s": [0.5, 0.1, 0.1], "free_tokens": [500, 500, 500]}
    assert routed("pd-pair", 3, outstanding_requests=[0, 6, 5], **near) == 2
    assert routed("pd-pair", 3, {"slack": 4}, outstanding_requests=[0, 6, 5], **near) == 0
    near["free_tokens"] = [500, 500, 99]
    assert routed("pd-pair", 3, outstanding_requests=[0, 6, 5], **near) == 1, "no room in 2 for 100 tokens"
    near["free_tokens"] = [0, 0, 0]
    assert routed("pd-pair", 3, outstanding_requests=[0, 6, 5], **near) == 2, "room nowhere: as before"


@pytest.mark.parametrize(
    ("policy", "options", "said"),
    [
        ("weighted", {"weights": {"serve": 0}}, "weight of pool 'serve' is 0"),
        ("prefix-aware", {"cache_threshold": 1.5}, "cache_threshold is 1.5"),
        ("prefix-aware", {"balance_rel_threshold": 0.5}, "balance_rel_threshold 0.5"),
        ("cost-aware", {"ttft": "soon"}, "ttft: 'soon'"),
        ("cost-aware", {"ttft": 1, "max_kv_use": 0}, "max_kv_use is 0"),
        ("slo-aware", {"ttft": -1}, "ttft: -1"),
        ("pd-pair", {"slack": -1}, "slack is -1"),
    ],
)
def test_impossible_options_are_refused(policy: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        register.global_scheduler.get(policy)(**options)


def test_a_weight_of_an_unknown_pool_is_refused() -> None:
    router = register.global_scheduler.get("weighted")(weights={"serf": 2})
    with pytest.raises(InputError, match="did you mean 'serve'"):
        router.check(["serve", "other"])
