"""The prompts of a workload: which pieces each one is made of, and which of them are answers to come.

Everything that can be written before the first request is sent is written then, as bytes, so that sending one
costs no more than joining its pieces. Runs that prompts share are written once.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from tokensim.errors import InputError
from tokensim.record.words import Vocabulary, key_of
from tokensim.workload.base import Workload

Piece = bytes | int
"""A piece of JSON, or the request whose answer stands here."""

MOST_TOKENS = 200_000_000
"""Prompt tokens of one recording; ours: about 1 GB as they are sent."""


@dataclass(frozen=True, slots=True)
class Prompts:
    """``pieces`` of each request, and which answers others need (``needed``: indices of requests)."""

    pieces: tuple[tuple[Piece, ...], ...]
    needed: frozenset[int]


def prompts_of(
    workload: Workload, vocabulary: Vocabulary, seed: int, salt: int, overhead: int = 0
) -> Prompts:
    """The prompts of ``workload``.

    ``salt`` makes the content differ from that of other repeats; ``overhead`` tokens come with every prompt
    by themselves (a template, a first token) and are taken off its first piece. Raises ``InputError`` if the
    prompts are too long to be kept.
    """
    total = int(workload.input_tokens.sum())
    if total > MOST_TOKENS:
        raise InputError(
            f"the prompts have {total:,} tokens, more than {MOST_TOKENS:,}",
            where="workload",
            hint="record fewer requests at a time (num_requests)",
        )
    segments = workload.segments
    if segments is None:
        runs = [[(index, tokens)] for index, tokens in enumerate(workload.input_tokens.tolist())]
        answers: dict[int, int] = {}
    else:
        ids, tokens_of = segments.ids.tolist(), segments.tokens.tolist()
        ends = segments.offsets.tolist()
        runs = [
            list(zip(ids[begin:end], tokens_of[begin:end], strict=True))
            for begin, end in itertools.pairwise(ends)
        ]
        answers = {} if segments.output_ids is None else _answers(segments.output_ids)
    above = _Ancestors(workload)
    written: dict[tuple[int, int], bytes] = {}
    needed: set[int] = set()
    prompts = []
    for index, own in enumerate(runs):
        pieces: list[Piece] = []
        for place, (run, tokens) in enumerate(own):
            answered = answers.get(run, -1)
            if answered >= 0 and above.has(index, answered):
                needed.add(answered)
                pieces.append(answered)
                continue
            length = max(tokens - overhead, 1) if place == 0 else tokens
            if length and (run, length) not in written:
                written[run, length] = vocabulary.piece(key_of(seed, salt, run), length)
            if length:
                pieces.append(written[run, length])
        if segments is None:
            written.clear()
        prompts.append(tuple(pieces))
    return Prompts(tuple(prompts), frozenset(needed))


def _answers(output_ids: np.typing.NDArray[np.int64]) -> dict[int, int]:
    """Content → the request that generates it."""
    return {run: index for index, run in enumerate(output_ids.tolist()) if run >= 0}


class _Ancestors:
    """Which requests are answered before another one is sent, because it waits for them."""

    def __init__(self, workload: Workload) -> None:
        self._after = [-1] * len(workload) if workload.after is None else workload.after.tolist()

    def has(self, index: int, other: int) -> bool:
        """Whether ``index`` waits for ``other``, directly or not."""
        index = self._after[index]
        while index > other:
            index = self._after[index]
        return index == other >= 0
