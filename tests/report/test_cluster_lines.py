"""What the report says of a cluster: pools, replicas that come and go, memory tiers, tenants, the gateway."""

from __future__ import annotations

import io

import numpy as np
import pytest
from rich.console import Console

from handmade import floats, ints, request_columns, run_log, summary
from tokensim.metrics.log import LoadRows, RunLog, TierUse
from tokensim.metrics.operations import ReplicaLife
from tokensim.metrics.usage import Standing
from tokensim.report.header import Header
from tokensim.report.terminal import print_report


def report(log: RunLog | None = None, **kwargs: object) -> list[str]:
    """The lines of the report on ``log``, each with single spaces."""
    raw = io.StringIO()
    print_report(summary(log, **kwargs), header=Header("by hand", ()), console=Console(file=raw, width=80))
    lines = raw.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    return [" ".join(line.split()) for line in lines]


def row(lines: list[str], label: str) -> str:
    return next(line for line in lines if line.startswith(label))


LIVES = (
    ReplicaLife("pool-0-0", "pool-0", 0.0, 0.0, None),
    ReplicaLife("pool-1-0", "pool-1", 0.0, 0.0, 0.5, failed=True),
    ReplicaLife("pool-1-1", "pool-1", 1.0, 1.0, None),
)


def test_replicas_that_come_and_go_are_told_by_pool() -> None:
    lines = report(run_log(retries=ints(0, 1, 0, 0, 2)), replicas=LIVES)
    # pool-1 has one until 0.5, none until 1.0, one until the end at 2.0
    assert row(lines, "replicas") == "replicas pool-0 1 throughout; pool-1 0 to 1, 0.75 on average"
    assert row(lines, "changes") == "changes 1 started, 1 failed; requests taken up again: 2 (3 times)"


def test_a_replica_that_is_removed_is_no_failure() -> None:
    lives = (LIVES[0], ReplicaLife("pool-1-0", "pool-1", 0.0, 0.0, 1.0))
    assert row(report(replicas=lives), "changes") == "changes 1 removed"


def test_of_a_cluster_that_stood_all_the_time_nothing_is_said() -> None:
    lines = report(replicas=LIVES[:1])
    assert not any(line.startswith(("replicas", "changes")) for line in lines)


def test_every_pool_has_a_row() -> None:
    standing = Standing(floats(0.0, 1.0), floats(np.inf, np.inf))
    lines = report(standing=standing)
    start = lines.index("pool instances busy KV mean cost $/M in $/M out energy")
    # pool-0: 1 s of 2 s busy, 2 devices at 9 dollars an hour; 7.5 % of its bill for 350 tokens of prompts,
    # the rest for 9 of answers; 800 W while busy, 200 W else. pool-1 stood for one second, busy in all of it.
    assert lines[start + 1] == "pool-0 1 50.0 % 29.0 % $0.0100 2.14 1,027.78 0.278 Wh"
    assert lines[start + 2] == "pool-1 0.500 100.0 % 18.0 % $0.00500 2.50 472.22 0.222 Wh"
    assert row(lines, "busy") == "busy 66.7 % of the time, 16 steps"
    assert row(lines, "energy").startswith("energy 0.500 Wh")
    assert "900 W on" in row(lines, "energy"), "1,800 J in the two seconds of the run"


def test_a_single_pool_needs_no_table() -> None:
    requests = request_columns(instance=ints(0, 0, 0, -1, 0))
    rows = run_log().steps
    log = run_log(requests=requests, num_blocks=[100])
    object.__setattr__(rows, "instance", ints(0, 0, 0, 0, 0))
    object.__setattr__(log, "steps", rows)
    lines = report(log)
    assert not any(line.startswith("pool ") for line in lines)
    assert row(lines, "KV cache").endswith("max of 100 blocks")


def test_each_memory_tier_has_a_line() -> None:
    tiers = tuple(
        TierUse(name, "host", 1, capacity, used, 0.0, 0.0, 0.0, 0.0, 0.0)
        for name, capacity, used in (("host", 8e9, 2e9), ("a-store-of-many", 1e12, 0.0))
    )
    loads = LoadRows(
        request=ints(1, 4),
        tier=ints(0, 0),
        hit_tokens=ints(64, 1),
        tokens=ints(64, 1),
        bytes=floats(3e9, 1e9),
        start_s=floats(0.2, 1.0),
        end_s=floats(0.3, 1.3),
    )
    text = " ".join(report(run_log(tiers=tiers, loads=loads)))
    assert (
        "memory tier host: 10.0 % of input tokens; 4 GB in 2 loads, 200 ms each on average; 25.0 % full at"
        " the end" in text
    )
    assert "memory tier a-store-of-many: nothing loaded; 0.0 % full at the end" in text


def test_tenants_stand_by_number() -> None:
    lines = report(run_log(requests=request_columns(tenant=ints(7, 7, 1, 1, 0))))
    start = lines.index("tenant requests rejected TTFT p50 p99 tokens/s")
    assert lines[start + 1 : start + 5] == [
        "0 1 0 200 ms 200 ms 309",  # 300 + 9 tokens in one second
        "1 2 1 500 ms 500 ms 102",  # 50 + 1 in half a second
        "7 2 0 150 ms 199 ms 440",  # 100 + 5 + 200 + 3 in 0.7 s
        "Jain's fairness index 0.806",  # 851² / (3 · (309² + 102² + 440²))
    ]


def test_of_many_tenants_the_largest_are_shown() -> None:
    many = 10
    columns = request_columns(tenant=ints(0, 0, 1, 1, 2))
    log = run_log(requests=columns)
    lines = report(log)
    assert not any("more" in line for line in lines)
    scattered = {
        name: np.tile(getattr(columns, name), many)
        for name in columns.__slots__
        if isinstance(getattr(columns, name), np.ndarray)
    }
    scattered["tenant"] = np.concatenate([np.arange(many), np.full(4 * many, 3)])
    lines = report(run_log(requests=request_columns(**scattered)))
    start = lines.index("tenant requests rejected TTFT p50 p99 tokens/s")
    assert [line.split()[0] for line in lines[start + 1 : start + 9]] == list("01234567")
    assert lines[start + 9] == "and 2 more"


@pytest.mark.parametrize(
    ("turned_away", "why"), [(0, "on arrival, being longer than"), (1, "by the gateway (its queue,")]
)
def test_why_requests_were_rejected_is_told(turned_away: int, why: str) -> None:
    text = " ".join(report(turned_away=turned_away))
    assert f"note 1 of 5 requests rejected {why}" in text
    assert text.count("requests rejected") == 1
