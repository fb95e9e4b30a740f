"""Transfers share links max-min fairly: worked by hand, and against a plain reference for random ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from heapq import heappop
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokensim.engine import network
from tokensim.engine.agenda import Agenda
from tokensim.engine.fairness import Flow, Transfer
from tokensim.engine.network import LinkSpec, Network
from tokensim.errors import SimulationError

GB = 1e9


@dataclass
class World:
    """A network with nothing around it: actions at given times, and what arrived when."""

    bandwidths: Sequence[float]
    arrived: list[tuple[str, float]] = field(default_factory=list)
    noted: list[tuple[int, float, float, bool]] = field(default_factory=list)
    events: int = 0

    def __post_init__(self) -> None:
        self.agenda = Agenda()
        links = [LinkSpec(f"link {i}", b) for i, b in enumerate(self.bandwidths)]
        self.network = Network(self.agenda, links, note=self._note)

    def _note(self, transfer: Transfer, now: float, arrived: bool) -> None:
        self.noted.append((transfer.number, now, transfer.moved, arrived))

    def send(
        self,
        name: str,
        path: Sequence[int],
        size: float,
        now: float,
        *,
        latency_s: float = 0.0,
        most_bytes_per_s: float = inf,
    ) -> Transfer:
        return self.network.send(
            path,
            size,
            now,
            lambda time: self.arrived.append((name, time)),
            latency_s=latency_s,
            most_bytes_per_s=most_bytes_per_s,
        )

    def run(self, until: float = inf, at: Sequence[tuple[float, Callable[[float], object]]] = ()) -> World:
        """Let events happen up to ``until``, and the actions ``at`` their times, after events then due."""
        actions = sorted(at, key=lambda pair: pair[0])
        while actions or (self.agenda.heap and self.agenda.heap[0][0] <= until):
            if actions and not (self.agenda.heap and self.agenda.heap[0][0] <= actions[0][0]):
                time, act = actions.pop(0)
                act(time)
            else:
                time, _, _, network = heappop(self.agenda.heap)
                self.events += 1
                if network.due_s == time:
                    network.fire(time)
        return self


def rates(world: World, *transfers: Transfer) -> list[float]:
    return [transfer.rate for transfer in transfers]


def test_a_lone_transfer_takes_bytes_over_bandwidth_and_the_latency_once() -> None:
    world = World([50 * GB, 100 * GB])
    world.send("a", [0, 1], 25 * GB, 1.0, latency_s=0.25)
    assert world.run().arrived == [("a", 1.75)]


def test_two_transfers_halve_a_link_and_the_one_left_speeds_up() -> None:
    # a: 2 GB alone for 0.5 s (1.0 left 1.5 GB at 2 GB/s → 1 GB moved), then halves of 2 GB/s
    world = World([2.0 * GB])
    world.send("a", [0], 3 * GB, 0.0)
    world.run(at=[(0.5, lambda now: world.send("b", [0], 1 * GB, now))])
    # from 0.5: a has 2 GB, b 1 GB, 1 GB/s each; b ends at 1.5, a has 1 GB left at 2 GB/s
    assert world.arrived == [("b", 1.5), ("a", 2.0)]


def test_three_transfers_over_two_links_get_what_progressive_filling_gives() -> None:
    # 9 and 4: both rise to 2, link 1 is full; then link 0 alone has 7 left over
    world = World([9.0, 4.0])
    both = world.send("both", [0, 1], 100, 0.0)
    first = world.send("first", [0], 100, 0.0)
    second = world.send("second", [1], 100, 0.0)
    assert rates(world, both, first, second) == [2.0, 7.0, 2.0]


def test_a_transfer_that_its_ends_hold_back_leaves_the_rest_to_others() -> None:
    world = World([10.0])
    slow = world.send("slow", [0], 100, 0.0, most_bytes_per_s=1.0)
    one, other = world.send("one", [0], 100, 0.0), world.send("other", [0], 100, 0.0)
    assert rates(world, slow, one, other) == [1.0, 4.5, 4.5]


def test_a_wide_link_ties_nobody_together() -> None:
    world = World([10.0, 10.0, 1000.0])
    one = world.send("one", [0, 2], 100, 0.0)
    assert one.flow is not None
    before = one.flow.due_s, one.flow.settled_s
    world.send("other", [1, 2], 100, 0.5)
    assert (one.flow.due_s, one.flow.settled_s) == before
    assert one.rate == 10.0


def test_a_cancelled_transfer_frees_its_share_and_never_arrives() -> None:
    world = World([2.0])
    gone, stays = world.send("gone", [0], 10, 0.0), world.send("stays", [0], 10, 0.0)
    world.run(at=[(2.0, lambda now: world.network.cancel(gone, now))])
    # 2 bytes of each at 2 s; the last 8 at 2 bytes/s
    assert world.arrived == [("stays", 6.0)]
    assert world.noted == [(1, 2.0, 2.0, False), (2, 6.0, 10.0, True)]
    world.network.cancel(stays, 7.0)
    assert len(world.noted) == 2
    assert world.network.in_flight == 0


def test_nothing_is_due_once_the_last_transfer_is_cancelled_and_no_later_than_the_next_end() -> None:
    world = World([2.0])
    first, last = world.send("first", [0], 2, 0.0), world.send("last", [0], 6, 0.0)
    assert world.network.due_s == 2.0
    world.network.cancel(first, 1.0)
    assert world.network.due_s == 3.5  # 5 bytes at 2 a second
    world.network.cancel(last, 2.0)
    assert world.network.due_s == inf


def test_what_is_cancelled_between_its_last_byte_and_its_arrival_does_not_arrive() -> None:
    world = World([1.0])
    transfer = world.send("late", [0], 1, 0.0, latency_s=1.0)
    world.run(at=[(1.5, lambda now: world.network.cancel(transfer, now))])
    assert world.arrived == []
    assert world.noted == [(1, 1.5, 1.0, False)]


def test_equal_ends_come_in_the_order_of_sending_each_in_the_loop() -> None:
    world = World([1.0, 1.0, 1.0])
    for link in (2, 0, 1):
        world.send(str(link), [link], 5, 0.0)
    nothing = world.send("nothing", [0], 0, 5.0)
    assert world.arrived == []
    world.run()
    assert world.arrived == [("2", 5.0), ("0", 5.0), ("1", 5.0), ("nothing", 5.0)]
    assert nothing.over


def test_an_arrival_may_send_and_cancel() -> None:
    world = World([1.0])
    other = world.send("other", [0], 4, 0.0, latency_s=0.0)

    def react(now: float) -> None:
        world.arrived.append(("first", now))
        world.network.cancel(other, now)
        world.send("next", [0], 3, now)

    world.network.send([0], 2, 0.0, react)
    # halves: first has its 2 at 4 s; then 3 more bytes alone
    assert world.run().arrived == [("first", 4.0), ("next", 7.0)]


def test_links_account_for_bytes_busy_time_and_the_most_at_once() -> None:
    world = World([2.0, 5.0, 1.0])
    world.send("a", [0, 1], 4, 0.0)
    world.send("b", [0], 4, 0.0)
    world.run(at=[(10.0, lambda now: world.send("c", [0], 2, now))])
    use = world.network.use(12.0)
    # a and b: 8 bytes at 2/s until 4 s; c: 10 to 11 s
    assert [(u.bytes, u.busy_s, u.peak_transfers) for u in use] == [
        (10.0, 5.0, 2),
        (4.0, 4.0, 1),
        (0.0, 0.0, 0),
    ]


def test_an_account_in_the_middle_counts_what_is_in_flight() -> None:
    world = World([2.0])
    world.send("a", [0], 10, 0.0)
    (use,) = world.network.use(1.5)
    assert (use.bytes, use.busy_s) == (3.0, 1.5)


@pytest.mark.parametrize(("size", "latency"), [(-1.0, 0.0), (inf, 0.0), (float("nan"), 0.0), (1.0, -1.0)])
def test_impossible_transfers_are_refused(size: float, latency: float) -> None:
    with pytest.raises(SimulationError, match="a transfer of"):
        World([1.0]).send("x", [0], size, 0.0, latency_s=latency)


@pytest.mark.parametrize("bandwidth", [0.0, -1.0, inf, float("nan")])
def test_impossible_links_are_refused(bandwidth: float) -> None:
    with pytest.raises(SimulationError, match="link x: a bandwidth of"):
        Network(Agenda()).add_link(LinkSpec("x", bandwidth))


BANDWIDTH = st.sampled_from([1.0, 2.0, 3.0, 7.5, 10.0, 64.0, 1e3 / 3, 1e6])


@st.composite
def sends(draw: st.DrawFn) -> tuple[list[float], list[tuple[list[int], float, float, float, float]]]:
    """Links, and (path, bytes, time, latency, most) of transfers."""
    bandwidths = draw(st.lists(BANDWIDTH, min_size=1, max_size=5))
    path = st.lists(st.integers(0, len(bandwidths) - 1), min_size=1, max_size=3, unique=True)
    size = st.sampled_from([0.0, 1.0, 10.0, 1e3 / 7, 1e4])
    most = st.sampled_from([inf, 0.5, 3.0, 100.0])
    time = st.sampled_from([0.0, 0.1, 1.0, 2.5, 30.0])
    latency = st.sampled_from([0.0, 1e-6, 0.5])
    return bandwidths, draw(st.lists(st.tuples(path, size, time, latency, most), min_size=1, max_size=12))


def reference(bandwidths: Sequence[float], flows: Sequence[tuple[Sequence[int], float]]) -> list[float]:
    """Max-min fair rates as the definition has them: all not yet held back rise together until a link is full
    or a flow has its most; one at a time, every link asked anew."""
    rate = [0.0] * len(flows)
    held: set[int] = set()
    while len(held) < len(flows):
        rising = [i for i in range(len(flows)) if i not in held]
        room = inf
        for link, bandwidth in enumerate(bandwidths):
            users = [i for i in range(len(flows)) if link in flows[i][0]]
            more = [i for i in users if i in rising]
            if more:
                room = min(room, (bandwidth - sum(rate[i] for i in users)) / len(more))
        room = min([room, *(flows[i][1] - rate[i] for i in rising)])
        for i in rising:
            rate[i] += room
        for link, bandwidth in enumerate(bandwidths):
            users = [i for i in range(len(flows)) if link in flows[i][0]]
            if sum(rate[i] for i in users) >= bandwidth * (1 - 1e-12):
                held.update(users)
        held.update(i for i in rising if rate[i] >= flows[i][1] * (1 - 1e-12))
    return rate


@settings(max_examples=150, deadline=None)
@given(sends())
def test_at_every_event_rates_are_max_min_fair_and_all_bytes_arrive_in_time(
    case: tuple[list[float], list[tuple[list[int], float, float, float, float]]],
) -> None:
    bandwidths, asked = case
    world = World(bandwidths)
    sent: list[tuple[Transfer, Sequence[int], float]] = []

    def check() -> None:
        flowing = [(t, path, most) for t, path, most in sent if t.flow]
        fair = reference(bandwidths, [(path, most) for _, path, most in flowing])
        assert [t.rate for t, _, _ in flowing] == pytest.approx(fair, rel=1e-9)

    def sender(number: int) -> Callable[[float], None]:
        path, size, _, latency, most = asked[number]

        def act(now: float) -> None:
            transfer = world.send(str(number), path, size, now, latency_s=latency, most_bytes_per_s=most)
            sent.append((transfer, path, most))
            check()

        return act

    fire = world.network.fire

    def checked(now: float) -> None:
        fire(now)
        check()

    world.network.fire = checked  # type: ignore[method-assign]
    world.run(at=[(asked[number][2], sender(number)) for number in range(len(asked))])
    assert world.network.in_flight == 0
    assert sorted(int(name) for name, _ in world.arrived) == list(range(len(asked)))
    for name, time in world.arrived:
        path, size, start, latency, most = asked[int(name)]
        alone = size / min(most, *(bandwidths[link] for link in path)) + latency
        assert time >= start + alone * (1 - 1e-9)
    times = [time for _, time in world.arrived]
    assert times == sorted(times)
    carried = [sum(size for path, size, *_ in asked if link in path) for link in range(len(bandwidths))]
    assert [use.bytes for use in world.network.use(times[-1])] == pytest.approx(carried)
    # one event an end and one an arrival; and one put early for each time that ends were moved
    assert world.events <= 4 * len(asked)


@settings(max_examples=50, deadline=None)
@given(sends(), st.data())
def test_whatever_is_cancelled_the_rest_arrives_and_every_byte_is_accounted_for(
    case: tuple[list[float], list[tuple[list[int], float, float, float, float]]], data: st.DataObject
) -> None:
    bandwidths, asked = case
    world = World(bandwidths)
    sent: dict[int, Transfer] = {}

    def sender(number: int) -> Callable[[float], object]:
        path, size, _, latency, most = asked[number]
        return lambda now: sent.setdefault(
            number, world.send(str(number), path, size, now, latency_s=latency, most_bytes_per_s=most)
        )

    def canceller(number: int) -> Callable[[float], object]:
        return lambda now: number in sent and world.network.cancel(sent[number], now)

    gone = data.draw(
        st.lists(
            st.tuples(st.integers(0, len(asked) - 1), st.sampled_from([0.05, 1.0, 2.0, 40.0])), max_size=6
        )
    )
    world.run(
        at=[
            *[(asked[number][2], sender(number)) for number in range(len(asked))],
            *[(time, canceller(number)) for number, time in gone],
        ]
    )
    assert world.network.in_flight == 0
    assert len(world.noted) == len(asked)
    assert {name for name, _ in world.arrived} == {
        str(number) for number, t in sent.items() if any(n == t.number and ok for n, _, _, ok in world.noted)
    }
    moved = {number: bytes_ for number, _, bytes_, _ in world.noted}
    carried = [
        sum(moved[sent[i].number] for i in range(len(asked)) if link in asked[i][0])
        for link in range(len(bandwidths))
    ]
    assert [use.bytes for use in world.network.use(1e6)] == pytest.approx(carried)
    for number, transfer in sent.items():
        assert 0 <= moved[transfer.number] <= asked[number][1]


def test_the_work_of_an_event_stays_within_what_it_touches(monkeypatch: pytest.MonkeyPatch) -> None:
    """200 pairs of ends behind a wide spine: a transfer touches its own pair's flow only, however many are on
    it."""
    looked: list[int] = []
    plain = network.shares

    def spy(changed: Sequence[Flow]) -> dict[Flow, float]:
        rates = plain(changed)
        looked.append(len(rates))
        return rates

    monkeypatch.setattr(network, "shares", spy)
    world = World([1e9 * 400, *[1e9] * 200])
    for turn in range(3):
        for pair in range(200):
            world.send(f"{turn} {pair}", [0, 1 + pair], 1e9, 0.0)
    world.run()
    assert max(looked) == 1
    assert len(world.arrived) == 600


def test_out_of_date_ends_do_not_pile_up() -> None:
    world = World([1.0])
    long = world.send("long", [0], 1e9, 0.0)
    for turn in range(2000):
        short = world.send("short", [0], 1e6, float(turn))
        world.network.cancel(short, turn + 0.5)
    assert len(world.network._ends) < 200
    assert long.rate == 1.0
