"""One streamed answer: the time of every chunk that carries tokens, how many these are, and what usage says.

A server may put several tokens into one chunk. How many is known where each chunk has its own usage
(``stream_options.continuous_usage_stats``), llama.cpp's ``timings.predicted_n``, or its token ids; else the
final usage is spread over the chunks, and ``tokens_known`` is False unless every chunk is one token.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Mapping
from typing import Any

from tokensim.record.sse import BadAnswer

DONE = b"[DONE]"
MOST_MESSAGE = 300
"""Characters that are kept of what a server says is wrong."""


class Answer:
    """What has come of one answer; times are seconds of the caller's clock.

    ``times`` and ``counts``: when each chunk with tokens came, and how many (as far as known so far);
    ``prompt_tokens``, ``completion_tokens``, ``cached_tokens``: the last usage, −1 where none was told.
    ``text`` and ``token_ids`` are kept only when asked for (``keep``).
    """

    __slots__ = (
        "_empty",
        "_keep",
        "_most_chunks",
        "_told",
        "_told_each",
        "cached_tokens",
        "chunks",
        "completion_tokens",
        "counts",
        "done",
        "finish_reason",
        "prompt_tokens",
        "text",
        "times",
        "token_ids",
    )

    def __init__(self, most_chunks: int, *, keep: bool = False) -> None:
        self.times, self.counts = array("d"), array("i")
        self.prompt_tokens = self.completion_tokens = self.cached_tokens = -1
        self.text: list[str] = []
        self.token_ids: list[int] = []
        self.done, self.finish_reason, self.chunks = False, "", 0
        self._most_chunks, self._keep = most_chunks, keep
        self._told = 0
        self._told_each = False
        self._empty = array("d")  # when chunks without text came: tokens that are no whole character yet

    def take(self, event: bytes, now: float) -> None:
        """Take in the data of one event that came at ``now``; raises ``BadAnswer``."""
        if event == DONE:
            self.done = True
            return
        self.chunks += 1
        if self.chunks > self._most_chunks:
            raise BadAnswer(f"more than {self._most_chunks:,} chunks: there is no end of it")
        try:
            tree = json.loads(event)
        except (ValueError, RecursionError):
            raise BadAnswer(f"not JSON: {shortened(event)}") from None
        if not isinstance(tree, dict):
            raise BadAnswer(f"not a chunk: {shortened(event)}")
        if tree.get("error"):
            raise BadAnswer(f"an error amid the answer: {error_text(tree)}")
        self._usage(tree.get("usage"))
        choices = tree.get("choices")
        if isinstance(choices, list) and choices and isinstance(choices[0], dict):
            self._choice(choices[0], _so_far(tree), now)

    def _choice(self, choice: Mapping[str, Any], so_far: int, now: float) -> None:
        """A chunk of text; ``so_far``: the tokens of the answer up to it, −1 where it does not say."""
        delta = choice.get("delta")
        text = choice.get("text")
        if isinstance(delta, dict):
            text = delta.get("content") or delta.get("reasoning_content") or delta.get("reasoning")
        ids = choice.get("token_ids")
        ids = ids if isinstance(ids, list) else []
        if isinstance(choice.get("finish_reason"), str):
            self.finish_reason = choice["finish_reason"]
        if self._keep:
            if isinstance(text, str):
                self.text.append(text)
            self.token_ids += [i for i in ids if isinstance(i, int)]
        tokens, told = len(ids), so_far >= 0
        if told:
            self._told_each = True
            tokens = min(so_far - self._told, self._most_chunks)
        if tokens > 0 or (not told and text):
            self.times.append(now)
            self.counts.append(max(tokens, 1))
            self._told += self.counts[-1]
        elif not told and not self.finish_reason and (delta is None or "role" not in delta):
            self._empty.append(now)

    def _usage(self, usage: object) -> None:
        """Counts of tokens, as far as they are counts."""
        if not isinstance(usage, dict):
            return
        details = usage.get("prompt_tokens_details")
        cached = details.get("cached_tokens") if isinstance(details, dict) else None
        self.prompt_tokens = _count(usage.get("prompt_tokens"), self.prompt_tokens)
        self.completion_tokens = _count(usage.get("completion_tokens"), self.completion_tokens)
        self.cached_tokens = _count(cached, self.cached_tokens)

    def settle(self) -> bool:
        """Make ``counts`` agree with the final usage; returns whether they are known rather than spread.

        Where no chunk had text but usage tells of tokens, the chunks without text are the answer. Usage that
        cannot be (none, or more than there may be chunks) counts for nothing: a chunk is a token then.
        """
        total = self.completion_tokens
        if not self.times and self._empty and 0 < total <= self._most_chunks:
            self.times, self.counts = self._empty, array("i", [1]) * len(self._empty)
        chunks, came = len(self.times), sum(self.counts)
        if not 0 < total <= self._most_chunks:
            self.completion_tokens = came
            return False
        if came == total or not chunks:
            return True
        if self._told_each and came < total:  # the last chunk came without its own
            self.counts[-1] += total - came
            return True
        ends = [1 + (total - 1) * k // (chunks - 1) for k in range(chunks)] if chunks > 1 else [total]
        self.counts = array("i", [end - begin for begin, end in zip([0, *ends], ends, strict=False)])
        return False


def _so_far(chunk: Mapping[str, Any]) -> int:
    """Tokens of the answer up to this chunk, if it says so."""
    for key, name in (("usage", "completion_tokens"), ("timings", "predicted_n")):
        if isinstance(told := chunk.get(key), dict):
            return _count(told.get(name), -1)
    return -1


def _count(value: object, before: int) -> int:
    """``value`` if it can be a number of tokens (below 10 million: beyond every context), else ``before``."""
    return value if type(value) is int and 0 <= value < 10_000_000 else before


def error_text(tree: object) -> str:
    """What an error of the OpenAI kind, or anything like it, says."""
    for key in ("error", "message", "detail", "object"):
        if isinstance(tree, dict) and tree.get(key):
            tree = tree[key]
    return shortened(tree if isinstance(tree, str) else json.dumps(tree, ensure_ascii=False))


def shortened(text: str | bytes) -> str:
    """The beginning of ``text``, on one line, without control characters."""
    if isinstance(text, bytes):
        text = text[: 4 * MOST_MESSAGE].decode(errors="replace")
    plain = "".join(c if c.isprintable() else " " for c in text[: 2 * MOST_MESSAGE])
    plain = " ".join(plain.split())
    return plain if len(plain) <= MOST_MESSAGE else plain[: MOST_MESSAGE - 1] + "…"
