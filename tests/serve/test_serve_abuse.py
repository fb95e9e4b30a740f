"""Whatever is sent, the answer is never a 5xx of our making, and nothing simulated is left behind.

``benchmarks/abuse.py`` sends ten thousand, and watches the memory.
"""

from __future__ import annotations

import random
import socket
from collections import Counter
from typing import Any

import httpx
import schemathesis
from fuzz import json_body, raw_bytes
from hypothesis import HealthCheck, given, settings
from served import Served, scenario, served

SMALL = {"max_model_len": 512, "num_gpu_blocks": 200}


def send_bodies(server: Served, count: int, seed: int) -> Counter[int]:
    rng = random.Random(seed)
    seen: Counter[int] = Counter()
    for _ in range(count):
        path = rng.choice(["/v1/completions", "/v1/chat/completions"])
        data = json_body(rng)
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
                connection.sendall(raw_bytes(rng))
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
