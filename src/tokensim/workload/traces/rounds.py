"""Which request of a trace follows which, and the answers that stand in the next round's prompt."""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterable, Sequence

import numpy as np

from tokensim.workload.base import Floats, Ints, Segments

Run = tuple[int, int]


def previous_of_session(sessions: Sequence[Hashable | None]) -> Ints:
    """For each row the one before it of the same session; −1 for the first, and for rows without one."""
    last: dict[Hashable, int] = {}
    after = np.full(len(sessions), -1, dtype=np.int64)
    for row, session in enumerate(sessions):
        if session is not None:
            after[row] = last.get(session, -1)
            last[session] = row
    return after


def row_of_name(parents: Iterable[Hashable | None], names: Sequence[Hashable]) -> Ints:
    """For each row the latest one above it that has the name in ``parents``; −1 where there is none."""
    seen: dict[Hashable, int] = {}
    after = np.full(len(names), -1, dtype=np.int64)
    for row, (parent, name) in enumerate(zip(parents, names, strict=True)):
        if parent is not None:
            after[row] = seen.get(parent, -1)
        seen[name] = row
    return after


def numbered(after: Ints) -> Ints:
    """The session of each row: its number is that of the first row of the session among all first rows."""
    session = np.empty(len(after), dtype=np.int64)
    count = 0
    for row, above in enumerate(after.tolist()):
        if above < 0:
            session[row] = count
            count += 1
        else:
            session[row] = session[above]
    return session


def gaps_as_pauses(arrival_ns: Ints, after: Ints, outputs: Ints, scale: float, answer_s: float) -> Floats:
    """Seconds of pause before each request: the gap to the one that it follows, divided by ``scale``, less
    ``answer_s`` for each token of that one's answer; never below 0."""
    above = np.maximum(after, 0)
    gap_s = (arrival_ns - arrival_ns[above]) / (1e9 * scale) - answer_s * outputs[above]
    return np.where(after >= 0, np.maximum(gap_s, 0.0), 0.0)


def with_answers(segments: Segments, after: Ints, inputs: Ints, outputs: Ints) -> Segments:
    """``segments`` in which a prompt that goes on from another request's prompt holds that one's answer.

    A trace gives ids to the blocks of prompts, not to answers. Where the ids of a prompt go on from those of
    the request that it follows (all full blocks of it stand at its beginning), what comes next is the
    answer: these tokens become a run of their own, ``output_ids`` of the one that generates them. A second
    follower of the same request must have the same ids there, else it stays as the trace has it.
    """
    offsets, ids, tokens = segments.offsets.tolist(), segments.ids.tolist(), segments.tokens.tolist()
    raw: list[list[Run]] = [
        list(zip(ids[a:b], tokens[a:b], strict=True)) for a, b in itertools.pairwise(offsets)
    ]
    told: list[list[Run]] = list(raw)
    answers = np.full(len(after), -1, dtype=np.int64)
    followed: dict[int, list[Run]] = {}  # request → the trace's blocks from its last full one to its answer's
    fresh = int(segments.ids.max(initial=-1)) + 1
    for row, above in enumerate(after.tolist()):
        if above < 0 or inputs[row] <= inputs[above]:
            continue
        block = raw[row][0][1]
        whole = int(inputs[above]) // block
        end = min(int(inputs[above] + outputs[above]), int(inputs[row]))
        inside = raw[row][whole : end // block]
        if raw[row][:whole] != raw[above][:whole]:
            continue
        if followed.setdefault(above, inside)[: len(inside)] != inside[: len(followed[above])]:
            continue
        if answers[above] < 0:
            answers[above] = fresh
            fresh += 1
        told[row] = [*told[above], (int(answers[above]), end - int(inputs[above])), *_from(raw[row], end)]
    sizes = [len(runs) for runs in told]
    flat = np.array([run for runs in told for run in runs], dtype=np.int64).reshape(-1, 2)
    return Segments(
        np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)]), flat[:, 0].copy(), flat[:, 1].copy(), answers
    )


def _from(runs: list[Run], position: int) -> list[Run]:
    """The runs behind token ``position``; one that it cuts keeps its id."""
    rest: list[Run] = []
    end = 0
    for run, tokens in runs:
        end += tokens
        if end > position:
            rest.append((run, min(tokens, end - position)))
    return rest
