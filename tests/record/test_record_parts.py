"""The parts of the recorder by themselves: events, answers, contents of prompts, metrics, the schedule."""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import socket
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokensim.errors import InputError
from tokensim.record.answer import Answer, error_text, shortened
from tokensim.record.clock import Stamps, runner
from tokensim.record.dialect import Dialect
from tokensim.record.exposition import Wanted, labels_of
from tokensim.record.flavours import BY_NAME
from tokensim.record.http import base_url
from tokensim.record.prompts import prompts_of
from tokensim.record.schedule import Schedule
from tokensim.record.sse import MOST_EVENT_BYTES, BadAnswer, EventParser
from tokensim.record.words import TokenIds, Words, drawn, key_of
from tokensim.workload.base import Segments, Workload

STREAM = (
    b': hello\r\ndata: {"a": 1}\r\n\r\nevent: x\ndata: first\ndata: second\n\ndata:tight\n\ndata: [DONE]\n\n'
)


@given(st.lists(st.integers(0, len(STREAM)), max_size=20))
def test_events_are_the_same_however_the_bytes_are_cut(cuts: list[int]) -> None:
    parser = EventParser()
    ends = sorted({0, *cuts, len(STREAM)})
    found = [event for a, b in itertools.pairwise(ends) for event in parser.feed(STREAM[a:b])]
    assert found == [b'{"a": 1}', b"first\nsecond", b"tight", b"[DONE]"]


@pytest.mark.parametrize("piece", [b"x" * 1000, b"data: " + b"x" * 1000 + b"\n", b"data: x"])
def test_an_event_without_end_is_given_up(piece: bytes) -> None:
    parser = EventParser()
    with pytest.raises(BadAnswer, match="an event of more than"):
        for _ in range(2 * MOST_EVENT_BYTES // len(piece)):
            assert parser.feed(piece) == []


def answered(chunks: list[object], keep: bool = False, most: int = 100) -> Answer:
    """An answer whose chunk k came at time k."""
    answer = Answer(most, keep=keep)
    for number, chunk in enumerate(chunks):
        answer.take(chunk if isinstance(chunk, bytes) else json.dumps(chunk).encode(), float(number))
    return answer


def text(words: str, **more: object) -> dict[str, object]:
    return {"choices": [{"text": words, "finish_reason": None}], **more}


def used(outputs: int, inputs: int = 7) -> dict[str, object]:
    return {"usage": {"prompt_tokens": inputs, "completion_tokens": outputs}}


def test_usage_with_each_chunk_tells_how_many_tokens_it_has() -> None:
    answer = answered(
        [text("a", **used(1)), text("bcd", **used(4)), text("", **used(4)), text("", **used(5))]
    )
    assert answer.settle()
    assert list(answer.times) == [0.0, 1.0, 3.0]
    assert list(answer.counts) == [1, 3, 1]
    assert (answer.prompt_tokens, answer.completion_tokens) == (7, 5)


def test_the_timings_of_llama_cpp_tell_it_too() -> None:
    answer = answered([text("a", timings={"predicted_n": 1}), text("b", timings={"predicted_n": 3}), used(3)])
    assert answer.settle()
    assert list(answer.counts) == [1, 2]


def test_a_role_and_a_finish_are_no_tokens() -> None:
    chunks = [
        {"choices": [{"delta": {"role": "assistant", "content": ""}}]},
        {"choices": [{"delta": {"content": "a"}}]},
        {"choices": [{"delta": {"reasoning_content": "b"}}]},
        {"choices": [{"delta": {}, "finish_reason": "length"}]},
        {"choices": [], **used(2)},
        b"[DONE]",
    ]
    answer = answered(chunks, keep=True)
    assert answer.settle() and answer.done
    assert list(answer.times) == [1.0, 2.0]
    assert answer.text == ["a", "b"]


def test_tokens_that_no_chunk_tells_of_are_spread_and_said_to_be() -> None:
    answer = answered([text("a"), text("b"), text("c"), {"choices": [], **used(8)}])
    assert not answer.settle()
    assert list(answer.counts) == [1, 3, 4]


def test_chunks_without_text_count_where_usage_tells_of_tokens() -> None:
    answer = answered([text(""), text(""), {"choices": [], **used(2)}])
    assert answer.settle()
    assert list(answer.times) == [0.0, 1.0]


@pytest.mark.parametrize("lie", [-3, 10**12, 101, "many", True, None, 2.5])
def test_usage_that_cannot_be_counts_for_nothing(lie: object) -> None:
    answer = answered([text("a"), text("b"), {"choices": [], "usage": {"completion_tokens": lie}}])
    assert not answer.settle()
    assert answer.completion_tokens == 2
    assert list(answer.counts) == [1, 1]


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 40)), min_size=1, max_size=12), st.integers(1, 90))
def test_counts_add_up_to_what_usage_tells(chunks: list[tuple[bool, int]], total: int) -> None:
    tree: list[object] = [text("x", **(used(n) if told else {})) for told, n in chunks]
    answer = answered([*tree, {"choices": [], **used(total)}])
    answer.settle()
    assert len(answer.counts) == len(answer.times)
    assert all(count >= 0 for count in answer.counts)
    if answer.times:
        assert answer.completion_tokens == total
        assert sum(answer.counts) == total


@pytest.mark.parametrize(
    ("chunk", "said"),
    [
        (b"<html>", "not JSON: <html>"),
        (b"[1]", "not a chunk"),
        (b"[" * 100_000, "not JSON"),
        ({"error": {"message": "out of memory"}}, "an error amid the answer: out of memory"),
    ],
)
def test_what_is_no_chunk_is_a_bad_answer(chunk: object, said: str) -> None:
    with pytest.raises(BadAnswer, match=said):
        answered([chunk])


def test_more_chunks_than_any_answer_has_are_given_up() -> None:
    with pytest.raises(BadAnswer, match="more than 100 chunks"):
        answered([text("a")] * 101)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_chunk_or_a_bad_answer(data: bytes) -> None:
    answer = Answer(10)
    try:
        answer.take(data, 0.0)
        answer.settle()
    except BadAnswer as error:
        assert len(str(error)) < 400


def test_messages_are_short_and_plain() -> None:
    assert shortened("a\x1b[31m\nb" + "x" * 1000) == ("a [31m b" + "x" * 1000)[:299] + "…"
    assert error_text({"detail": [{"msg": "no"}]}) == '[{"msg": "no"}]'


def test_the_beginning_of_a_run_does_not_depend_on_its_length() -> None:
    key = key_of(1, 2, 3)
    assert drawn(key, 50)[:20].tolist() == drawn(key, 20).tolist()
    assert key_of(1, 2, 4) != key != key_of(1, 3, 3)
    ids = TokenIds(1000, 30_000)
    assert ids.piece(key, 30).startswith(ids.piece(key, 10) + b",")
    values = [int(value) for value in ids.piece(key, 5000).split(b",")]
    assert len(values) == 5000
    assert min(values) >= 1000 and max(values) < 30_000
    assert len(set(values)) > 4000


def test_words_have_the_wanted_tokens() -> None:
    assert len(Words().piece(5, 40).split()) == 40
    assert len(Words(tokens_each=4.0).piece(5, 40).split()) == 10
    assert len(Words(tokens_each=4.0).piece(5, 1).split()) == 1


def conversation() -> Workload:
    """Two rounds that share a prompt with a third, whose second holds the answer to the first."""
    return Workload(
        np.zeros(3),
        np.array([20, 45, 20]),
        np.array([10, 5, 5]),
        segments=Segments(
            np.array([0, 2, 6, 8]),
            np.array([0, 1, 0, 1, 9, 2, 0, 3]),
            np.array([12, 8, 12, 8, 10, 15, 12, 8]),
            np.array([9, -1, -1]),
        ),
        after=np.array([-1, 0, -1]),
        delay_s=np.array([0.0, 0.5, 0.0]),
    )


def test_prompts_share_what_the_workload_says_and_wait_for_answers() -> None:
    prompts = prompts_of(conversation(), TokenIds(10, 99), seed=0, salt=0)
    first, second, third = prompts.pieces
    assert prompts.needed == {0}
    assert first == (first[0], first[1])
    assert second[:2] == first and second[2] == 0
    assert third[0] == first[0] and third[1] != first[1]
    again = prompts_of(conversation(), TokenIds(10, 99), seed=0, salt=1)
    assert again.pieces[0][0] != first[0]


def test_tokens_that_come_by_themselves_are_taken_off_the_first_piece() -> None:
    prompts = prompts_of(conversation(), TokenIds(10, 99), seed=0, salt=0, overhead=2)
    assert [len(bytes(piece).split(b",")) for piece in prompts.pieces[0]] == [10, 8]


def test_a_body_is_json_with_the_answers_where_they_belong() -> None:
    prompts = prompts_of(conversation(), TokenIds(10, 99), seed=0, salt=0)
    dialect = Dialect("completions", "m", True, {"ignore_eos": True}, ("max_tokens", "min_tokens"))
    body = json.loads(dialect.body(prompts.pieces[1], 5, {0: b"7,8,9"}))
    assert len(body["prompt"]) == 20 + 3 + 15 and body["prompt"][20:23] == [7, 8, 9]
    assert (body["max_tokens"], body["min_tokens"], body["stream"]) == (5, 5, True)
    words = prompts_of(conversation(), Words(), seed=0, salt=0)
    chat = Dialect("chat", "m", False)
    said = json.dumps('He said "no"\n')[1:-1].encode()
    turns = json.loads(chat.body(words.pieces[1], 5, {0: said}))["messages"]
    assert [turn["role"] for turn in turns] == ["user", "assistant", "user"]
    assert turns[1]["content"] == 'He said "no"\n'
    texts = Dialect("completions", "m", False)
    assert 'He said "no"\n' in json.loads(texts.body(words.pieces[1], 5, {0: said}))["prompt"]


PAGE = """# HELP vllm:num_requests_running x
vllm:num_requests_running{engine="0",model_name="a\\"b"} 3.0
vllm:num_requests_running{engine="1"} 4.0
vllm:num_requests_running_of_another_kind 9
vllm:gpu_cache_usage_perc{engine="0"} 0.5
vllm:kv_cache_usage_perc{engine="0"} 0.25
vllm:kv_cache_usage_perc{engine="1"} 0.75
vllm:num_requests_waiting nonsense
vllm:cache_config_info{block_size="16",num_gpu_blocks="77"} 1.0
"""


def test_metrics_are_summed_over_engines_and_shares_averaged() -> None:
    values = Wanted(BY_NAME["vllm"].metrics).read(PAGE)
    assert values == {"running": 7.0, "kv_usage": 0.5}
    assert labels_of(PAGE, "vllm:cache_config_info") == {"block_size": "16", "num_gpu_blocks": "77"}
    assert labels_of(PAGE, "vllm:nothing") == {}
    assert Wanted({}).read(PAGE) == {}


@given(st.text(max_size=300))
def test_any_page_is_read_without_a_fault(content: str) -> None:
    assert all(
        math.isfinite(v) or math.isinf(v) for v in Wanted(BY_NAME["vllm"].metrics).read(content).values()
    )


@pytest.mark.parametrize(
    ("given", "base"),
    [
        ("localhost:8000", "http://localhost:8000"),
        ("http://host/v1/", "http://host"),
        ("https://host:1/under/v1", "https://host:1/under"),
    ],
)
def test_an_address_is_taken_with_and_without_v1(given: str, base: str) -> None:
    assert base_url(given) == base


@pytest.mark.parametrize(
    "given", ["ftp://x", "http://", "http://x:99999", "http://u:p@x", "http://x?a=1", ""]
)
def test_what_is_no_address_is_refused(given: str) -> None:
    with pytest.raises(InputError):
        base_url(given)


def test_an_open_loop_sends_by_the_clock_whatever_comes_back() -> None:
    schedule = Schedule(Workload(np.array([0.0, 0.5, 0.5, 2.0]), np.ones(4, int), np.ones(4, int)))
    assert schedule.take(0.0) == [(0, 0.0)]
    assert schedule.due_s == 0.5
    assert schedule.take(1.0) == [(1, 0.5), (2, 0.5)]
    assert schedule.take(3.0) == [(3, 2.0)]
    assert schedule.due_s == math.inf


def test_a_cap_holds_back_until_an_answer_ends() -> None:
    columns = np.array([0.0, 0.1, 0.2]), np.ones(3, int), np.ones(3, int)
    schedule = Schedule(Workload(*columns, max_in_flight=1))
    assert schedule.take(1.0) == [(0, 0.0)]
    schedule.finished(0, 1.5)
    assert schedule.take(1.5) == [(1, 1.5)]
    assert schedule.failed(1, 1.6) == []
    assert schedule.take(1.7) == [(2, 1.6)]
    assert schedule.cause == {}


def test_users_of_a_closed_loop_go_on_after_their_pause_even_if_they_were_refused() -> None:
    n = 5
    workload = Workload(
        np.zeros(n), np.ones(n, int), np.ones(n, int), concurrency=2, think_s=np.full(n, 0.25)
    )
    schedule = Schedule(workload)
    assert schedule.take(0.0) == [(0, 0.0), (1, 0.0)]
    schedule.finished(1, 1.0)
    assert schedule.take(1.1) == []
    assert schedule.take(1.3) == [(2, 1.25)]
    schedule.failed(0, 2.0)
    schedule.finished(2, 2.1)
    assert schedule.take(9.0) == [(3, 2.25), (4, 2.35)]
    assert schedule.cause == {2: 1, 3: 0, 4: 2}


def test_a_round_waits_for_the_one_before_and_dies_with_it() -> None:
    schedule = Schedule(conversation())
    assert schedule.take(0.0) == [(0, 0.0), (2, 0.0)]
    schedule.finished(0, 1.0)
    assert schedule.take(2.0) == [(1, 1.5)]
    other = Schedule(conversation())
    other.take(0.0)
    assert other.failed(0, 1.0) == [1]


def test_bytes_that_came_together_have_one_time_however_long_reading_them_takes() -> None:
    stamps = Stamps()
    pairs = [socket.socketpair() for _ in range(5)]
    came: list[float] = []

    async def read(own: socket.socket) -> None:
        reader, writer = await asyncio.open_connection(sock=own)
        await reader.readexactly(1)
        came.append(stamps.came_s)
        time.sleep(0.05)  # a stream that takes its time to be read
        writer.close()
        await writer.wait_closed()

    async def all_of_them() -> None:
        tasks = [asyncio.create_task(read(own)) for own, _ in pairs]
        await asyncio.sleep(0.01)
        for _, other in pairs:
            other.send(b"x")
        await asyncio.gather(*tasks)

    with runner(stamps) as loop:
        loop.run(all_of_them())
    for _, other in pairs:
        other.close()
    assert max(came) - min(came) < 0.05 <= time.monotonic() - max(came) - 0.15
