"""Loads from memory tiers and stores to them, with times worked out by hand.

A prefill takes a second a token, a decode step one second; KV is a byte a token, a block four tokens. The
device holds three blocks, so that the second prompt pushes the end of the first one out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from tokensim.cost import OperatorTime, StepColumns
from tokensim.engine import Instance, Simulation
from tokensim.engine.lanes import Copy, Lane, end_of
from tokensim.engine.tiered import Level, Store, TieredKv
from tokensim.memory.tiers import Tier
from tokensim.metrics.log import RunLog
from tokensim.registry import register
from tokensim.scheduling.cluster import RoundRobin
from tokensim.scheduling.local import Limits, Vllm
from tokensim.workload import Segments, Workload


class SecondAToken:
    window = None
    needs_longest = False

    def decode_run(self, *step: float) -> tuple[float, float, int]:
        return 1.0, 0.0, 1 << 60

    def step_time(
        self,
        decode: int,
        context: float,
        window_context: float,
        longest: float,
        chunks: Sequence[tuple[int, int]],
        samples: int,
    ) -> float:
        return float(sum(tokens for tokens, _ in chunks))

    def compute_time(self, tokens: int) -> float:
        return 0.0

    def breakdown(self, steps: StepColumns) -> list[OperatorTime]:
        raise AssertionError("not part of a run")


FIRST, SECOND, THIRD = ((1, 8),), ((2, 8),), ((1, 8), (3, 4))


def workload(*requests: tuple[float, tuple[tuple[int, int], ...]]) -> Workload:
    flat = [run for _, runs in requests for run in runs]
    return Workload(
        arrival_s=np.array([arrival for arrival, _ in requests]),
        input_tokens=np.array([sum(tokens for _, tokens in runs) for _, runs in requests]),
        output_tokens=np.ones(len(requests), dtype=np.int64),
        segments=Segments(
            np.cumsum([0, *(len(runs) for _, runs in requests)]),
            np.array([run for run, _ in flat]),
            np.array([tokens for _, tokens in flat]),
        ),
    )


def host(capacity: int = 100, *, through: bool = True, read: float = 4.0, number: int = 0) -> Level:
    """A tier that is read with ``read`` bytes a second and written with twice as many."""
    tier = Tier(capacity, 4, register.eviction.get("lru")(), tells=True)
    store = Store(number, f"tier {number}", "host", tier, 4.0, through)
    lanes = (Lane(read),), (Lane(2 * read),)
    return Level(store, *lanes, lanes[1])


def run(requests: Workload, levels: Sequence[Level], *, instances: int = 1, **options: Any) -> RunLog:
    simulation = Simulation(requests, RoundRobin())
    limits = Limits(num_gpu_blocks=4, block_size=4, max_num_batched_tokens=64, async_scheduling=False)
    for index in range(instances):
        scheduler = Vllm(limits)
        instance = Instance(
            index,
            scheduler,
            SecondAToken(),
            simulation.recorder,
            max_model_len=100,
            caching=True,
            asynchronous=False,
            pause_before_idle=False,
            on_finish=simulation.on_finish,
            layers=4,
        )
        instance.tiers = TieredKv(
            levels,
            scheduler,
            SecondAToken(),
            simulation.agenda,
            simulation.recorder,
            4,
            1.0,
            options.get("overlap", False),
            options.get("decide", "always"),
            lambda now, instance=instance: simulation.rouse(instance, now),
        )
        simulation.add_instance(instance)
    return simulation.run()


THREE = workload((0.0, FIRST), (20.0, SECOND), (40.0, THIRD))


@pytest.mark.parametrize(
    ("options", "first_token_s", "cached"),
    [
        ({"decide": "never"}, 48.0, 4),  # the device still has the first block
        ({}, 45.0, 8),  # one second for the second block, four for the rest
        ({"overlap": True}, 44.25, 8),  # the copy hides behind the compute but for one of four layers
        ({"decide": "faster"}, 45.0, 8),
    ],
)
def test_a_request_loads_what_the_device_has_lost(
    options: dict[str, Any], first_token_s: float, cached: int
) -> None:
    log = run(THREE, [host()], **options)
    assert log.requests.first_token_s[2] == first_token_s
    assert log.requests.cached_tokens[2] == cached


def test_what_takes_longer_to_load_than_to_compute_is_computed() -> None:
    slow = host(read=0.5)  # eight seconds for four tokens
    assert run(THREE, [slow], decide="faster").requests.first_token_s[2] == 48.0
    slow = host(read=0.5)
    assert run(THREE, [slow]).requests.first_token_s[2] == 52.0
    slow = host(read=0.5)
    assert run(THREE, [slow], overlap=True).requests.first_token_s[2] == 49.0  # 8 s + a quarter of 4 s


def test_a_tier_that_is_written_back_gets_what_the_device_evicts() -> None:
    level = host(through=False)
    log = run(THREE, [level])
    assert log.requests.first_token_s[2] == 45.0
    assert level.store.stored_bytes == 0
    assert level.store.demoted_bytes == 4 + 8  # the first prompt's second block; then the second prompt's two


def test_a_small_tier_hands_down_what_it_evicts_and_gets_back_what_is_read() -> None:
    top, bottom = host(2), host(through=False, number=1)
    log = run(THREE, [top, bottom])
    assert log.loads is not None
    assert log.loads.tier.tolist() == [1]
    assert log.requests.first_token_s[2] == 45.0
    assert top.store.promoted_bytes == 4
    # Down went both blocks of the first prompt, for the second; of the second one each, for what was read and
    # for the third prompt; and, as that has three blocks, its own last one.
    assert bottom.store.tier.used == 5


def test_what_one_instance_stores_another_one_loads_when_it_has_come() -> None:
    shared = host()
    early = run(workload((0.0, FIRST), (8.5, THIRD)), [shared], instances=2)
    assert early.requests.cached_tokens.tolist() == [0, 0]  # eight bytes are there at 9 s
    shared = host()
    late = run(workload((0.0, FIRST), (9.5, THIRD)), [shared], instances=2)
    assert late.requests.cached_tokens.tolist() == [0, 8]
    assert late.requests.first_token_s[1] == 9.5 + 2 + 4


def test_copies_on_a_lane_follow_each_other_and_stream_through_several() -> None:
    disk, link = Lane(2.0), Lane(10.0)
    assert end_of([Copy((link, disk), 20.0, 0.5)], 1.0, book=True) == 11.5
    assert (disk.free_s, link.free_s) == (11.0, 3.0)
    assert end_of([Copy((link,), 20.0)], 2.0, book=False) == 5.0
    assert end_of([Copy((link, disk), 2.0)], 2.0, book=True) == 12.0
    assert disk.backlog_bytes(10.0) == 4.0
