"""ShareGPT: a JSON list of conversations, each a list of ``{"from": "human", "value": "..."}``.

Every answer of the assistant is one request: its prompt is the conversation so far, its output the answer. A
message is one segment, so a later turn shares its prefix with an earlier one, the generated answers included.
With ``sessions: true`` a turn waits for the one before. There are no arrivals.

Lengths come from a Hugging Face ``tokenizer.json`` (extra ``tokenizer``), message by message and without a
chat template; or from a rule of thumb of 4 characters a token (OpenAI, "What are tokens and how to count
them?": 1 token ≈ 4 characters in English), rounded up.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tokensim.errors import InputError
from tokensim.registry import register
from tokensim.workload.base import Ints, Segments
from tokensim.workload.source import resolve
from tokensim.workload.traces.base import TraceFile, TraceRows

CHARACTERS_PER_TOKEN = 4.0  # OpenAI help centre, "What are tokens and how to count them?"
ASSISTANT = frozenset({"gpt", "assistant", "chatgpt", "bing", "bard", "model"})
OTHERS = frozenset({"human", "user", "system", "tool", "function"})


@register.trace_format("sharegpt")
class ShareGPT:
    """Reads conversations as requests; ``tokenizer`` or ``characters_per_token`` say how long a text is."""

    uses = frozenset({"tokenizer", "characters_per_token"})

    def recognises(self, file: TraceFile) -> bool:
        """Objects with ``conversations``, in a JSON list or one a line."""
        return "conversations" in file.names

    def read(self, file: TraceFile) -> TraceRows:
        """See ``TraceFormat``."""
        spec = file.spec
        conversations = _conversations(file)
        texts = list(dict.fromkeys(text for talk in conversations for _, text in talk))
        numbers = {text: i for i, text in enumerate(texts)}
        if spec.tokenizer is not None:
            tokens, note = _by_tokenizer(file, spec.tokenizer, texts)
        else:
            characters = spec.characters_per_token or CHARACTERS_PER_TOKEN
            tokens = np.array([math.ceil(len(text) / characters) for text in texts], dtype=np.int64)
            note = f"lengths are a rule of thumb, {characters:g} characters a token, for want of a tokenizer"
        offsets: list[int] = [0]
        ids: list[int] = []
        answers: list[int] = []
        after: list[int] = []
        session: list[int] = []
        for number_of_talk, talk in enumerate(conversations):
            said: list[int] = []
            before = -1
            for is_answer, text in talk:
                number = numbers[text]
                if is_answer and said:
                    ids.extend(said)
                    offsets.append(len(ids))
                    after.append(before)
                    session.append(number_of_talk)
                    before = len(answers)
                    answers.append(number)
                if tokens[number]:
                    said.append(number)
        if not answers:
            raise InputError("no conversation has an answer of the assistant", where=str(file.path))
        id_array, bounds = np.array(ids, dtype=np.int64), np.array(offsets, dtype=np.int64)
        lengths, said_by_engine = tokens[id_array], np.array(answers, dtype=np.int64)
        return TraceRows(
            None,
            np.add.reduceat(lengths, bounds[:-1]),
            tokens[said_by_engine],
            segments=Segments(bounds, id_array, lengths, said_by_engine),
            after=np.array(after, dtype=np.int64),
            session=np.array(session, dtype=np.int64),
            notes=(note,),
        )


def _conversations(file: TraceFile) -> list[list[tuple[bool, str]]]:
    """Every conversation as (is it an answer, text) of each message; refuses what is not one, naming it."""
    if file.kind == "json":
        items: Sequence[Any] = file.document
        places: Callable[[int], str] = lambda i: f"{file.path}, [{i}]"  # noqa: E731
    else:
        items, places = file.table.frame.to_dicts(), file.table.where
    found = []
    for i, item in enumerate(items):
        messages = item.get("conversations") if isinstance(item, Mapping) else None
        if not isinstance(messages, Sequence) or isinstance(messages, str):
            raise InputError("no list of 'conversations'", where=places(i), hint="one format a file")
        found.append(
            [_message(message, f"{places(i)}.conversations[{k}]") for k, message in enumerate(messages)]
        )
    return found


def _message(message: Any, where: str) -> tuple[bool, str]:
    if isinstance(message, Mapping):
        role = message.get("from") or message.get("role")
        text = message.get("value") if message.get("value") is not None else message.get("content")
        if isinstance(role, str) and isinstance(text, str):
            if role.lower() in ASSISTANT or role.lower() in OTHERS:
                return role.lower() in ASSISTANT, text
            raise InputError(
                f"unknown speaker '{role}'",
                where=where,
                hint="known: " + ", ".join(sorted(ASSISTANT | OTHERS)),
            )
    raise InputError("is not a message", where=where, hint='expected {"from": "human", "value": "..."}')


def _by_tokenizer(file: TraceFile, tokenizer: str, texts: list[str]) -> tuple[Ints, str]:
    path = resolve(tokenizer, file.base_dir)
    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise InputError(
            "the package 'tokenizers' is not installed",
            where="workload.trace.tokenizer",
            hint="pip install 'tokensim[tokenizer]', or leave tokenizer out for a rule of thumb",
        ) from None
    if not path.is_file():
        raise InputError("no such file", where=str(path), hint="give the path of a tokenizer.json")
    try:
        loaded = Tokenizer.from_file(str(path))
    except Exception as error:  # the binding raises a bare Exception
        raise InputError(
            f"is not a tokenizer.json ({error})", where=str(path), hint="give the tokenizer.json of the model"
        ) from None
    encoded = loaded.encode_batch(texts, add_special_tokens=False)
    return np.array([len(e.ids) for e in encoded], dtype=np.int64), f"lengths by the tokenizer {path.name}"
