"""Whole recordings of a server whose times are known."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from fake_server import Behaviour, FakeServer, running
from whole_recordings import QUICK, load, recorded

from tokensim.record.run import record
from tokensim.workload.base import Segments, Workload

pytest.importorskip("aiohttp", reason="the extra 'record' is not installed")


def test_times_are_those_of_the_server() -> None:
    own = Behaviour(first_s=0.05, every_s=0.01)
    found, server = recorded(own, load(30))
    assert found.complete and found.manner.forced and found.manner.dialect.ids
    assert found.statuses() == {"ok": 30}
    for outcome in found.usable:
        times = np.asarray(outcome.times_s)
        assert len(times) == 8 and outcome.counts_known
        assert times[0] - outcome.sent_s >= 0.05
        assert (np.diff(times) >= 0).all()
        # the server's clock runs from when it has read the request, so never ahead of ours
        assert (times - outcome.sent_s >= 0.05 + 0.01 * np.arange(8) - 1e-3).all()
    figures = found.figures()
    assert figures.ttft_s.p50 is not None and figures.ttft_s.p50 >= 0.05
    assert figures.tpot_s.p50 is not None and figures.tpot_s.p50 < 1.0  # no more is known of a busy machine
    assert figures.itl_s.count == 30 * 7
    assert {body["max_tokens"] for body in server.bodies} == {8, 4}
    assert all(len(body["prompt"]) == 40 for body in server.bodies[-30:])


def test_what_the_server_tells_of_itself_is_kept() -> None:
    found, _ = recorded(Behaviour(first_s=0.2), load(5))
    facts = found.facts
    assert (facts.flavour, facts.version, facts.model) == ("vllm", "0.33.0", "tiny")
    assert (facts.num_gpu_blocks, facts.block_size, facts.max_model_len) == (2588, 16, 4096)
    series = found.series
    assert len(series.time_s) >= 2
    assert max(series.columns["running"]) >= 1
    assert set(series.columns["kv_usage"]) == {0.25}
    assert all(a < b for a, b in itertools.pairwise(series.time_s))


def test_nothing_is_sent_before_its_time_and_lateness_is_told() -> None:
    found, _ = recorded(Behaviour(first_s=0.0), load(40, gap_s=0.01))
    late = [o.sent_s - o.released_s for o in found.driven.outcomes]
    assert [o.released_s for o in found.driven.outcomes] == pytest.approx(np.arange(40) * 0.01)
    assert min(late) >= 0
    assert found.driven.trueness.lateness.max_s == pytest.approx(max(late))


def test_a_slow_recorder_says_so() -> None:
    found, _ = recorded(Behaviour(), load(20))
    true = found.driven.trueness
    assert replace(true, lateness=replace(true.lateness, p99_s=0.5)).warning(1.0) is not None
    quick = replace(true.lateness, p99_s=0.001)
    assert replace(true, lateness=quick, lag=quick).warning(0.02) is None
    slow = replace(true.lateness, p99_s=0.004)
    assert replace(true, lateness=slow, lag=quick).warning(0.1) is not None
    assert replace(true, lateness=slow, lag=quick).warning(1.0) is None


@pytest.mark.parametrize(
    ("behaviour", "path", "ids"),
    [
        (Behaviour(), "/v1/completions", True),
        (Behaviour(takes_ids=False), "/v1/completions", False),
        (Behaviour(chat_only=True), "/v1/chat/completions", False),
        (Behaviour(refuses=("continuous_usage_stats",)), "/v1/completions", True),
        (Behaviour(owner="someone", metrics=False, refuses=("min_tokens",)), "/v1/completions", True),
    ],
)
def test_the_form_of_requests_is_found_out_by_asking(behaviour: Behaviour, path: str, ids: bool) -> None:
    found, server = recorded(behaviour, load(6))
    assert found.manner.dialect.path == path
    assert found.manner.dialect.ids is ids
    assert found.statuses() in ({"ok": 6}, {"wrong-length": 6})
    assert server.paths[-1] in (path, "/metrics")
    assert [found.input_tokens(o) for o in found.usable] == [40] * 6


def test_a_server_that_does_not_force_lengths_is_recorded_with_the_lengths_that_came() -> None:
    found, _ = recorded(Behaviour(forces=False, refuses=("ignore_eos",)), load(4))
    assert not found.manner.forced
    assert found.statuses() == {"wrong-length": 4}
    assert [outcome.output_tokens for outcome in found.usable] == [4] * 4
    assert any("does not force the length" in note for note in found.notes())


def test_words_are_counted_by_the_servers_own_usage() -> None:
    found, server = recorded(Behaviour(takes_ids=False, words_per_token=0.5), load(4, inputs=81))
    assert [found.input_tokens(o) for o in found.usable] == [81] * 4
    assert len(server.bodies[-1]["prompt"].split()) == 40


def test_several_tokens_in_a_chunk_are_known_where_the_server_tells() -> None:
    found, _ = recorded(Behaviour(per_chunk=4), load(3, outputs=10))
    assert [list(o.counts) for o in found.usable] == [[4, 4, 2]] * 3
    assert all(o.counts_known for o in found.usable)
    found, _ = recorded(Behaviour(per_chunk=4, usage="end"), load(3, outputs=10))
    assert [sum(o.counts) for o in found.usable] == [10] * 3
    assert any("several tokens" in note for note in found.notes())


def test_lies_of_usage_do_not_reach_the_figures() -> None:
    found, _ = recorded(Behaviour(usage="lie", takes_ids=False), load(3))
    assert found.statuses() == {"ok": 3}
    assert [found.input_tokens(o) for o in found.usable] == [40] * 3
    assert any("impossible length" in note for note in found.notes()) or not found.manner.usage


def test_connections_are_used_again() -> None:
    found, server = recorded(Behaviour(first_s=0.0, every_s=0.0), load(60, gap_s=0.01))
    assert found.complete
    assert server.connections < 40
    assert sum(outcome.connected_s > 0 for outcome in found.driven.outcomes) < 30


def test_a_round_holds_the_answer_to_the_one_before() -> None:
    segments = Segments(
        np.array([0, 1, 4]), np.array([0, 0, 9, 1]), np.array([40, 40, 8, 12]), np.array([9, -1])
    )
    workload = Workload(
        np.zeros(2),
        np.array([40, 60]),
        np.array([8, 8]),
        segments=segments,
        after=np.array([-1, 0]),
        delay_s=np.array([0.0, 0.05]),
    )
    found, server = recorded(Behaviour(), workload)
    first, second = found.usable
    assert server.bodies[-1]["prompt"][:40] == server.bodies[-2]["prompt"]
    assert server.bodies[-1]["prompt"][40:48] == list(range(2000, 2008))
    assert second.released_s == pytest.approx(first.ended_s + 0.05, abs=0.02)
    found, server = recorded(Behaviour(takes_ids=False), workload)
    assert server.bodies[-1]["prompt"].startswith(server.bodies[-2]["prompt"] + " word" * 8)


def test_repeats_and_warm_up_share_nothing_with_each_other() -> None:
    with running() as server:
        passes = list(record(server.url, load(4), replace(QUICK, repeat=2, warmup=3)))
    prompts = [tuple(body["prompt"]) for body in server.bodies[2:]]
    assert len(passes) == 2 and len(prompts) == 3 + 4 + 4
    assert len(set(prompts)) == len(prompts)


def test_two_thousand_streams_at_once() -> None:
    """No answer begins before all have been asked for."""
    everyone = asyncio.Event()

    async def together(server: FakeServer, body: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        if server.running == 2000:
            everyone.set()
        await everyone.wait()
        await server.answer(body, writer)

    found, server = recorded(
        Behaviour(stream=together, first_s=0.0, every_s=0.0, metrics=False),
        load(2000, gap_s=0.0, inputs=4, outputs=2),
        replace(QUICK, timeout_s=300.0),
    )
    assert found.statuses() == {"ok": 2000}
    assert server.most_running == 2000


def test_it_can_be_stopped_amid_the_load() -> None:
    with running(Behaviour(first_s=0.0)) as server:
        (found,) = record(server.url, load(500, gap_s=0.02), QUICK, watch=lambda count: count.done >= 5)
    assert not found.driven.complete
    assert 5 <= len(found.usable) < 400
    assert any("PARTIAL" in note for note in found.notes())


def test_a_request_counts_from_when_its_bytes_leave_not_from_when_its_connection_is_begun() -> None:
    found, _ = recorded(Behaviour(metrics=False), load(30, gap_s=0.0))
    opened = [outcome for outcome in found.usable if outcome.connected_s > 0]
    assert opened
    for outcome in opened:
        assert outcome.sent_s - outcome.released_s >= outcome.connected_s
