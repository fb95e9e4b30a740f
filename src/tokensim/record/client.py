"""One request: sent, its stream read to the end, and what became of it.

Times are those at which the bytes were there to be read (``clock.Stamps``). Whatever a server does ends here
as an outcome: it may refuse, hang, close early, flood, or send what is no answer.
"""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from tokensim.record.answer import Answer, error_text, shortened
from tokensim.record.http import Passing, some
from tokensim.record.sse import BadAnswer, EventParser

if TYPE_CHECKING:
    import aiohttp

Status = Literal["ok", "wrong-length", "refused", "timeout", "closed", "bad-answer", "unreachable", "stopped"]
"""``ok``; answered in another length than asked for; refused with an HTTP status; no end within the time
limit; the connection was closed before the end; what came is no answer; no connection; given up as the
recording was stopped."""

USABLE: frozenset[Status] = frozenset({"ok", "wrong-length"})
"""What a case may hold: there are times, and the length that was served is known."""

MOST_STALE = 8
"""A server may close an idle connection in the very moment in which it is used again; nothing was served
then, and the request goes out on another one, so many times at most."""

MOST_ERROR_BYTES = 16 << 10
MOST_ANSWER_BYTES = 256 << 20
"""An answer may have so many bytes in all: 100,000 tokens with log-probabilities."""


@dataclass(slots=True)
class Outcome:
    """What became of one request; seconds of the recording's clock.

    ``released_s`` is when it should have left (its time, or when what it waited for ended), ``sent_s`` when
    its bytes did (a new connection was open by then); ``connected_s`` how long a new connection took (0: an
    open one was used). ``times_s`` and ``counts``: each chunk with tokens; ``counts_known``: the numbers are
    the server's. Tokens are −1 where the server does not say.
    """

    index: int
    released_s: float
    sent_s: float = 0.0
    connected_s: float = 0.0
    ended_s: float = 0.0
    status: Status = "stopped"
    message: str = ""
    http_status: int = 0
    attempts: int = 1
    input_tokens: int = -1
    output_tokens: int = 0
    cached_tokens: int = -1
    times_s: array[float] = field(default_factory=lambda: array("d"))
    counts: array[int] = field(default_factory=lambda: array("i"))
    counts_known: bool = False
    text: str = ""
    token_ids: tuple[int, ...] = ()

    @property
    def usable(self) -> bool:
        """Whether a case may hold it."""
        return self.status in USABLE


async def ask(
    session: aiohttp.ClientSession,
    path: str,
    body: bytes,
    outcome: Outcome,
    output_tokens: int,
    *,
    clock: Callable[[], float],
    came: Callable[[], float],
    timeout_s: float,
    keep: bool = False,
) -> None:
    """Send ``body`` and fill in ``outcome``; raises nothing but cancellation.

    ``clock`` is now, ``came`` when what is read now came. ``output_tokens`` were asked for; ``keep``: text
    and token ids of the answer are wanted.
    """
    for _ in range(MOST_STALE):
        answer = Answer(4 * output_tokens + 256, keep=keep)
        noted = Passing(clock)
        outcome.sent_s = clock()
        try:
            await _once(session, path, body, outcome, answer, noted, came=came, timeout_s=timeout_s)
        finally:
            outcome.ended_s = clock()
            outcome.connected_s = noted.took_s
            if noted.sent_s is not None:
                outcome.sent_s = noted.sent_s
            _settle(outcome, answer, output_tokens)
        if not (outcome.status == "closed" and noted.reused and not outcome.http_status):
            break


async def _once(
    session: aiohttp.ClientSession,
    path: str,
    body: bytes,
    outcome: Outcome,
    answer: Answer,
    noted: Passing,
    *,
    came: Callable[[], float],
    timeout_s: float,
) -> None:
    """Send ``body`` and read what comes into ``answer``; status and message of ``outcome`` say how it
    ended."""
    import aiohttp

    outcome.status, outcome.message = "stopped", ""
    try:
        async with (
            asyncio.timeout(timeout_s),
            session.post(
                path,
                data=body,
                headers={"Content-Type": "application/json"},
                allow_redirects=False,
                trace_request_ctx=noted,
            ) as response,
        ):
            outcome.http_status = response.status
            if response.status != 200:
                outcome.message = await _refusal(response)
                outcome.status = "refused"
            else:
                await _read(response, answer, came)
                outcome.status = "ok"
    except TimeoutError:
        so_far = f" after {len(answer.times):,} chunks" if answer.times else ""
        outcome.status, outcome.message = "timeout", f"no end within {timeout_s:g} s{so_far}"
    except BadAnswer as error:
        outcome.status, outcome.message = "bad-answer", str(error)
    except aiohttp.ClientConnectorError as error:
        outcome.status, outcome.message = "unreachable", shortened(str(error.strerror or error))
    except (aiohttp.ClientError, OSError, ValueError) as error:
        outcome.status, outcome.message = "closed", shortened(str(error) or type(error).__name__)


async def _read(response: aiohttp.ClientResponse, answer: Answer, came: Callable[[], float]) -> None:
    """Read the stream up to its end; raises ``BadAnswer`` if it has none, or is no stream of events."""
    events, read, size = EventParser(), response.content.readany, 0
    while not answer.done and (data := await read()):
        now = came()
        size += len(data)
        if size > MOST_ANSWER_BYTES:
            raise BadAnswer(f"more than {MOST_ANSWER_BYTES:,} bytes: there is no end of it")
        for event in events.feed(data):
            answer.take(event, now)
    if not answer.done and not answer.finish_reason:
        kind = response.headers.get("Content-Type", "none")
        if not answer.chunks:
            raise BadAnswer(f"no event in the answer (content type {shortened(kind)})")
        raise BadAnswer(f"the stream ended without [DONE] after {len(answer.times):,} chunks with tokens")


async def _refusal(response: aiohttp.ClientResponse) -> str:
    """The status, and what the server says about it."""
    if 300 <= response.status < 400:
        where = shortened(response.headers.get("Location", "nowhere"))
        return f"HTTP {response.status}: it sends on to {where}; give that address if you trust it"
    content = await some(response.content, MOST_ERROR_BYTES)
    try:
        import json

        said = error_text(json.loads(content))
    except (ValueError, RecursionError):
        said = shortened(content)
    return f"HTTP {response.status}: {said or response.reason or 'no reason given'}"


def _settle(outcome: Outcome, answer: Answer, asked: int) -> None:
    """The figures of ``outcome`` from ``answer``, of which ``asked`` tokens were wanted."""
    outcome.counts_known = answer.settle()
    outcome.times_s, outcome.counts = answer.times, answer.counts
    outcome.input_tokens, outcome.cached_tokens = answer.prompt_tokens, answer.cached_tokens
    outcome.output_tokens = answer.completion_tokens
    outcome.text, outcome.token_ids = "".join(answer.text), tuple(answer.token_ids)
    if outcome.status != "ok":
        return
    if not len(outcome.times_s):
        outcome.status, outcome.message = "bad-answer", "the answer has no token"
    elif outcome.output_tokens != asked:
        outcome.status = "wrong-length"
        outcome.message = f"{asked:,} tokens were asked for, {outcome.output_tokens:,} came"
