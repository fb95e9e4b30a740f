"""The waiting queues against a sorted list, and the table of versions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokensim.errors import SimulationError
from tokensim.scheduling.local import Request
from tokensim.scheduling.local.queues import ByPriority, Fifo, Ordered, WaitingQueue
from tokensim.scheduling.local.versions import STARTS, rules_of

MOVES = st.lists(st.tuples(st.sampled_from(["add", "pop", "back", "remove"]), st.integers(0, 3)), max_size=40)


def request(index: int, priority: int = 0, arrival_s: float = 0.0) -> Request:
    made = Request(index, arrival_s, 10, 1, 11)
    made.priority = priority
    return made


def urgency(request: Request) -> tuple[int, float, int]:
    return request.priority, request.arrival_s, request.index


@given(MOVES)
def test_fifo_takes_the_oldest_and_lets_the_preempted_go_first(moves: list[tuple[str, int]]) -> None:
    queue, plain = Fifo(), list[Request]()
    play(queue, plain, moves, keep=lambda: None)


@given(MOVES)
def test_by_priority_is_always_sorted(moves: list[tuple[str, int]]) -> None:
    queue, plain = ByPriority(), list[Request]()
    play(queue, plain, moves, keep=lambda: plain.sort(key=urgency))
    assert [queue.pop() for _ in range(len(queue))] == plain


@given(MOVES)
def test_ordered_follows_the_users_function(moves: list[tuple[str, int]]) -> None:
    def longest_waiting_last(waiting: list[Request]) -> list[Request]:
        return sorted(waiting, key=lambda r: -r.index)

    queue, plain = Ordered(longest_waiting_last), list[Request]()
    play(queue, plain, moves, keep=lambda: plain.sort(key=lambda r: -r.index))


def play(queue: WaitingQueue, plain: list[Request], moves: list[tuple[str, int]], keep) -> None:  # type: ignore[no-untyped-def]
    """The same moves on both; ``keep`` restores the order of the plain list."""
    taken: list[Request] = []
    for index, (move, number) in enumerate(moves):
        if move == "add":
            new = request(index, priority=number % 2, arrival_s=float(number))
            plain.append(new)
            keep()
            heads = queue.add(new)
            assert heads or plain[0] is not new, "a new head was not announced"
        elif move == "back" and taken:
            plain.insert(0, taken[-1])
            keep()
            queue.put_back(taken.pop())
        elif move == "pop" and plain:
            assert queue.head() is plain[0]
            taken.append(queue.pop())
            assert taken[-1] is plain.pop(0)
        elif move == "remove" and plain:
            gone = plain.pop(number % len(plain))
            queue.remove(gone)
        assert len(queue) == len(plain)
        assert set(queue) == set(plain)
        if plain:
            assert queue.head() is plain[0]


def test_an_arrival_behind_others_cannot_be_the_head() -> None:
    queue = Fifo()
    assert [queue.add(request(i)) for i in range(3)] == [True, False, False]
    by_priority = ByPriority()
    assert [by_priority.add(request(i, priority)) for i, priority in enumerate((2, 3, 1))] == [
        True,
        False,
        True,
    ]


@pytest.mark.parametrize(
    "nonsense",
    [
        lambda w: [],
        lambda w: w[:1],
        lambda w: [*w, w[0]],
        lambda w: [w[0]] * len(w),
        lambda w: [request(99), *w[1:]],
    ],
    ids=["nothing", "some", "one twice", "one only", "a stranger"],
)
def test_an_order_that_loses_or_invents_requests_is_refused(nonsense) -> None:  # type: ignore[no-untyped-def]
    queue = Ordered(nonsense)
    for index in range(3):
        queue.add(request(index))
    with pytest.raises(SimulationError, match="admission_order must return the waiting requests, each once"):
        queue.head()


@pytest.mark.parametrize(
    ("version", "like"),
    [
        ("0.19.0", "0.19.0"),
        ("0.19.1", "0.19.0"),
        ("0.21.0", "0.19.0"),
        ("0.23.1", "0.23.0"),
        ("0.33.2", "0.33.0"),
    ],
)
def test_a_version_follows_the_last_recorded_one_before_it(version: str, like: str) -> None:
    starts = {str(start): rules for start, rules in STARTS.items()}
    assert rules_of(version) is starts[like]


def test_what_differs_between_the_versions() -> None:
    old, middle, new = rules_of("0.19.0"), rules_of("0.23.0"), rules_of("0.33.0")
    assert not old.pause_before_idle and middle.pause_before_idle and new.pause_before_idle
    for rules in (old, middle):
        assert not rules.unhashed_blocks_first
        assert not rules.lone_request_uncapped
        assert not rules.self_preemption_goes_on
        assert rules.index_moves_only_for_served
    assert new.unhashed_blocks_first and new.lone_request_uncapped and new.self_preemption_goes_on
    assert not new.index_moves_only_for_served


@pytest.mark.parametrize("version", ["0.18.0", "0.24.0", "0.32.9", "0.34.0", "1.0", "latest", ""])
def test_a_version_that_is_not_modelled_is_refused(version: str) -> None:
    with pytest.raises(ValueError):
        rules_of(version)
