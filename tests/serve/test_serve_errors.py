"""What clients and operators are told when something goes wrong: in the request, or in the cluster."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from served import Served, scenario, served

from tokensim.serve.app import Rules

JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with served() as running:
        yield running
        running.check_empty()


def refusal(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 400
    error: dict[str, Any] = answer.json()["error"]
    return error


@pytest.mark.parametrize(
    ("body", "headers", "says"),
    [
        (b"", JSON, "the body is empty; expected a JSON object"),
        (b"[1]", JSON, "the body is not a JSON object"),
        (b'{"prompt": "a" "n": 1}', JSON, "the body is not JSON: Expecting ',' delimiter at character 15"),
        (b'{"prompt": "a"}', {}, "the header Content-Type is missing; expected application/json"),
        (
            b'{"prompt": "a"}',
            {"content-type": "text/plain"},
            "the header Content-Type is 'text/plain'; expected application/json",
        ),
    ],
)
def test_what_is_wrong_with_a_body_is_named(
    server: Served, body: bytes, headers: dict[str, str], says: str
) -> None:
    assert refusal(server.http.post("/v1/completions", content=body, headers=headers))["message"] == says


@pytest.mark.parametrize("prompt", [3, None, [], [[]], ["a", 3], [1, -1], [[1], "a"], {"text": "a"}])
def test_what_a_prompt_may_be_is_told_once(server: Served, prompt: Any) -> None:
    error = refusal(server.post("/v1/completions", prompt=prompt, n=0))
    assert error["message"] == (
        "n: Input should be greater than or equal to 1; prompt: expected a text, a list of texts, a list of"
        " token ids (whole numbers from 0), or a list of such lists, none of them empty"
    )


def test_the_scheme_of_the_key_may_be_in_any_case() -> None:
    with served(rules=Rules(api_key="secret")) as server:
        for given, status in (
            ("bearer secret", 200),
            ("BEARER secret", 200),
            ("Bearer Secret", 401),
            ("Basic secret", 401),
            ("secret", 401),
            ("Bearer", 401),
        ):
            answer = server.http.get("/v1/models", headers={"authorization": given})
            assert answer.status_code == status, given


def test_a_lost_answer_is_an_error_however_much_of_it_there_was() -> None:
    with served(time_scale=0.5, rules=Rules(admin=True)) as server:
        asked = [server.later("/v1/completions", prompt="a", max_tokens=2000, n=n) for n in (1, 2)]
        server.until(lambda: server.endpoint.service.metrics._generated > 30, "no tokens come")
        assert [one["running"] for one in server.http.get("/admin/replicas").json()] == [3]
        told = server.post("/admin/replicas/serve-0/fail", requests="lose").json()
        assert [(one["state"], one["running"], one["waiting"]) for one in told] == [("down", 0, 0)]
        for answer in [one.result(20) for one in asked]:
            assert answer.status_code == 503
            assert "replica that served it has failed" in answer.json()["error"]["message"]


def test_answers_end_with_the_simulation_if_that_breaks_down() -> None:
    with served(time_scale=0.1) as server:

        def stop() -> None:  # as the command does
            server.server.should_exit = True

        def broken(until_s: float) -> None:
            raise RuntimeError("a plug-in's mistake")

        server.endpoint.on_failure = stop
        asked = server.later("/v1/completions", prompt="a", max_tokens=500)
        server.until(lambda: server.live.present == 1, "the request does not come")
        server.live.advance = broken
        answer = asked.result(10)
        assert answer.status_code == 503
        assert "a plug-in's mistake" in answer.json()["error"]["message"]
        server.endpoint.pacer.error = None  # that was wanted


def test_a_cluster_without_replicas_is_not_healthy_unless_one_is_to_come() -> None:
    cluster = {"pools": [{"name": "serve", "hardware": "h100-sxm-80gb", "startup": 2.0}]}
    with served(scenario(cluster=cluster), rules=Rules(admin=True), time_scale=2.0) as server:
        assert server.http.get("/health").status_code == 200
        server.post("/admin/replicas/serve-0/fail", recovery=0.5)
        assert server.http.get("/health").status_code == 200, "one recovers"
        server.until(
            lambda: server.http.get("/admin/replicas").json()[-1]["state"] == "up", "no replica comes back"
        )
        server.post("/admin/replicas/serve-1/fail")
        sick = server.http.get("/health")
        assert sick.status_code == 503 and "all replicas are down" in sick.json()["error"]["message"]
        assert server.post("/v1/completions", prompt="a").status_code == 503
        server.post("/admin/pools/serve/add")
        assert server.http.get("/health").status_code == 200, "one starts"
        assert server.post("/v1/completions", prompt="a").status_code == 200
