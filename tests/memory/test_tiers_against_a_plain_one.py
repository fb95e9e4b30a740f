"""Memory tiers against a plain one that keeps every block by itself: same hits, same victims in the same
order."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from plain_pool import Key, Runs, keys_of
from plain_tier import PlainTier

from tokensim.memory import Content
from tokensim.memory.tiers import Flight, Tier
from tokensim.registry import register

PROMPTS = st.lists(
    st.tuples(st.integers(0, 3), st.sampled_from([1, 3, 4, 7, 8, 12, 20])), min_size=1, max_size=5
)
POLICIES = st.sampled_from(["lru", "fifo", "lfu", "cost-aware"])
WORTH = st.sampled_from([0.0, 1.0, 1.5, 4.0])


def cut(runs: Runs, block_tokens: int) -> int:
    """Full blocks of ``runs``."""
    return sum(tokens for _, tokens in runs) // block_tokens


class TwoTiers(RuleBasedStateMachine):
    @initialize(
        capacity=st.integers(1, 14), block=st.sampled_from([1, 4]), policy=POLICIES, whole=st.booleans()
    )
    def start(self, capacity: int, block: int, policy: str, whole: bool) -> None:
        self.gone: list[Key] = []
        eviction = register.eviction.get(policy)()
        self.tier = Tier(capacity, block, eviction, whole=whole, tells=True)
        self.plain = PlainTier(capacity, block, policy, whole=whole)
        self.flights: list[tuple[Flight, set[Key]]] = []

    def leave(self, content: Content, first: int, stop: int) -> None:
        """Evicted, the last block first."""
        runs, start = [], 0
        for run, end in zip(content.ids, content.ends, strict=True):
            runs.append((run, min(end, stop * self.plain.block_tokens) - start))
            start = end
        self.gone += reversed(keys_of(runs, self.plain.block_tokens)[first:stop])

    @rule(
        runs=PROMPTS,
        first=st.integers(0, 6),
        begin=st.sampled_from([0, 0, 2, 6]),
        less=st.integers(0, 3),
        worth=WORTH,
        flying=st.booleans(),
    )
    def put(self, runs: Runs, first: int, begin: int, less: int, worth: float, flying: bool) -> None:
        begin = min(begin, first)
        stop = max(0, cut(runs, self.plain.block_tokens) - less)
        flight = Flight() if flying else None
        self.gone = []
        before = set(self.plain.blocks)
        came, gone = self.tier.put(Content.of_runs(runs, -1), first, stop, worth, flight, begin=begin)
        for stretch in gone:
            self.leave(*stretch)
        evicted = self.plain.put(runs, first, stop, worth, flying, begin)
        new = {key for key in self.plain.blocks if key not in before or key in evicted}
        assert came == len(new)
        assert self.gone == evicted
        if flight is not None:
            self.flights.append((flight, new))

    @rule(runs=PROMPTS, worth=WORTH)
    def use(self, runs: Runs, worth: float) -> None:
        stop = cut(runs, self.plain.block_tokens)
        self.tier.use(Content.of_runs(runs, -1), stop, worth)
        self.plain.use(runs, stop, worth)

    @rule(runs=PROMPTS, first=st.integers(0, 5))
    def read(self, runs: Runs, first: int) -> None:
        stop = cut(runs, self.plain.block_tokens)
        assert self.tier.reach(Content.of_runs(runs, -1), first, stop) == self.plain.reach(runs, first, stop)

    @precondition(lambda self: self.flights)
    @rule(data=st.data())
    def land(self, data: st.DataObject) -> None:
        flight, keys = self.flights.pop(data.draw(st.integers(0, len(self.flights) - 1)))
        flight.landed = True
        others = set().union(*(other for _, other in self.flights))
        self.plain.flying -= keys - others

    @invariant()
    def agree(self) -> None:
        self.tier.check_integrity()
        assert self.tier.used == len(self.plain.blocks)


class TestTwoTiers(TwoTiers.TestCase):  # type: ignore[misc]
    settings = settings(
        max_examples=80,
        stateful_step_count=40,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
