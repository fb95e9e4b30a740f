"""A server for the tests, on raw sockets in a thread of its own: it behaves, or not, as a test wants it.

The good one answers like vLLM: token ids in, forced lengths, usage with every chunk, and a page of metrics.
It gives token k of an answer ``first_s + k * every_s`` after the last byte of the request came.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

METRICS = """# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{{engine="0",model_name="tiny"}} {running}.0
vllm:num_requests_waiting{{engine="0",model_name="tiny"}} 0.0
vllm:kv_cache_usage_perc{{engine="0",model_name="tiny"}} 0.25
vllm:num_preemptions_total{{engine="0",model_name="tiny"}} 3.0
vllm:cache_config_info{{block_size="16",enable_prefix_caching="True",num_gpu_blocks="2588"}} 1.0
"""


@dataclass
class Behaviour:
    """How the server answers. ``stream`` takes over what follows a request."""

    first_s: float = 0.02
    every_s: float = 0.005
    per_chunk: int = 1
    usage: str = "each"  # each | end | none | lie
    takes_ids: bool = True
    forces: bool = True
    refuses: tuple[str, ...] = ()  # fields that it does not know
    words_per_token: float = 1.0
    key: str | None = None
    chat_only: bool = False
    owner: str = "vllm"
    models: tuple[dict[str, Any], ...] = ({"id": "tiny"},)
    metrics: bool = True
    stream: Callable[[FakeServer, dict[str, Any], asyncio.StreamWriter], Awaitable[None]] | None = None
    spared: int = 2  # requests answered well before ``stream`` takes over: the recorder's first questions


@dataclass
class FakeServer:
    """A running server: ``url``, and every request that came (``bodies``)."""

    behaviour: Behaviour
    url: str = ""
    bodies: list[dict[str, Any]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    connections: int = 0
    running: int = 0
    most_running: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self.connections += 1
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while await self._one(reader, writer):
                pass
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        path = head.split()[1]
        headers = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
        content = await reader.readexactly(int(headers.get("content-length", "0")))
        self.paths.append(path)
        own = self.behaviour
        if own.key is not None and headers.get("authorization") != f"bearer {own.key}".lower():
            return await page(writer, 401, {"error": {"message": "Unauthorized"}})
        if path == "/v1/models":
            same = {"owned_by": own.owner, "max_model_len": 4096}
            return await page(writer, 200, {"object": "list", "data": [{**same, **m} for m in own.models]})
        if path == "/version":
            return await page(writer, 200, {"version": "0.33.0"})
        if path == "/metrics" and own.metrics:
            return await page(writer, 200, METRICS.format(running=self.running))
        if path not in ("/v1/completions", "/v1/chat/completions") or (own.chat_only and "chat" not in path):
            return await page(writer, 404, {"detail": "Not Found"})
        body = json.loads(content)
        self.bodies.append(body)
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            if own.stream is not None and len(self.bodies) > own.spared:
                await own.stream(self, body, writer)
                return False
            return await self.answer(body, writer)
        finally:
            self.running -= 1

    async def answer(self, body: dict[str, Any], writer: asyncio.StreamWriter) -> bool:
        """A good answer."""
        own, loop = self.behaviour, asyncio.get_running_loop()
        began = loop.time()
        for name in own.refuses:
            if name in body or name in body.get("stream_options", {}):
                return await page(writer, 400, {"error": {"message": f"unknown field {name}"}})
        prompt = body.get("prompt", "")
        if isinstance(prompt, list):
            if not own.takes_ids:
                return await page(writer, 400, {"message": "prompt must be a string"})
            inputs = len(prompt)
        else:
            said = prompt or " ".join(turn["content"] for turn in body["messages"])
            inputs = round(len(said.split()) / own.words_per_token) + (8 if "messages" in body else 1)
        asked = body["max_tokens"]
        outputs = asked if own.forces and (body.get("ignore_eos") or not own.forces) else max(asked // 2, 1)
        each = own.usage == "each" and body.get("stream_options", {}).get("continuous_usage_stats", False)
        await start(writer)
        for number in range(0, outputs, own.per_chunk):
            done = min(number + own.per_chunk, outputs)
            await asyncio.sleep(max(began + own.first_s + number * own.every_s - loop.time(), 0))
            chunk: dict[str, Any] = {"choices": [choice(body, " word" * (done - number), None)]}
            if body.get("return_token_ids"):
                chunk["choices"][0]["token_ids"] = list(range(2000 + number, 2000 + done))
            if each:
                chunk["usage"] = usage(inputs, done)
            await event(writer, chunk)
        last: dict[str, Any] = {"choices": [choice(body, "", "length")]}
        await event(writer, last)
        if own.usage in ("each", "end") and "stream_options" in body:
            await event(writer, {"choices": [], "usage": usage(inputs, outputs)})
        if own.usage == "lie":
            await event(writer, {"choices": [], "usage": usage(10**9, -5)})
        await finish(writer)
        return True


def choice(body: dict[str, Any], text: str, reason: str | None) -> dict[str, Any]:
    """One entry of ``choices``, as the endpoint has it."""
    if "messages" in body:
        return {"index": 0, "delta": {"content": text} if text else {}, "finish_reason": reason}
    return {"index": 0, "text": text, "finish_reason": reason}


def usage(inputs: int, outputs: int) -> dict[str, int]:
    return {"prompt_tokens": inputs, "completion_tokens": outputs, "total_tokens": inputs + outputs}


async def page(writer: asyncio.StreamWriter, status: int, content: object, extra: str = "") -> bool:
    """A whole response; the connection stays open."""
    data = content.encode() if isinstance(content, str) else json.dumps(content).encode()
    writer.write(f"HTTP/1.1 {status} x\r\nContent-Length: {len(data)}\r\n{extra}\r\n".encode() + data)
    await writer.drain()
    return True


async def start(writer: asyncio.StreamWriter, kind: str = "text/event-stream") -> None:
    """The head of a stream."""
    writer.write(f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
    await writer.drain()


async def event(writer: asyncio.StreamWriter, tree: object) -> None:
    await raw(writer, b"data: " + json.dumps(tree).encode() + b"\n\n")


async def raw(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
    await writer.drain()


async def finish(writer: asyncio.StreamWriter) -> None:
    await raw(writer, b"data: [DONE]\n\n")
    writer.write(b"0\r\n\r\n")
    await writer.drain()


@contextmanager
def running(behaviour: Behaviour | None = None) -> Iterator[FakeServer]:
    """A server for the length of the block."""
    server = FakeServer(behaviour or Behaviour())
    loop = asyncio.new_event_loop()
    ready = threading.Event()
    tasks: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            with suppress(asyncio.CancelledError, ConnectionError):
                await server.serve(reader, writer)
        finally:
            writer.transport.abort()
            tasks.discard(task)

    def run() -> None:
        asyncio.set_event_loop(loop)
        listening = loop.run_until_complete(asyncio.start_server(handle, "127.0.0.1", 0, backlog=4096))
        server.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        ready.set()
        loop.run_forever()
        listening.close()
        open_ones = [*tasks]
        for task in open_ones:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*open_ones, return_exceptions=True))
        loop.run_until_complete(asyncio.sleep(0.01))  # lets the transports close their sockets
        loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    ready.wait()
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
