"""The routes: OpenAI's API as vLLM serves it, health, version, metrics; faults on demand, if asked for."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, Request, Response

from tokensim.assemble.live import LiveCluster
from tokensim.engine.arriving import Arrival
from tokensim.serve.admin import add_admin
from tokensim.serve.answers import Answer
from tokensim.serve.asking import ApiError, Asked, Desk
from tokensim.serve.errors import add_error_handlers
from tokensim.serve.gate import CAME, Gate
from tokensim.serve.metrics import Metrics
from tokensim.serve.pacer import Pacer
from tokensim.serve.prefixes import PromptIndex
from tokensim.serve.schemas import ChatRequest, CompletionRequest, ErrorBody
from tokensim.serve.tokens import Filler

ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": ErrorBody, "description": "The request was refused."},
    401: {"model": ErrorBody, "description": "No, or a wrong, API key."},
    404: {"model": ErrorBody, "description": "No such model."},
    413: {"model": ErrorBody, "description": "The body is too large."},
    429: {"model": ErrorBody, "description": "Too many requests, or rejected by admission control."},
    503: {"model": ErrorBody, "description": "The server ends, or the replica was lost, or all are."},
}


ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The answer; with ``stream``, server-sent events.",
        "content": {"application/json": {}, "text/event-stream": {}},
    },
    **ERRORS,
}


@dataclass(frozen=True, slots=True)
class Rules:
    """What the endpoint allows. ``api_key``: of every route under /v1 and /admin (None: anybody);
    ``max_streams``: answers at a time; ``max_request_bytes`` of a body; ``admin``: faults on demand."""

    api_key: str | None = None
    max_streams: int = 4096
    max_request_bytes: int = 32 << 20
    admin: bool = False


class Service:
    """What the routes share; ``root`` is the model that is served, whatever clients call it."""

    def __init__(
        self,
        cluster: LiveCluster,
        desk: Desk,
        pacer: Pacer,
        metrics: Metrics,
        index: PromptIndex | None,
        rules: Rules,
        root: str,
    ) -> None:
        self.cluster = cluster
        self.desk = desk
        self.pacer = pacer
        self.metrics = metrics
        self.rules = rules
        self.root = root
        self.draining = False
        self.started = int(time.time())
        self.index = index
        self._answers = 0
        metrics.lateness = pacer.lateness

    def answer(self, asked: Asked, request: Request) -> Answer:
        """Send what was ``asked`` into the cluster, as of the moment at which ``request`` came: what reading
        it takes here is not the simulated server's. Raises ``ApiError`` where it cannot take any more."""
        if self.pacer.error is not None:
            raise ApiError(503, f"The simulation has ended: {self.pacer.error}")
        if self.draining:
            raise ApiError(503, "The server is shutting down.")
        if self.pacer.streams + len(asked.lengths) > self.rules.max_streams:
            raise ApiError(429, f"More than {self.rules.max_streams} answers at a time are not served here.")
        headers = request.headers
        tenant, session = _number(headers.get("x-tenant"), 0), _number(headers.get("x-session-id"), -1)
        tokens = self.desk.tokens
        seeds = [(self._answers + number) * 2654435761 % 2**32 for number in range(len(asked.lengths))]
        self._answers += len(seeds)
        answer = Answer(
            asked,
            tokens.words,
            seeds,
            self.pacer,
            self.metrics,
            admission=self.cluster.simulation.gateway is not None,
        )
        now = max(self.pacer.clock.at(request.scope[CAME]), self.pacer.earliest_s)
        for choice in answer.choices:
            prompt = asked.prompts[choice.number // asked.n]
            segments: tuple[tuple[int, int], ...] = ()
            output = -1
            if self.index is not None:
                said = Filler(tokens.word_ids, seeds[choice.number]).some(0, choice.length)
                segments, output = self.index.enter(prompt, said, asked.salt)
            arrival = Arrival(
                len(prompt),
                choice.length,
                segments,
                output,
                asked.priority,
                asked.adapter,
                tenant,
                session,
                f"{answer.id}-{choice.number}",
            )
            choice.arrival_s = now
            choice.index = self.pacer.send(arrival, choice, now)
        return answer

    def end_answers(self) -> None:
        """Those who still wait for tokens are told that none will come."""
        error = self.pacer.error
        told = "The server has shut down." if error is None else f"The simulation has ended: {error}"
        for listener in self.pacer.listeners():
            listener.break_off(ApiError(503, told))


def _number(text: str | None, plain: int) -> int:
    """A whole number ≥ 0 from a header; any other text by its checksum."""
    from zlib import crc32

    if text is None or not text:
        return plain
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else crc32(text.encode())


class AnswerResponse(Response):
    """Writes an ``Answer`` as its tokens come; a client that goes away frees what it had."""

    def __init__(self, answer: Answer) -> None:
        super().__init__()
        self._answer = answer

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """See ASGI."""
        answer = self._answer
        watch = asyncio.ensure_future(_watch(answer, receive))
        try:
            with contextlib.suppress(OSError):  # it has gone while something was written
                begun = answer.accepted()
                if begun:
                    await _begin_stream(send)
                await answer.wait()
                if answer.gone:
                    return
                partly = begun or (answer.asked.stream and answer.pending)  # what has come is sent first
                if answer.error is not None and not partly:
                    await _send_json(send, answer.error.status, json.dumps(answer.error.body).encode())
                elif answer.asked.stream:
                    if not begun:
                        await _begin_stream(send)
                    await _stream(answer, send)
                else:
                    pending = answer.pending
                    await _send_json(send, 200, answer.body())
                    answer.wrote(pending[-1][2])
        finally:
            watch.cancel()
            answer.leave()


async def _watch(answer: Answer, receive: Callable[[], Awaitable[Any]]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    answer.gone = True
    answer.wake()


async def _send_json(send: Any, status: int, body: bytes) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _begin_stream(send: Any) -> None:
    headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})


async def _stream(answer: Answer, send: Any) -> None:
    while not answer.gone:
        due_s = answer.pending[0][2] if answer.pending else -1.0
        body = answer.events()
        over = not answer.left or answer.error is not None
        if over:
            body += answer.last_events()
        await send({"type": "http.response.body", "body": body, "more_body": not over})
        if due_s >= 0.0:
            answer.wrote(due_s)
        if over:
            return
        await answer.wait()


def make_app(service: Service, lifespan: Any = None) -> FastAPI:
    """The ASGI application."""
    app = FastAPI(
        title="TokenSim",
        description="A simulated LLM serving cluster behind OpenAI's API.",
        version="1",
        lifespan=lifespan,
    )
    app.add_middleware(Gate, api_key=service.rules.api_key, max_bytes=service.rules.max_request_bytes)
    add_error_handlers(app)
    desk = service.desk

    @app.post("/v1/completions", responses=ANSWERS, response_class=Response)
    async def completions(body: CompletionRequest, request: Request) -> Response:
        """Completions; ``stream`` for server-sent events."""
        return AnswerResponse(service.answer(desk.completion(body), request))

    @app.post("/v1/chat/completions", responses=ANSWERS, response_class=Response)
    async def chat(body: ChatRequest, request: Request) -> Response:
        """Chat completions; ``stream`` for server-sent events."""
        return AnswerResponse(service.answer(desk.chat(body), request))

    @app.get("/v1/models", responses={401: ERRORS[401]})
    async def models() -> dict[str, Any]:
        """The model, and the adapters that are served as models."""
        base = next(iter(desk.models))
        return {
            "object": "list",
            "data": [
                {
                    "id": name,
                    "object": "model",
                    "created": service.started,
                    "owned_by": "tokensim",
                    "root": service.root if adapter < 0 else name,
                    "parent": None if adapter < 0 else base,
                    "max_model_len": desk.max_model_len,
                }
                for name, adapter in desk.models.items()
            ],
        }

    @app.get("/health", response_class=Response, responses={503: ERRORS[503]})
    async def health() -> Response:
        """200 while requests are taken, or will be."""
        service.pacer.tick()
        if service.draining or service.pacer.error is not None:
            raise ApiError(503, "not taking requests")
        if service.cluster.simulation.deserted:
            raise ApiError(503, "all replicas are down, and no other is to come")
        return Response()

    @app.get("/version")
    async def version() -> dict[str, str]:
        """The version of the simulated engine, as vLLM tells its own."""
        return {"version": str(service.cluster.plans[0].engine.version)}

    @app.get("/metrics", response_class=Response)
    async def metrics() -> Response:
        """Prometheus' text format, with vLLM's names."""
        service.pacer.tick()
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    if service.rules.admin:
        add_admin(app, service.pacer)
    return app
