"""Requests that are nearly right, or not at all, as JSON and as bytes (also for ``benchmarks/abuse.py``)."""

from __future__ import annotations

import json
import random
from typing import Any

WORDS = ["prompt", "messages", "max_tokens", "n", "stream", "model", "stop", "role", "content", "min_tokens"]
MORE = (
    *("temperature", "top_p", "top_k", "seed", "logprobs", "echo", "user", "priority", "stream_options"),
    *("response_format", "tools", "tool_choice", "ignore_eos", "cache_salt", "logit_bias", "best_of"),
)


def any_json(rng: random.Random, depth: int = 0) -> Any:
    """Any JSON, with a taste for what breaks parsers."""
    plain: list[Any] = [
        *(None, True, False, 0, -1, 1, 2**31, 2**63, -(2**64), 10**400, 1e308, -0.0, 0.5),
        *("", "a", "\x00", "\ud800", "é" * 50, "a " * 700, "[DONE]", "NaN", [], {}),
    ]
    if depth < 3 and rng.random() < 0.4:
        if rng.random() < 0.5:
            return [any_json(rng, depth + 1) for _ in range(rng.randrange(4))]
        return {rng.choice([*WORDS, "x"]): any_json(rng, depth + 1) for _ in range(rng.randrange(4))}
    return rng.choice(plain)


def json_body(rng: random.Random) -> bytes:
    """A request that is nearly right, or not at all."""
    good: dict[str, Any] = {"prompt": "a b c", "max_tokens": 4, "stream": rng.random() < 0.5}
    if rng.random() < 0.5:
        good["messages"] = [{"role": "user", "content": "hello"}]
    for _ in range(rng.choice([0, 1, 1, 2, 5])):
        good[rng.choice([*WORDS, *MORE])] = any_json(rng)
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


def raw_bytes(rng: random.Random) -> bytes:
    """Bytes that are HTTP at best."""
    data = json_body(rng)
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
