"""Recordings of servers that do everything wrong, or refuse, and of a recorder that fails itself."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_server import Behaviour, FakeServer, choice, event, finish, page, raw, running, start, usage
from whole_recordings import QUICK, load, recorded

from tokensim.errors import InputError
from tokensim.record.run import Options, record
from tokensim.record.trial import Wish
from tokensim.record.write import write_recording

pytest.importorskip("aiohttp", reason="the extra 'record' is not installed")


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


@pytest.mark.parametrize("in_session", [False, True])
def test_what_was_sent_again_counts_and_is_replayed_from_its_last_attempt(
    in_session: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tokensim.record.load.RETRY_PAUSE_S", 0.3)
    calls = itertools.count()

    async def second_busy(server: FakeServer, body: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        if next(calls) == 1:
            await busy(server, body, writer)
        else:
            await server.answer(body, writer)

    rounds = {"after": np.array([-1, 0]), "delay_s": np.array([0.0, 0.1])} if in_session else {}
    found, _ = recorded(
        Behaviour(stream=second_busy), load(2, gap_s=0.1, **rounds), replace(QUICK, retries=1)
    )
    first, again = found.usable
    assert (first.attempts, again.attempts) == (1, 2)
    assert again.sent_s >= 0.4
    write_recording(tmp_path, found, {}, name="retried")
    rows = [json.loads(line) for line in (tmp_path / "requests.jsonl").read_text().splitlines()]
    assert rows[0]["arrival_s"] == 0.0
    arrival_s = first.ended_s + rows[1]["delay_s"] if in_session else rows[1]["arrival_s"]
    assert arrival_s == pytest.approx(again.sent_s, abs=1e-5)
    assert rows[1]["sent_s"] == pytest.approx(again.sent_s, abs=1e-5)
    assert rows[1]["ttft_s"] == pytest.approx(again.times_s[0] - again.sent_s, abs=1e-5)


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


def test_the_time_limit_holds_for_the_first_question_too() -> None:
    began = time.monotonic()
    quick = replace(QUICK, timeout_s=0.2)
    with (
        running(Behaviour(stream=silent, spared=0)) as server,
        pytest.raises(InputError, match=r"(?s)no end within 0.2 s.*--timeout"),
    ):
        list(record(server.url, load(2), quick))
    assert time.monotonic() - began < 15  # a server that says nothing would keep it for a minute


def test_a_watcher_may_stop_it_before_the_load() -> None:
    with running(Behaviour(stream=silent, spared=0)) as server:
        assert list(record(server.url, load(2), QUICK, watch=lambda count: bool(server.bodies))) == []


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
