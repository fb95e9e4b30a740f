"""What answers say of themselves: how long they are, what was cached, and which model gave them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from served import Served, scenario, served

MODEL = "meta-llama/Llama-3.1-8B"
LORA = {"max_model_len": 1024, "num_gpu_blocks": 500, "lora": {"max_loras": 2}}


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with served() as running:
        yield running
        running.check_empty()


def test_a_cached_prompt_counts_once_however_many_answers_it_has(server: Served) -> None:
    one, two = list(range(64)), list(range(100, 196))
    for cached in (0, 48 + 80):  # full blocks of 16, of which the last is always computed
        answer = server.post("/v1/completions", prompt=[one, two], n=3, max_tokens=1).json()
        assert answer["usage"]["prompt_tokens"] == 64 + 96
        assert answer["usage"]["prompt_tokens_details"]["cached_tokens"] == cached


def test_a_completion_that_does_not_say_how_long_it_is_has_16_tokens(server: Served) -> None:
    """Null says nothing, too: neither the workload's lengths (7 tokens) nor the rest of the context."""
    for said in ({}, {"max_tokens": None}):
        choice = server.post("/v1/completions", prompt="hi", **said).json()
        assert choice["usage"]["completion_tokens"] == 16
        assert choice["choices"][0]["finish_reason"] == "length"
    chat = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": None}
    assert server.post("/v1/chat/completions", **chat).json()["usage"]["completion_tokens"] == 7


def test_a_model_tells_its_root_and_an_adapter_its_parent() -> None:
    with served(scenario(engine=LORA), model_name="house") as server:
        told = server.http.get("/v1/models").json()["data"]
    assert [(one["id"], one["root"], one["parent"]) for one in told] == [
        ("house", MODEL, None),
        ("adapter-0", "adapter-0", "house"),
        ("adapter-1", "adapter-1", "house"),
    ]
