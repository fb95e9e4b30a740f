"""What the prompts of a recording share, as ids of their blocks: the form in which a case and a trace say
it.

A server counts the tokens of a prompt, not those of its parts, and text seldom has as many as were planned.
What stands in several prompts must have one length in all of them, or blocks that the server finds again get
different ids. So a run keeps the length that it had in the first prompt that held it, an answer the length in
which it came, and only what is new in a prompt is made to fit the rest of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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


def hash_ids(
    workload: Workload, rows: Sequence[int], lengths: Sequence[int], answers: Mapping[int, int], block: int
) -> list[list[int]]:
    """The ids of the full blocks of ``block`` tokens of each prompt in ``rows``, rounds of a session in their
    order; equal ids are equal prefixes.

    ``lengths`` are the prompts' tokens as the server counted them, ``answers`` those of the answer to each
    request that has one.
    """
    segments = workload.segments
    assert segments is not None
    offsets, ids, tokens = segments.offsets.tolist(), segments.ids.tolist(), segments.tokens.tolist()
    outputs = [] if segments.output_ids is None else segments.output_ids.tolist()
    came = {run: answers[row] for row, run in enumerate(outputs) if run >= 0 and row in answers}
    seen: dict[int, Run] = {}
    known: dict[tuple[int, tuple[tuple[int, int, int], ...]], int] = {}
    found = []
    for row, length in zip(rows, lengths, strict=True):
        begin, end = offsets[row], offsets[row + 1]
        runs = fitted(list(zip(ids[begin:end], tokens[begin:end], strict=True)), length, came, seen)
        above, own = -1, []
        for content in _blocks(runs, block):
            above = known.setdefault((above, content), len(known))
            own.append(above)
        found.append(own)
    return found


def fitted(runs: list[Run], length: int, came: Mapping[int, int], seen: dict[int, Run]) -> list[Run]:
    """``runs`` made ``length`` tokens long.

    Answers are as long as they ``came``, runs that were ``seen`` as long as they were then (the length, and
    what was planned of it); the others share the rest, and are put into ``seen``. If that does not add up,
    the end is cut off, or the last run gets what is missing.
    """
    sizes = [came.get(run, _again(tokens, seen.get(run))) for run, tokens in runs]
    new = [place for place, size in enumerate(sizes) if size < 0]
    rest = length - sum(size for size in sizes if size > 0)
    for place, size in zip(new, _spread([runs[place][1] for place in new], max(rest, 0)), strict=True):
        sizes[place] = size
        if rest > 0:
            seen.setdefault(runs[place][0], (size, runs[place][1]))
    kept: list[Run] = []
    for (run, _), size in zip(runs, sizes, strict=True):
        room = length - sum(taken for _, taken in kept)
        if min(size, room) > 0:
            kept.append((run, min(size, room)))
    total = sum(size for _, size in kept)
    if total < length:
        run, size = kept.pop() if kept else (runs[-1][0], 0)
        kept.append((run, size + length - total))
    return kept


def _again(tokens: int, before: Run | None) -> int:
    """The length of ``tokens`` planned tokens of a run that had a length ``before``; −1 where it had none."""
    if before is None:
        return -1
    size, planned = before
    return round(tokens * size / max(planned, 1))


def _spread(planned: list[int], length: int) -> list[int]:
    """Lengths that add up to ``length``: as ``planned`` but for the last if little is missing or too much,
    else in proportion."""
    total = sum(planned)
    if not total:
        return [0] * len(planned)
    if abs(length - total) <= CLOSE and planned[-1] > total - length:
        return [*planned[:-1], planned[-1] + length - total]
    ends = np.rint(np.cumsum(planned) * (length / total)).astype(np.int64)
    return [int(size) for size in np.diff(ends, prepend=0)]


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
