"""From the body of a request to prompts in tokens and answers of known length; what cannot be is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle

from tokensim.serve.schemas import (
    COMPLETION_TOKENS,
    UNSIMULATED,
    ChatRequest,
    CompletionRequest,
    Message,
    Sampling,
)
from tokensim.serve.tokens import Tokens

IM_START, IM_END, NEW_LINE = -1, -2, -3
"""Marks of the chat template, which no text contains."""

MESSAGE_TOKENS = 5
"""Around each message, as in ChatML: start, role, new line; end, new line."""

MOST_CHOICES = 4096
"""Prompts times ``n`` of one HTTP request."""


class ApiError(Exception):
    """An answer that is an error, as OpenAI's API puts it."""

    def __init__(self, status: int, message: str, kind: str = "", param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind or {
            400: "BadRequestError",
            401: "AuthenticationError",
            404: "NotFoundError",
            413: "RequestTooLargeError",
            429: "RateLimitError",
            503: "ServiceUnavailableError",
        }.get(status, "InternalServerError" if status >= 500 else "BadRequestError")
        self.param = param

    @property
    def body(self) -> dict[str, object]:
        """The JSON object."""
        return {
            "error": {
                "message": self.message,
                "type": self.kind,
                "param": self.param,
                "code": self.status,
            }
        }


@dataclass(frozen=True, slots=True)
class Asked:
    """``prompts`` in tokens, each to be answered ``n`` times with ``lengths`` tokens, in order of prompts.

    ``stops``: for each answer, whether it ends by itself (``stop``) or for its length.
    """

    chat: bool
    prompts: list[list[int]]
    n: int
    lengths: list[int]
    stops: list[bool]
    model: str
    adapter: int
    priority: int
    salt: bytes
    stream: bool
    include_usage: bool
    continuous_usage: bool


class Desk:
    """Reads bodies. ``models``: names and the adapter that each stands for (−1: none).

    ``answers``: lengths of answers in the scenario's workload, taken in turn where a request does not say how
    long its answer is; with ``early_stops`` also as the end of answers that may end early (without
    ``ignore_eos``).
    """

    def __init__(
        self,
        tokens: Tokens,
        models: dict[str, int],
        max_model_len: int,
        answers: Sequence[int] = (),
        *,
        early_stops: bool = False,
    ) -> None:
        self.tokens = tokens
        self.models = models
        self.max_model_len = max_model_len
        self.early_stops = early_stops
        self._answers: Iterator[int] | None = cycle(answers) if len(answers) else None

    def completion(self, body: CompletionRequest) -> Asked:
        """What ``body`` asks for; raises ``ApiError``."""
        self._refuse(body)
        if body.best_of is not None and body.best_of != (body.n or 1):
            raise ApiError(400, "best_of other than n is not simulated", param="best_of")
        prompt, special = body.prompt, body.add_special_tokens is not False
        prompts: list[list[int]] = []
        if isinstance(prompt, str):
            prompts.append(self.tokens.encode(prompt, special))
        else:
            for one in [prompt] if isinstance(prompt[0], int) else prompt:
                prompts.append(self.tokens.encode(one, special) if isinstance(one, str) else list(one))
        limit = COMPLETION_TOKENS if body.max_tokens is None else body.max_tokens
        return self._asked(body, prompts, limit, False)

    def chat(self, body: ChatRequest) -> Asked:
        """What ``body`` asks for; raises ``ApiError``."""
        self._refuse(body)
        choice = body.tool_choice
        if isinstance(choice, dict) or choice == "required":
            raise ApiError(400, "tool calls are not simulated: answers are text", param="tool_choice")
        if body.modalities is not None and body.modalities != ["text"]:
            raise ApiError(400, "only text is simulated", param="modalities")
        ids: list[int] = []
        if body.tools and choice != "none":
            ids += self._message("system", json.dumps(body.tools))
        for number, message in enumerate(body.messages):
            ids += self._message(message.role, _text_of(message, number))
        if body.continue_final_message:
            if body.add_generation_prompt:
                raise ApiError(
                    400,
                    "Cannot set both `continue_final_message` and `add_generation_prompt` to True.",
                    param="continue_final_message",
                )
            del ids[-2:]
        elif body.add_generation_prompt is not False:
            ids += [IM_START, *self.tokens.encode("assistant", False)[:1], NEW_LINE]
        limit = body.max_tokens if body.max_completion_tokens is None else body.max_completion_tokens
        return self._asked(body, [ids], limit, True)

    def _message(self, role: str, text: str) -> list[int]:
        name = self.tokens.encode(role, False)[:1]
        return [IM_START, *name, NEW_LINE, *self.tokens.encode(text, False), IM_END, NEW_LINE]

    def _refuse(self, body: Sampling) -> None:
        """What is not simulated."""
        for name in UNSIMULATED:
            value = getattr(body, name, None)
            if value is None or value is False or value == [] or value == {} or value == "":
                continue
            if name == "top_logprobs" and value == 0:
                continue
            raise ApiError(400, f"{name} is not simulated: answers are filler text", param=name)
        kind = (body.response_format or {}).get("type", "text")
        if kind != "text":
            raise ApiError(
                400, "only response_format text is simulated: answers are filler", param="response_format"
            )
        if body.stream_options is not None and not body.stream:
            raise ApiError(
                400, "Stream options can only be defined when `stream=True`.", param="stream_options"
            )

    def _asked(self, body: Sampling, prompts: list[list[int]], limit: int | None, chat: bool) -> Asked:
        model = body.model if body.model is not None else next(iter(self.models))
        adapter = self.models.get(model)
        if adapter is None:
            raise ApiError(404, f"The model `{model}` does not exist.", param="model")
        n = body.n or 1
        if len(prompts) * n > MOST_CHOICES:
            raise ApiError(
                400, f"{len(prompts)} prompts, {n} times each, are more than {MOST_CHOICES} answers"
            )
        least = body.min_tokens or 0
        if limit is not None and least > limit:
            raise ApiError(
                400,
                f"min_tokens must be less than or equal to max_tokens={limit}, got {least}.",
                param="min_tokens",
            )
        lengths: list[int] = []
        stops: list[bool] = []
        for ids in prompts:
            room = self.max_model_len - len(ids)
            if not ids:
                raise ApiError(400, "The prompt is empty.", param="messages" if chat else "prompt")
            if room < max(1, limit or 1):
                asked = "" if limit is None else f" and asks for {limit} output tokens"
                raise ApiError(
                    400,
                    f"This model's maximum context length is {self.max_model_len} tokens. However, your"
                    f" request has {len(ids)} input tokens{asked}. Please reduce the length of the input"
                    " messages or of the answer.",
                    param="messages" if chat else "prompt",
                )
            for _ in range(n):
                length, stop = self._length(limit, room, least, bool(body.ignore_eos))
                lengths.append(length)
                stops.append(stop)
        options = body.stream_options
        return Asked(
            chat,
            prompts,
            n,
            lengths,
            stops,
            model,
            adapter,
            body.priority or 0,
            f"{adapter}\0{body.cache_salt or ''}".encode("utf-8", "surrogatepass"),
            bool(body.stream),
            options is not None and (options.include_usage or options.continuous_usage_stats),
            options is not None and options.continuous_usage_stats,
        )

    def _length(self, limit: int | None, room: int, least: int, ignore_eos: bool) -> tuple[int, bool]:
        """How long an answer gets, and whether it ends by itself."""
        longest = room if limit is None else limit
        if ignore_eos or self._answers is None or not (self.early_stops or limit is None):
            return longest, False
        drawn = max(next(self._answers), least, 1)
        return (drawn, True) if drawn <= longest else (longest, False)


def _text_of(message: Message, number: int) -> str:
    """The text of ``message``, the calls of tools that it contains included."""
    content = message.content
    parts: list[str] = []
    if isinstance(content, str):
        parts.append(content)
    for part in content if isinstance(content, list) else ():
        if part.text is None or part.type not in ("text", "input_text", "output_text", "refusal"):
            raise ApiError(
                400,
                f"a part of type '{part.type}' is not simulated: only text",
                param=f"messages[{number}].content",
            )
        parts.append(part.text)
    if message.tool_calls:
        parts.append(json.dumps(message.tool_calls))
    return "".join(parts)
