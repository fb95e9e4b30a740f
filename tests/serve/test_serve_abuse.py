"""Whatever is sent, the answer is never a 5xx of our making, and nothing simulated is left behind.

``python tests/serve/test_serve_abuse.py 10000`` sends that many of each kind.
"""

from __future__ import annotations

import json
import random
import socket
import sys
from collections import Counter
from typing import Any

import httpx
import schemathesis
from hypothesis import HealthCheck, given, settings
from served import Served, scenario, served

SMALL = {"max_model_len": 512, "num_gpu_blocks": 200}
WORDS = ["prompt", "messages", "max_tokens", "n", "stream", "model", "stop", "role", "content", "min_tokens"]


def value(rng: random.Random, depth: int = 0) -> Any:
    """Any JSON, with a taste for what breaks parsers."""
    plain: list[Any] = [
        *(None, True, False, 0, -1, 1, 2**31, 2**63, -(2**64), 10**400, 1e308, -0.0, 0.5),
        *("", "a", "\x00", "\ud800", "é" * 50, "a " * 700, "[DONE]", "NaN", [], {}),
    ]
    if depth < 3 and rng.random() < 0.4:
        if rng.random() < 0.5:
            return [value(rng, depth + 1) for _ in range(rng.randrange(4))]
        return {rng.choice([*WORDS, "x"]): value(rng, depth + 1) for _ in range(rng.randrange(4))}
    return rng.choice(plain)


def body(rng: random.Random) -> bytes:
    """A request that is nearly right, or not at all."""
    good: dict[str, Any] = {"prompt": "a b c", "max_tokens": 4, "stream": rng.random() < 0.5}
    if rng.random() < 0.5:
        good["messages"] = [{"role": "user", "content": "hello"}]
    for _ in range(rng.choice([0, 1, 1, 2, 5])):
        good[rng.choice([*WORDS, *MORE])] = value(rng)
    text = json.dumps(good)
    data = text.encode()
    roll = rng.random()
    if roll < 0.1:
        cut = rng.randrange(len(data))
        return data[:cut]
    if roll < 0.2:
        at = rng.randrange(len(data))
        return data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]
    if roll < 0.22:
        return b"[" * 20_000
    if roll < 0.24:
        return b'{"prompt": "a", "temperature": NaN, "top_p": -Infinity}'
    return data


MORE = (
    *("temperature", "top_p", "top_k", "seed", "logprobs", "echo", "user", "priority", "stream_options"),
    *("response_format", "tools", "tool_choice", "ignore_eos", "cache_salt", "logit_bias", "best_of"),
)


def raw(rng: random.Random) -> bytes:
    """Bytes that are HTTP at best."""
    data = body(rng)
    heads = [
        b"POST /v1/completions HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n"
        b"content-length: %d\r\n\r\n" % len(data),
        b"POST /v1/completions HTTP/1.1\r\nhost: a\r\ncontent-length: 99999\r\n\r\n",
        b"POST /v1/completions HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nfffff\r\n",
        b"POST /v1/chat/completions HTTP/1.0\r\ncontent-length: -5\r\n\r\n",
        b"GET /" + bytes(rng.randrange(256) for _ in range(30)) + b" HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        bytes(rng.randrange(256) for _ in range(200)),
    ]
    return rng.choice(heads) + data


def send_bodies(server: Served, count: int, seed: int) -> Counter[int]:
    rng = random.Random(seed)
    seen: Counter[int] = Counter()
    for _ in range(count):
        path = rng.choice(["/v1/completions", "/v1/chat/completions"])
        data = body(rng)
        kind = rng.choice(["application/json"] * 9 + ["text/plain"])
        try:
            answer = server.http.post(path, content=data, headers={"content-type": kind})
        except httpx.HTTPError as error:
            raise AssertionError(f"{error!r} after {data[:300]!r}") from error
        seen[answer.status_code] += 1
        assert answer.status_code < 500, (answer.text, data[:300])
        if answer.status_code != 200:
            assert answer.json()["error"]["code"] == answer.status_code
    return seen


def send_raw(server: Served, count: int, seed: int) -> Counter[str]:
    rng = random.Random(seed)
    seen: Counter[str] = Counter()
    for _ in range(count):
        with socket.create_connection(("127.0.0.1", server.port), timeout=0.05) as connection:
            try:
                connection.sendall(raw(rng))
                answer = connection.recv(100)
            except (TimeoutError, ConnectionError):
                answer = b""
            seen[answer[9:12].decode(errors="replace")] += 1
            assert not answer.startswith(b"HTTP/1.1 5"), answer
    return seen


def test_fuzzed_bodies_are_answered_or_refused() -> None:
    with served(scenario(engine=SMALL), time_scale=100.0) as server:
        seen = send_bodies(server, 250, 1)
        assert seen[200] > 20 and seen[400] > 50, seen
        server.check_empty()


def test_raw_bytes_are_answered_refused_or_cut_off() -> None:
    with served(scenario(engine=SMALL), time_scale=100.0) as server:
        send_raw(server, 60, 2)
        server.check_empty()
        assert server.post("/v1/completions", prompt="a").status_code == 200


def by_description(server: Served, examples: int) -> None:
    """schemathesis: requests drawn from the OpenAPI description, right ones and wrong ones."""
    schema = schemathesis.openapi.from_url(server.url + "/openapi.json")
    for result in schema.get_all_operations():
        operation = result.ok()

        @settings(
            max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck)
        )
        @given(case=operation.as_strategy())
        def one(case: Any) -> None:
            answer = case.call(base_url=server.url)
            assert answer.status_code < 500, (answer.status_code, answer.text[:300])
            if answer.status_code >= 400:
                assert answer.json()["error"]["code"] == answer.status_code

        one()


def test_requests_drawn_from_the_description_are_answered_or_refused() -> None:
    with served(scenario(engine=SMALL), time_scale=100.0) as server:
        by_description(server, 20)
        server.check_empty()


if __name__ == "__main__":
    asked = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    with served(scenario(engine=SMALL), time_scale=1000.0) as running:
        print("bodies", send_bodies(running, asked, 3))
        print("raw", send_raw(running, asked // 5, 4))
        by_description(running, asked // 10)
        running.check_empty()
        print(f"nothing left behind after {running.endpoint.pacer.clock.now():.0f} simulated seconds")
