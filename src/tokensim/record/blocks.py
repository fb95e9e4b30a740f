"""What the prompts of a recording share, as ids of their blocks: the form in which a case and a trace say
it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tokensim.workload.base import Workload

Run = tuple[int, int]

CLOSE = 8
"""Up to so many tokens that were not planned come with a prompt by themselves (a first token, a template); a
larger difference is one of words to tokens, and spread over the prompt."""


def shares(workload: Workload) -> bool:
    """Whether any content stands in two prompts."""
    segments = workload.segments
    return segments is not None and len(np.unique(segments.ids)) < len(segments.ids)


def hash_ids(workload: Workload, rows: Sequence[int], lengths: Sequence[int], block: int) -> list[list[int]]:
    """The ids of the full blocks of ``block`` tokens of each prompt in ``rows``; equal ids are equal
    prefixes.

    ``lengths`` are the prompts' tokens as the server counted them.
    """
    segments = workload.segments
    assert segments is not None
    offsets, ids, tokens = segments.offsets.tolist(), segments.ids.tolist(), segments.tokens.tolist()
    known: dict[tuple[int, tuple[tuple[int, int, int], ...]], int] = {}
    found = []
    for row, length in zip(rows, lengths, strict=True):
        begin, end = offsets[row], offsets[row + 1]
        runs = fitted(list(zip(ids[begin:end], tokens[begin:end], strict=True)), length)
        above, own = -1, []
        for content in _blocks(runs, block):
            above = known.setdefault((above, content), len(known))
            own.append(above)
        found.append(own)
    return found


def fitted(runs: list[Run], length: int) -> list[Run]:
    """``runs`` made ``length`` tokens long: by the last one if little is missing or too much, else in
    proportion."""
    planned = sum(tokens for _, tokens in runs)
    if abs(length - planned) > CLOSE:
        ends = np.rint(np.cumsum([tokens for _, tokens in runs]) * (length / planned)).astype(np.int64)
        sizes = np.diff(ends, prepend=0).tolist()
        runs = [(run, size) for (run, _), size in zip(runs, sizes, strict=True)]
    total = sum(tokens for _, tokens in runs)
    kept: list[Run] = []
    for run, tokens in runs:
        room = length - sum(size for _, size in kept)
        kept.append((run, min(tokens, room)))
    if total < length:
        run, tokens = kept[-1]
        kept[-1] = (run, tokens + length - total)
    return [(run, tokens) for run, tokens in kept if tokens > 0]


def _blocks(runs: Sequence[Run], block: int) -> list[tuple[tuple[int, int, int], ...]]:
    """Full blocks, each as what of which run stands in it: (run, first token, tokens)."""
    blocks: list[tuple[tuple[int, int, int], ...]] = []
    content: list[tuple[int, int, int]] = []
    room = block
    for run, tokens in runs:
        start = 0
        while start < tokens:
            taken = min(room, tokens - start)
            content.append((run, start, taken))
            start += taken
            room -= taken
            if not room:
                blocks.append(tuple(content))
                content, room = [], block
    return blocks
