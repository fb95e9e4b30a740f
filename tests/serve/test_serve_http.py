"""The endpoint over HTTP: what clients see, and that whoever leaves leaves nothing behind."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import time
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from prometheus_client.parser import text_string_to_metric_families
from served import Served, scenario, served

from tokensim.serve.answers import Answer
from tokensim.serve.app import Rules
from tokensim.serve.asking import Asked
from tokensim.serve.gate import CAME
from tokensim.serve.server import Endpoint, Options

MODEL = "meta-llama/Llama-3.1-8B"


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with served() as running:
        yield running
        running.check_empty()


@pytest.fixture
def client(server: Served) -> Iterator[openai.OpenAI]:
    transport = httpx.Client(trust_env=False)
    with openai.OpenAI(
        base_url=server.url + "/v1", api_key="none", http_client=transport, max_retries=0
    ) as made:
        yield made


def events(text: str) -> list[Any]:
    lines = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def test_openai_completes_a_prompt(client: openai.OpenAI) -> None:
    answer = client.completions.create(model=MODEL, prompt="One two three", max_tokens=9)
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (3, 9)
    assert answer.choices[0].finish_reason == "length"
    assert len(answer.choices[0].text.split()) == 9


def test_openai_streams_a_chat_token_by_token(client: openai.OpenAI) -> None:
    said = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Hello"}]
    stream = client.chat.completions.create(
        model=MODEL,
        messages=said,  # type: ignore[arg-type]
        max_completion_tokens=6,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    texts = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices]
    assert [bool(text) for text in texts] == [False] + 6 * [True], "the role, then a token an event"
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-2].choices[0].finish_reason == "length"
    usage = chunks[-1].usage
    assert usage is not None and usage.completion_tokens == 6
    tokens = 5 + 3 + 5 + 1 + 3  # two messages in their marks, and the mark of the answer
    assert usage.prompt_tokens == tokens


def test_a_prompt_may_be_tokens_or_several_and_be_answered_several_times(server: Served) -> None:
    ids = server.post("/v1/completions", prompt=[5, 6, 7], max_tokens=2).json()
    assert ids["usage"]["prompt_tokens"] == 3
    both = server.post("/v1/completions", prompt=[[5, 6], [8]], n=2, max_tokens=2).json()
    assert [choice["index"] for choice in both["choices"]] == [0, 1, 2, 3]
    assert both["usage"] == {
        "prompt_tokens": 3,
        "completion_tokens": 8,
        "total_tokens": 11,
        "prompt_tokens_details": {"cached_tokens": 0},
    }
    texts = server.post("/v1/completions", prompt=["one", "one two"], max_tokens=1, stream=True).text
    assert {chunk["choices"][0]["index"] for chunk in events(texts)} == {0, 1}


def test_a_conversation_finds_its_own_answers_in_the_prefix_cache(server: Served) -> None:
    said = [{"role": "user", "content": "Tell me of the sea, the old port and its ships. " * 10}]
    cached = []
    for _ in range(3):
        answer = server.post("/v1/chat/completions", messages=said, max_tokens=100).json()
        usage = answer["usage"]
        cached.append(usage["prompt_tokens_details"]["cached_tokens"])
        said += [answer["choices"][0]["message"], {"role": "user", "content": "Go on."}]
        tokens = usage["prompt_tokens"] + usage["completion_tokens"]
    assert cached[0] == 0
    first = server.post("/v1/chat/completions", messages=said, max_tokens=1).json()["usage"]
    # All of the conversation but the last, partial block of 16, whose end the engine has not computed.
    assert first["prompt_tokens_details"]["cached_tokens"] in ((tokens - 1) // 16 * 16, tokens // 16 * 16)
    other = server.post("/v1/chat/completions", messages=said, max_tokens=1, cache_salt="mine").json()
    assert other["usage"]["prompt_tokens_details"]["cached_tokens"] == 0


def test_usage_may_come_with_every_chunk(server: Served) -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    text = server.post(
        "/v1/completions", prompt="a b", max_tokens=3, stream=True, stream_options=options
    ).text
    assert [chunk["usage"]["completion_tokens"] for chunk in events(text)] == [1, 2, 3, 3]


def test_an_answer_without_a_length_is_as_long_as_those_of_the_workload(server: Served) -> None:
    said = [{"role": "user", "content": "hi"}]
    answer = server.post("/v1/chat/completions", messages=said).json()
    assert answer["usage"]["completion_tokens"] == 7
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert server.post("/v1/completions", prompt="hi").json()["usage"]["completion_tokens"] == 16
    forced = server.post("/v1/chat/completions", messages=said, min_tokens=9).json()
    assert forced["usage"]["completion_tokens"] == 9


@pytest.mark.parametrize(
    ("path", "body", "status", "says"),
    [
        ("completions", {"prompt": "a", "max_tokens": 0}, 400, "max_tokens"),
        ("completions", {"prompt": "a", "max_tokens": 5000}, 400, "maximum context length is 4096"),
        ("completions", {"prompt": ""}, 400, "empty"),
        ("completions", {"prompt": []}, 400, "prompt"),
        ("completions", {"prompt": [3, -1]}, 400, "prompt"),
        ("completions", {"max_tokens": 3}, 400, "prompt: Field required"),
        ("completions", {"prompt": "a", "model": "other"}, 404, "`other` does not exist"),
        ("completions", {"prompt": "a", "logprobs": 1}, 400, "logprobs is not simulated"),
        ("completions", {"prompt": "a", "echo": True}, 400, "echo is not simulated"),
        ("completions", {"prompt": "a", "min_tokens": 9, "max_tokens": 3}, 400, "min_tokens"),
        ("completions", {"prompt": "a", "n": 1000}, 400, "n: "),
        ("completions", {"prompt": "a", "temperature": -1}, 400, "temperature"),
        ("completions", {"prompt": ["a"] * 100, "n": 100}, 400, "10000|100 prompts"),
        ("completions", {"prompt": "a", "stream_options": {"include_usage": True}}, 400, "stream=True"),
        ("chat/completions", {"messages": []}, 400, "messages"),
        (
            "chat/completions",
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            400,
            "image",
        ),
        (
            "chat/completions",
            {"messages": [{"role": "user", "content": "a"}], "response_format": {"type": "json_object"}},
            400,
            "response_format",
        ),
        (
            "chat/completions",
            {"messages": [{"role": "user", "content": "a"}], "tool_choice": "required"},
            400,
            "tool calls",
        ),
    ],
)
def test_what_cannot_be_is_refused_as_openai_does(
    server: Served, path: str, body: dict[str, Any], status: int, says: str
) -> None:
    answer = server.http.post(f"/v1/{path}", json=body)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert error["code"] == status
    assert any(part in error["message"] for part in says.split("|")), error["message"]


def test_errors_reach_the_openai_package_as_its_own(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="maximum context length"):
        client.completions.create(model=MODEL, prompt="a", max_tokens=10**6)
    with pytest.raises(openai.NotFoundError):
        client.completions.create(model="gpt", prompt="a")


def test_models_version_health_and_routes_that_are_not_there(server: Served) -> None:
    models = server.http.get("/v1/models").json()
    assert [(model["id"], model["max_model_len"]) for model in models["data"]] == [(MODEL, 4096)]
    assert server.http.get("/health").status_code == 200
    assert server.http.get("/version").json()["version"][0].isdigit()
    for answer in (
        server.http.get("/nothing"),
        server.http.put("/v1/models"),
        server.http.get("/admin/replicas"),
    ):
        assert answer.status_code in (404, 405)
        assert answer.json()["error"]["code"] == answer.status_code
    assert server.http.put("/v1/models").headers["allow"] == "GET"


def sample(server: Served, name: str, **labels: str) -> float:
    text = server.http.get("/metrics").text
    found = [
        one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
        if one.name == name and labels.items() <= one.labels.items()
    ]
    assert found, f"no {name}"
    return float(sum(found))


def test_metrics_are_those_of_vllm(server: Served) -> None:
    before = {
        name: sample(server, name)
        for name in (
            "vllm:prompt_tokens_total",
            "vllm:generation_tokens_total",
            "vllm:time_to_first_token_seconds_count",
            "vllm:inter_token_latency_seconds_count",
            "vllm:e2e_request_latency_seconds_count",
            "vllm:prefix_cache_queries_total",
        )
    }
    server.post("/v1/completions", prompt=[1, 2, 3, 4], max_tokens=10)
    added = {name: sample(server, name) - value for name, value in before.items()}
    assert list(added.values()) == [4, 10, 1, 9, 1, 4]
    assert sample(server, "vllm:cache_config_info", num_gpu_blocks="2001", block_size="16") == 1
    assert sample(server, "vllm:num_requests_running", engine="0") == 0
    assert sample(server, "vllm:kv_cache_usage_perc") == 0
    assert sample(server, "vllm:request_success_total", finished_reason="length") > 0
    assert sample(server, "tokensim:write_lateness_seconds_count") > 0


def test_a_client_that_leaves_frees_its_memory() -> None:
    with served(time_scale=0.2) as server:
        with (
            pytest.raises(httpx.ReadTimeout),
            server.http.stream(
                "POST",
                "/v1/completions",
                json={"prompt": [7] * 500, "max_tokens": 3000, "stream": True},
                timeout=1.0,
            ) as answer,
        ):
            lines = answer.iter_lines()
            next(lines)
            assert sample(server, "vllm:num_requests_running") == 1
            assert sample(server, "vllm:kv_cache_usage_perc") > 0.01
            raise httpx.ReadTimeout("enough")
        server.check_empty()
        with pytest.raises(httpx.ReadTimeout):
            server.http.post("/v1/completions", json={"prompt": [8] * 50, "max_tokens": 3000}, timeout=0.5)
        server.check_empty()
        with socket.create_connection(("127.0.0.1", server.port)) as rude:
            rude.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            body = json.dumps({"prompt": "a", "max_tokens": 3000, "stream": True, "n": 3}).encode()
            head = f"POST /v1/completions HTTP/1.1\r\nhost: a\r\ncontent-length: {len(body)}\r\n"
            rude.sendall(head.encode() + b"content-type: application/json\r\n\r\n" + body)
            assert rude.recv(10)
        server.check_empty()
        assert sample(server, "vllm:request_success_total", finished_reason="abort") == 5


def test_a_request_counts_from_its_first_byte_however_late_it_is_looked_at() -> None:
    looked_at: list[float] = []
    with served() as running:
        config, service = running.server.config, running.endpoint.service
        whole, answer = config.loaded_app, service.answer
        came: list[float] = []

        async def late(scope: Any, receive: Any, send: Any) -> None:
            looked_at.append(time.perf_counter())
            await asyncio.sleep(0.03)
            await whole(scope, receive, send)

        def noting(asked: Asked, request: Any) -> Answer:
            came.append(request.scope[CAME])
            return answer(asked, request)

        config.loaded_app, service.answer = late, noting  # type: ignore[method-assign]
        sent = time.perf_counter()
        for _ in range(2):  # the second one on the same connection
            assert running.post("/v1/completions", prompt="a", max_tokens=1).status_code == 200
    assert sent < came[0] < looked_at[0] < came[1] < looked_at[1]


def test_a_token_does_not_wait_for_the_acknowledgement_of_what_was_written_before_it() -> None:
    """Nagle's algorithm would let it wait up to 40 ms, and asyncio turns it off only where it knows TCP."""
    delays: list[int] = []
    with served() as running:
        protocol = running.server.config.http_protocol_class

        class Noting(protocol):  # type: ignore[misc, valid-type]
            def connection_made(self, transport: Any) -> None:
                own = transport.get_extra_info("socket")
                delays.append(own.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
                super().connection_made(transport)

        running.server.config.http_protocol_class = Noting
        assert running.http.get("/health").status_code == 200
    assert delays == [1]


def test_the_client_is_simulated_only_if_the_scenario_says_how_far_away_it_is() -> None:
    for client, wanted in ((None, 0.0), (0.005, 0.005)):
        performance = {"operators": "roofline", "front_end": {"chunk": 0.001, "client": client}}
        endpoint = Endpoint(scenario(performance=performance), Options())
        front_end = endpoint.cluster.scenario.performance.front_end
        assert front_end is not None
        assert (front_end.client, front_end.chunk) == (wanted, 0.001)
    assert Endpoint(scenario(), Options()).cluster.scenario.performance.front_end is None


def test_the_key_is_wanted_and_bodies_are_bounded() -> None:
    with served(rules=Rules(api_key="secret", max_request_bytes=2000, max_streams=2)) as server:
        assert server.http.get("/health").status_code == 200
        refused = server.http.get("/v1/models")
        assert refused.status_code == 401 and refused.json()["error"]["type"] == "AuthenticationError"
        server.http.headers["authorization"] = "Bearer secret"
        assert server.http.get("/v1/models").status_code == 200
        assert server.post("/v1/completions", prompt="a" * 3000).status_code == 413
        json_ = {"content-type": "application/json"}
        chunked = server.http.post("/v1/completions", content=iter([b"{" + b" " * 1500] * 3), headers=json_)
        assert chunked.status_code == 413
        assert server.post("/v1/completions", prompt="a", n=3).status_code == 429
        assert server.post("/v1/completions", prompt="a", n=2).status_code == 200
        server.check_empty()


def test_adapters_are_served_as_models() -> None:
    made = scenario(engine={"max_model_len": 1024, "num_gpu_blocks": 500, "lora": {"max_loras": 2}})
    with served(made) as server:
        names = [model["id"] for model in server.http.get("/v1/models").json()["data"]]
        assert names == [MODEL, "adapter-0", "adapter-1"]
        prompt = [3] * 64
        for name, cached in ((MODEL, 0), ("adapter-1", 0), ("adapter-1", 48), (MODEL, 48)):
            usage = server.post("/v1/completions", model=name, prompt=prompt, max_tokens=1).json()["usage"]
            assert usage["prompt_tokens_details"]["cached_tokens"] == cached


def test_what_admission_control_rejects_is_told_to_come_back() -> None:
    cluster = {
        "pools": [{"name": "serve", "hardware": "h100-sxm-80gb"}],
        "admission": {"max_outstanding": 1, "max_queued": 0},
    }
    with served(scenario(cluster=cluster), time_scale=0.5) as server:
        held = server.later("/v1/completions", prompt="a", max_tokens=60)
        server.until(lambda: server.live.present == 1, "the first request does not come")
        assert server.post("/v1/completions", prompt="a").status_code == 429
        assert held.result().status_code == 200
        server.check_empty()


def test_replicas_fail_on_demand_and_their_requests_with_them() -> None:
    pools = [{"name": "serve", "hardware": "h100-sxm-80gb", "replicas": 2}]
    with served(scenario(cluster={"pools": pools}), time_scale=0.5, rules=Rules(admin=True)) as server:
        with server.http.stream(
            "POST", "/v1/completions", json={"prompt": "a", "max_tokens": 2000, "stream": True}
        ) as answer:
            lines = answer.iter_lines()
            next(lines)
            told = server.post("/admin/replicas/serve-0/fail", requests="lose", recovery=0.1).json()
            assert [replica["state"] for replica in told] == ["down", "up"]
            rest = [line for line in lines if line]
        assert "has failed" in rest[-2] and rest[-1] == "data: [DONE]"
        server.until(
            lambda: (
                [one["state"] for one in server.http.get("/admin/replicas").json()] == ["down", "up", "up"]
            ),
            "no replica comes back",
        )
        assert server.post("/admin/replicas/serve-1/fail", requests="maybe").status_code == 400
        assert server.post("/admin/replicas/serve-0/fail", requests="lose").status_code == 404
        assert server.post("/admin/replicas/serve-1/throttle", max_running=3).status_code == 200
        assert server.post("/admin/pools/serve/add").json()[-1]["name"] == "serve-3"
        assert server.post("/admin/pools/none/add").status_code == 404
        assert server.post("/admin/replicas/serve-3/drain").status_code == 200
        server.check_empty()


@pytest.mark.parametrize("front_end", [None, {"request": 0.001, "chunk": 0.0002, "client": 0.0}])
def test_prefill_and_decode_apart_are_one_endpoint(front_end: dict[str, float] | None) -> None:
    pools = [
        {"name": "p", "hardware": "h100-sxm-80gb", "role": "prefill"},
        {"name": "d", "hardware": "h100-sxm-80gb", "role": "decode"},
    ]
    performance = {"operators": "roofline", "front_end": front_end}
    with served(scenario(cluster={"pools": pools}, performance=performance)) as server:
        text = server.post("/v1/completions", prompt=[3] * 100, max_tokens=12, stream=True).text
        assert len(events(text)) == 12
        usage = server.post("/v1/completions", prompt=[3] * 100, max_tokens=12).json()["usage"]
        assert usage["completion_tokens"] == 12
        server.check_empty()
