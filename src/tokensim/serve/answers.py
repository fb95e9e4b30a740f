"""One HTTP answer: its choices, each a simulated request, and how their tokens become bytes.

Whatever is due together leaves in one write; each token output of a request is an event of its own, as in
vLLM. The JSON around the text is made once a choice, so that a token costs a look-up and two additions.
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any
from uuid import uuid4

from tokensim.metrics.recorder import FINISHED, REJECTED, TRUNCATED
from tokensim.serve.asking import ApiError, Asked
from tokensim.serve.metrics import Metrics
from tokensim.serve.pacer import Pacer
from tokensim.serve.tokens import Filler

DONE = b"data: [DONE]\n\n"


class Choice:
    """Answer ``number`` to a prompt of ``prompt_tokens``: ``length`` tokens of ``filler``."""

    __slots__ = (
        "answer",
        "arrival_s",
        "cached",
        "filler",
        "finish",
        "first_s",
        "index",
        "last_s",
        "length",
        "number",
        "prompt_tokens",
        "sent",
        "skip",
        "stop",
        "taken",
    )

    def __init__(
        self, answer: Answer, number: int, prompt_tokens: int, length: int, stop: bool, filler: Filler
    ) -> None:
        self.answer = answer
        self.number = number
        self.prompt_tokens = prompt_tokens
        self.length = length
        self.stop = stop
        self.filler = filler
        self.index = -1  # of the simulated request
        self.arrival_s = 0.0
        self.first_s = self.last_s = -1.0
        self.taken = 0  # tokens that have come
        self.sent = 0  # of them, those that have been written
        self.cached = 0  # tokens of its prompt that the prefix cache had
        self.skip = 0  # tokens that the client has already
        self.finish = ""

    def token(self, time_s: float) -> None:
        """See ``Listener``. HOT PATH."""
        if self.skip:
            self.skip -= 1
            return
        answer = self.answer
        if self.taken == 0:
            self.first_s = time_s
            self.cached = answer.metrics.first(self, time_s)
        elif time_s > self.last_s:
            answer.metrics.gap(time_s - self.last_s)
        else:
            answer.metrics.more()
        pending = answer.pending
        if time_s == self.last_s and pending and pending[-1][0] is self:
            pending[-1][1] += 1
        else:
            pending.append([self, 1, time_s])
        self.last_s = time_s
        self.taken += 1
        if self.taken == self.length:
            self.finish = "stop" if self.stop else "length"
            answer.left -= 1
        if answer.waiter is not None and (answer.asked.stream or not answer.left):
            answer.wake()

    def again(self) -> None:
        """See ``Listener``."""
        self.skip = self.taken

    def end(self, status: int, time_s: float) -> None:
        """See ``Listener``."""
        answer = self.answer
        answer.metrics.ended(self, status, time_s)
        if self.finish:
            return
        answer.left -= 1
        if status in (FINISHED, TRUNCATED):
            self.finish = "length"
            answer.pending.append([self, 0, time_s])
        elif answer.error is None:
            answer.error = _error_of(status, answer.admission)
        answer.wake()

    def break_off(self, error: ApiError) -> None:
        """See ``Listener``."""
        answer = self.answer
        if answer.error is None:
            answer.error = error
        answer.wake()


def _error_of(status: int, admission: bool) -> ApiError:
    if status == REJECTED and admission:
        return ApiError(429, "The request was rejected by the admission control of the cluster.")
    if status == REJECTED:
        return ApiError(400, "The prompt is too long for the instance that it was sent to.")
    return ApiError(503, "The request was lost: the replica that served it has failed.")


class Answer:
    """The answer to one HTTP request."""

    def __init__(
        self,
        asked: Asked,
        words: tuple[str, ...],
        seeds: list[int],
        pacer: Pacer,
        metrics: Metrics,
        *,
        admission: bool,
    ) -> None:
        self.asked = asked
        self.metrics = metrics
        self.admission = admission
        self.pacer = pacer
        self.id = ("chatcmpl-" if asked.chat else "cmpl-") + uuid4().hex
        self.created = int(time.time())
        self.choices = [
            Choice(
                self,
                number,
                len(asked.prompts[number // asked.n]),
                asked.lengths[number],
                asked.stops[number],
                Filler(words, seeds[number]),
            )
            for number in range(len(asked.lengths))
        ]
        self.left = len(self.choices)
        self.pending: list[list[Any]] = []
        self.waiter: asyncio.Future[None] | None = None
        self.error: ApiError | None = None
        self.gone = False
        self._before = [self._head(choice.number) for choice in self.choices]
        self._after = self._tail("null", None)

    # Waiting.

    def wake(self) -> None:
        """Whoever waits may go on."""
        waiter = self.waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    async def wait(self) -> None:
        """Until there is something to write, or nothing will come any more."""
        stream = self.asked.stream
        while not (self.gone or self.error or not self.left or (stream and self.pending)):
            self.waiter = asyncio.get_running_loop().create_future()
            await self.waiter
            self.waiter = None

    def accepted(self) -> bool:
        """Whether the headers of a stream may leave before its first token, as vLLM's do: nobody will refuse
        it any more. Admission control may, as long as it waits."""
        if self.asked.stream and not self.admission:
            self.pacer.tick()
            return self.error is None
        return False

    def leave(self) -> None:
        """The client has gone, or has everything."""
        for choice in self.choices:
            if not choice.finish and choice.index >= 0:
                self.metrics.left()
                self.pacer.leave(choice.index)

    def wrote(self, time_s: float) -> None:
        """Tokens that were due at ``time_s`` and later have been written."""
        self.pacer.lateness.add(max(0.0, -self.pacer.clock.until(time_s)))

    # As bytes.

    def events(self) -> bytes:
        """What is pending, as server-sent events; afterwards nothing is."""
        pending, self.pending = self.pending, []
        parts: list[str] = []
        chat, continuous = self.asked.chat, self.asked.continuous_usage
        for choice, count, _ in pending:
            sent = choice.sent
            if chat and sent == 0:
                parts.append(self._role(choice))
            text = choice.filler[sent] if count == 1 else "".join(choice.filler.some(sent, count))
            choice.sent = sent = sent + count
            if sent < choice.taken or not choice.finish:
                after = self._after if not continuous else self._tail("null", self._usage_of(choice, sent))
            else:
                usage = self._usage_of(choice, sent) if continuous else None
                after = self._tail(f'"{choice.finish}"', usage)
            parts.append(self._before[choice.number] + text + after)
        return "".join(parts).encode()

    def last_events(self) -> bytes:
        """The end of the stream."""
        if self.error is not None:
            return b"data: " + json.dumps(self.error.body).encode() + b"\n\n" + DONE
        if not self.asked.include_usage:
            return DONE
        chunk = {**self._frame(True), "choices": [], "usage": self.usage()}
        return b"data: " + json.dumps(chunk).encode() + b"\n\n" + DONE

    def body(self) -> bytes:
        """The whole answer."""
        choices: list[dict[str, Any]] = []
        for choice in self.choices:
            text = "".join(choice.filler.some(0, choice.taken))
            one: dict[str, Any] = {"index": choice.number}
            if self.asked.chat:
                one["message"] = {"role": "assistant", "content": text, "refusal": None}
            else:
                one["text"] = text
            choices.append({**one, "logprobs": None, "finish_reason": choice.finish, "stop_reason": None})
        return json.dumps({**self._frame(False), "choices": choices, "usage": self.usage()}).encode()

    def usage(self) -> dict[str, Any]:
        """Tokens of all prompts and answers."""
        prompts = sum(map(len, self.asked.prompts))
        answers = sum(choice.taken for choice in self.choices)
        cached = sum(choice.cached for choice in self.choices[:: self.asked.n])  # a prompt counts once
        return _usage(prompts, answers, cached)

    def _usage_of(self, choice: Choice, sent: int) -> dict[str, Any]:
        return _usage(choice.prompt_tokens, sent, choice.cached)

    def _frame(self, chunk: bool) -> dict[str, Any]:
        kind = "text_completion"
        if self.asked.chat:
            kind = "chat.completion.chunk" if chunk else "chat.completion"
        return {"id": self.id, "object": kind, "created": self.created, "model": self.asked.model}

    def _head(self, number: int) -> str:
        frame = json.dumps(self._frame(True))[:-1]
        inner = '"delta": {"content": "' if self.asked.chat else '"text": "'
        return f'data: {frame}, "choices": [{{"index": {number}, {inner}'

    def _tail(self, finish: str, usage: dict[str, Any] | None) -> str:
        text = '"}' if self.asked.chat else '"'
        more = "" if usage is None else f', "usage": {json.dumps(usage)}'
        return f'{text}, "logprobs": null, "finish_reason": {finish}, "stop_reason": null}}]{more}}}\n\n'

    def _role(self, choice: Choice) -> str:
        delta = {"role": "assistant", "content": ""}
        one = {"index": choice.number, "delta": delta, "logprobs": None, "finish_reason": None}
        chunk: dict[str, Any] = {**self._frame(True), "choices": [one]}
        if self.asked.continuous_usage:
            chunk["usage"] = self._usage_of(choice, 0)
        return f"data: {json.dumps(chunk)}\n\n"


def _usage(prompt: int, answer: int, cached: int) -> dict[str, Any]:
    return {
        "prompt_tokens": prompt,
        "total_tokens": prompt + answer,
        "completion_tokens": answer,
        "prompt_tokens_details": {"cached_tokens": cached},
    }
