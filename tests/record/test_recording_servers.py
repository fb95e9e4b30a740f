"""Whole recordings: of a server whose times are known, and of servers that do everything wrong."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from fake_server import Behaviour, FakeServer, choice, event, finish, page, raw, running, start, usage

from tokensim.errors import InputError
from tokensim.record.recording import Recording
from tokensim.record.run import Options, record
from tokensim.record.trial import Wish
from tokensim.workload.base import Segments, Workload

pytest.importorskip("aiohttp", reason="the extra 'record' is not installed")

QUICK = Options(timeout_s=10.0, scrape_s=0.05)


def load(count: int, gap_s: float = 0.005, inputs: int = 40, outputs: int = 8, **more: Any) -> Workload:
    columns = np.arange(count) * gap_s, np.full(count, inputs), np.full(count, outputs)
    return Workload(*columns, **more)


def recorded(
    behaviour: Behaviour, workload: Workload, options: Options = QUICK
) -> tuple[Recording, FakeServer]:
    with running(behaviour) as server:
        (found,) = record(server.url, workload, options)
    return found, server


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


async def silent(server: FakeServer, body: dict[str, Any], writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(60)


async def silent_after_headers(
    server: FakeServer, body: dict[str, Any], writer: asyncio.StreamWriter
) -> None:
    await start(writer)
    await asyncio.sleep(60)


async def silent_after_a_token(
    server: FakeServer, body: dict[str, Any], writer: asyncio.StreamWriter
) -> None:
    await start(writer)
    await event(writer, {"choices": [choice(body, "a", None)]})
    await asyncio.sleep(60)


async def comments_forever(server: FakeServer, body: dict[str, Any], writer: asyncio.StreamWriter) -> None:
    await start(writer)
    while True:
        await raw(writer, b": still here\n\n")
        await asyncio.sleep(0.01)


async def closed_at_once(server: FakeServer, body: dict[str, Any], writer: asyncio.StreamWriter) -> None:
    return


async def closed_amid(server: FakeServer, body: dict[str, Any], writer: asyncio.StreamWriter) -> None:
    await start(writer)
    await event(writer, {"choices": [choice(body, "a", None)]})


async def ended_without_done(server: FakeServer, body: dict[str, Any], writer: asyncio.StreamWriter) -> None:
    await start(writer)
    await event(writer, {"choices": [choice(body, "a", None)]})
    writer.write(b"0\r\n\r\n")
    await writer.drain()


async def garbage(server: FakeServer, body: dict[str, Any], writer: asyncio.StreamWriter) -> None:
    await start(writer)
    await raw(writer, b"data: {\xff\xfe not json\n\n")
    await finish(writer)


async def no_http(server: FakeServer, body: dict[str, Any], writer: asyncio.StreamWriter) -> None:
    writer.write(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
    await writer.drain()


async def a_web_page(server: FakeServer, body: dict[str, Any], writer: asyncio.StreamWriter) -> None:
    await page(writer, 200, "<html>welcome</html>", "Content-Type: text/html\r\nConnection: close\r\n")


async def an_error_amid(server: FakeServer, body: dict[str, Any], writer: asyncio.StreamWriter) -> None:
    await start(writer)
    await event(writer, {"choices": [choice(body, "a", None)]})
    await event(writer, {"error": {"message": "CUDA out of memory"}})
    await finish(writer)


async def no_tokens(server: FakeServer, body: dict[str, Any], writer: asyncio.StreamWriter) -> None:
    await start(writer)
    await event(writer, {"choices": [choice(body, "", "stop")]})
    await finish(writer)


async def an_endless_event(server: FakeServer, body: dict[str, Any], writer: asyncio.StreamWriter) -> None:
    await start(writer)
    await raw(writer, b"data: ")
    while True:
        await raw(writer, b"x" * 65536)


async def endless_tokens(server: FakeServer, body: dict[str, Any], writer: asyncio.StreamWriter) -> None:
    await start(writer)
    while True:
        await event(writer, {"choices": [choice(body, "a", None)], "usage": usage(40, 1)})


async def busy(server: FakeServer, body: dict[str, Any], writer: asyncio.StreamWriter) -> None:
    await page(writer, 429, {"error": {"message": "Too many requests"}}, "Connection: close\r\n")


async def broken(server: FakeServer, body: dict[str, Any], writer: asyncio.StreamWriter) -> None:
    await page(writer, 500, "Internal Server Error", "Connection: close\r\n")


async def elsewhere(server: FakeServer, body: dict[str, Any], writer: asyncio.StreamWriter) -> None:
    await page(writer, 307, "", "Location: http://127.0.0.1:9/v1/completions\r\nConnection: close\r\n")


WRONGS = {
    silent: ("timeout", "no end within"),
    silent_after_headers: ("timeout", "no end within"),
    silent_after_a_token: ("timeout", "after 1 chunks"),
    comments_forever: ("timeout", "no end within"),
    closed_at_once: ("closed", "disconnected"),
    closed_amid: ("closed", "not completed|closed|payload"),
    ended_without_done: ("bad-answer", r"without \[DONE\]"),
    garbage: ("bad-answer", "not JSON"),
    no_http: ("closed", ""),
    a_web_page: ("bad-answer", "no event in the answer .content type text/html"),
    an_error_amid: ("bad-answer", "CUDA out of memory"),
    no_tokens: ("bad-answer", "no token"),
    an_endless_event: ("bad-answer", "an event of more than"),
    endless_tokens: ("bad-answer", "there is no end of it"),
    busy: ("refused", "HTTP 429: Too many requests"),
    broken: ("refused", "HTTP 500: Internal Server Error"),
    elsewhere: ("refused", "HTTP 307: it sends on to"),
}


@pytest.mark.parametrize("wrong", WRONGS, ids=lambda wrong: wrong.__name__)
def test_whatever_a_server_does_wrong_is_an_outcome(wrong: Any) -> None:
    status, message = WRONGS[wrong]
    began = time.monotonic()
    found, _ = recorded(Behaviour(stream=wrong, metrics=False), load(3), replace(QUICK, timeout_s=0.5))
    assert time.monotonic() - began < 30  # it never hangs; the limit is far above what it takes
    assert found.statuses() == {status: 3}
    for outcome in found.driven.outcomes:
        assert re.search(message, outcome.message, re.IGNORECASE), outcome.message
        assert outcome.ended_s >= outcome.sent_s
    assert not found.usable and not found.complete
    json.dumps(found.notes())


def test_a_few_failures_do_not_disturb_the_others() -> None:
    calls = itertools.count()

    async def every_third(server: FakeServer, body: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        if next(calls) % 3:
            await server.answer(body, writer)
        else:
            await busy(server, body, writer)

    found, _ = recorded(Behaviour(stream=every_third), load(12))
    assert found.statuses() == {"ok": 8, "refused": 4}
    assert not found.complete
    assert any("the replay leaves out the 4" in note for note in found.notes())


def test_retries_are_for_those_who_ask_and_are_told() -> None:
    calls = itertools.count()

    async def first_busy(server: FakeServer, body: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        if next(calls):
            await server.answer(body, writer)
        else:
            await busy(server, body, writer)

    found, _ = recorded(Behaviour(stream=first_busy), load(1), replace(QUICK, retries=1))
    assert found.statuses() == {"ok": 1}
    assert found.usable[0].attempts == 2
    assert any("sent more than once" in note for note in found.notes())


def test_it_can_be_stopped_amid_the_load() -> None:
    with running(Behaviour(first_s=0.0)) as server:
        (found,) = record(server.url, load(500, gap_s=0.02), QUICK, watch=lambda count: count.done >= 5)
    assert not found.driven.complete
    assert 5 <= len(found.usable) < 400
    assert any("PARTIAL" in note for note in found.notes())


@pytest.fixture
def key_server() -> Iterator[FakeServer]:
    with running(Behaviour(key="secret")) as server:
        yield server


def test_a_wrong_key_is_refused_before_anything_is_sent(key_server: FakeServer) -> None:
    with pytest.raises(InputError, match="refuses the key"):
        list(record(key_server.url, load(2), QUICK))
    (found,) = record(key_server.url, load(2), replace(QUICK, headers={"Authorization": "Bearer secret"}))
    assert found.complete


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (replace(QUICK, model="tinny"), "no model 'tinny'.*tiny"),
        (replace(QUICK, flavour="vlm"), "unknown server 'vlm'.*vllm"),
    ],
)
def test_names_that_the_server_does_not_know_are_refused(options: Options, said: str) -> None:
    with running() as server, pytest.raises(InputError, match=f"(?s){said}"):
        list(record(server.url, load(2), options))


def test_nobody_there_is_told_at_once() -> None:
    with running() as server:
        url = server.url
    with pytest.raises(InputError, match="no answer"):
        list(record(url, load(2), QUICK))


def test_requests_too_long_for_the_server_are_refused() -> None:
    with running() as server, pytest.raises(InputError, match="the server holds 4,096"):
        list(record(server.url, load(2, inputs=5000), QUICK))


def test_a_server_on_which_no_form_works_is_refused_with_what_it_said() -> None:
    with running(Behaviour(stream=broken, spared=0)) as server, pytest.raises(InputError, match="Internal"):
        list(record(server.url, load(2), replace(QUICK, wish=Wish(prompts="text"))))


def test_a_connection_that_the_server_just_gave_up_costs_no_request() -> None:
    """It closes after every answer without a word, as llama.cpp's server does."""

    async def one_each(server: FakeServer, body: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        await server.answer(body, writer)

    found, _ = recorded(
        Behaviour(stream=one_each, first_s=0.0, every_s=0.001, metrics=False),
        load(40, gap_s=0.0, concurrency=4),
    )
    assert found.statuses() == {"ok": 40}
    assert found.figures().connect_s.count > 0


def test_a_fault_of_our_own_ends_the_recording_instead_of_hanging_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken_ask(*arguments: Any, **options: Any) -> None:
        raise RuntimeError("our fault")

    monkeypatch.setattr("tokensim.record.load.ask", broken_ask)
    with running(Behaviour()) as server, pytest.raises(RuntimeError, match="our fault"):
        list(record(server.url, load(4), QUICK))

    def watch(count: Any) -> bool:
        raise RuntimeError("the watcher's fault")

    monkeypatch.undo()
    with running(Behaviour()) as server, pytest.raises(RuntimeError, match="the watcher's fault"):
        list(record(server.url, load(40, gap_s=0.02), QUICK, watch=watch))


def test_a_request_counts_from_when_its_bytes_leave_not_from_when_its_connection_is_begun() -> None:
    found, _ = recorded(Behaviour(metrics=False), load(30, gap_s=0.0))
    opened = [outcome for outcome in found.usable if outcome.connected_s > 0]
    assert opened
    for outcome in opened:
        assert outcome.sent_s - outcome.released_s >= outcome.connected_s
