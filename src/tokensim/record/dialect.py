"""How one server wants to be asked: which endpoint, which fields, prompts as ids or as text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from tokensim.record.prompts import Piece

Endpoint = Literal["completions", "chat"]
PATHS: dict[Endpoint, str] = {"completions": "/v1/completions", "chat": "/v1/chat/completions"}


@dataclass(frozen=True, slots=True)
class Dialect:
    """What a request to this server looks like.

    ``fields`` go into each as they are; ``length_fields`` get the number of output tokens. ``ids``: the
    prompt is a list of token ids. ``returns_ids``: the answer's token ids are asked for where another prompt
    needs them.
    """

    endpoint: Endpoint
    model: str
    ids: bool
    fields: Mapping[str, Any] = field(default_factory=dict)
    length_fields: tuple[str, ...] = ("max_tokens",)
    returns_ids: bool = False

    @property
    def path(self) -> str:
        """The path of the endpoint."""
        return PATHS[self.endpoint]

    def body(
        self,
        pieces: Sequence[Piece],
        output_tokens: int,
        answers: Mapping[int, bytes],
        *,
        needed: bool = False,
    ) -> bytes:
        """The JSON of a request; ``answers`` are those that ``pieces`` name, as JSON without brackets or
        quotes.

        ``needed``: its answer will be part of another prompt.
        """
        head: dict[str, Any] = {"model": self.model, "stream": True, **self.fields}
        head |= dict.fromkeys(self.length_fields, output_tokens)
        if needed and self.returns_ids:
            head["return_token_ids"] = True
        start = json.dumps(head)[:-1].encode()
        if self.endpoint == "chat":
            return start + b', "messages": [' + b", ".join(_turns(pieces, answers)) + b"]}"
        joiner, marks = (b",", b"[]") if self.ids else (b"", b'""')
        prompt = joiner.join(answers[piece] if isinstance(piece, int) else piece for piece in pieces)
        return start + b', "prompt": ' + marks[:1] + prompt + marks[1:] + b"}"


def _turns(pieces: Sequence[Piece], answers: Mapping[int, bytes]) -> list[bytes]:
    """User and assistant in turn: an answer is what the assistant said."""
    turns: list[bytes] = []
    said = b""
    for piece in pieces:
        if isinstance(piece, int):
            if said:
                turns.append(_turn(b"user", said))
            turns.append(_turn(b"assistant", answers[piece]))
            said = b""
        else:
            said += piece
    if said or not turns:
        turns.append(_turn(b"user", said))
    return turns


def _turn(role: bytes, text: bytes) -> bytes:
    return b'{"role": "' + role + b'", "content": "' + text + b'"}'
