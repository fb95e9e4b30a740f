"""Synthetic sessions: each request's prompt is all that was said before it, and something new.

A session is a first request and one or more chains (branches) of requests behind it, all laid out one session
after the other. A prompt is the list of what was said: new tokens and answers in turn, each with an id of its
own, so that what the engine generated in one round is found in the prefix cache in the next.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tokensim.errors import InputError
from tokensim.scenario.workload import WorkloadSpec
from tokensim.workload import streams as names
from tokensim.workload.arrivals import NS, think_seconds
from tokensim.workload.base import Ints, Segments, Workload
from tokensim.workload.parts import arrivals_of, lengths_drawn, lengths_of
from tokensim.workload.streams import Streams
from tokensim.workload.synthetic import images_drawn, prefix_groups

MOST_REQUESTS = 200_000_000  # as ``num_requests``: more is a slip of the pen


@dataclass(frozen=True, slots=True)
class _Layout:
    """Who follows whom: ``session`` of each request, its ``root`` (the session's first request), its
    ``depth`` (0 for the root) and ``after`` (−1 for the root)."""

    session: Ints
    root: Ints
    depth: Ints
    after: Ints

    @property
    def chain(self) -> Ints:
        """The first request of each one's chain, at depth 1 (of a root: itself plus 1)."""
        return np.arange(len(self.root)) - self.depth + 1

    def ancestor(self, of: Ints, depth: Ints) -> Ints:
        """Who stands at ``depth`` above, or is, the requests ``of``."""
        return np.where(depth == 0, self.root[of], self.chain[of] + depth - 1)


def sessions(spec: WorkloadSpec, streams: Streams, folder: Path) -> Workload:
    """The requests of a ``workload:`` section with ``sessions``; raises ``InputError`` if none is left."""
    assert spec.sessions is not None
    own = spec.sessions
    arrivals = arrivals_of(spec, streams, own.count, spec.duration)
    count = len(arrivals.arrival_s)
    rounds = lengths_of(own.rounds, folder).sample(streams(names.ROUNDS), count)
    branches = np.ones(count, dtype=np.int64)
    if own.branches is not None:
        branches = lengths_of(own.branches, folder).sample(streams(names.BRANCHES), count)
    layout = _layout(rounds, branches)
    n, is_root = len(layout.root), layout.depth == 0
    new, outputs = lengths_drawn(spec, streams, n, folder)
    if own.first_input_tokens is not None:
        first = lengths_of(own.first_input_tokens, folder).sample(streams(names.FIRST_LENGTHS), count)
        new[is_root] = first
    images = images_drawn(spec.images, streams, n, folder)
    if images is not None:
        new = new + images
    groups, prefix = np.full(count, -1), 0
    if spec.shared_prefix is not None:
        groups, prefix = prefix_groups(spec.shared_prefix, streams, count), spec.shared_prefix.tokens
    before = np.where(groups >= 0, prefix, 0)[layout.session]
    prompts = before + _said_before(layout, new, outputs) + new
    pauses = np.rint(think_seconds(own.think_time, streams(names.SESSION_PAUSES), n) * NS) / NS
    kept = np.ones(n, dtype=bool)
    notes: tuple[str, ...] = ()
    if own.max_context is not None:
        kept, notes = _within(layout, prompts + outputs, own.max_context)
    rows = np.flatnonzero(kept)
    after = layout.after[rows]
    place = np.cumsum(kept) - 1
    think_s = None
    if arrivals.think_s is not None:
        think_s = np.where(is_root, arrivals.think_s[layout.session], 0.0)[rows]
    return Workload(
        arrivals.arrival_s[layout.session][rows],
        prompts[rows],
        outputs[rows],
        segments=_segments(layout, rows, new, outputs, groups, prefix),
        concurrency=arrivals.concurrency,
        think_s=think_s,
        after=np.where(after >= 0, place[after], -1),
        delay_s=np.where(is_root, 0.0, pauses)[rows],
        session=layout.session[rows],
        encoder_tokens=None if images is None else images[rows],
        image_tokens=None if spec.images is None else spec.images.tokens,
        notes=notes,
    )


def _layout(rounds: Ints, branches: Ints) -> _Layout:
    sizes = 1 + branches * (rounds - 1)
    total = float(sizes.sum(dtype=np.float64))
    if total > MOST_REQUESTS:
        raise InputError(
            f"the sessions have {total:.3g} requests, more than {MOST_REQUESTS:,}",
            where="workload.sessions",
            hint="fewer sessions, rounds or branches",
        )
    session = np.repeat(np.arange(len(sizes)), sizes)
    root = np.repeat(np.cumsum(sizes) - sizes, sizes)
    place = np.arange(len(root)) - root
    length = np.maximum(rounds - 1, 1)[session]
    depth = np.where(place == 0, 0, (place - 1) % length + 1)
    after = np.where(place == 0, -1, np.where(depth == 1, root, np.arange(len(root)) - 1))
    return _Layout(session, root, depth, after)


def _said_before(layout: _Layout, new: Ints, outputs: Ints) -> Ints:
    """Tokens of each request's history: prompts and answers of those above it."""
    follows = layout.after >= 0
    above = np.maximum(layout.after, 0)
    # What each adds to the history of its chain; the first of a chain brings in the root's.
    added = np.where(follows, new[above] + outputs[above], 0)
    total = np.cumsum(added)
    return np.where(follows, total - total[np.maximum(layout.chain - 1, 0)], 0)


def _within(layout: _Layout, contexts: Ints, most: int) -> tuple[npt.NDArray[np.bool_], tuple[str, ...]]:
    """Which requests stay when a chain ends before the first one whose context is longer than ``most``."""
    long = np.cumsum(contexts > most)
    first = layout.chain
    too_long = np.where(layout.depth == 0, 0, long - long[np.maximum(first - 1, 0)]) > 0
    root_too_long = contexts[layout.root] > most
    kept = ~(too_long | root_too_long)
    if not kept.any():
        raise InputError(
            f"every session's first prompt and answer are longer than {most:,} tokens",
            where="workload.sessions.max_context",
            hint="raise it, or shorten the prompts",
        )
    lost = int((root_too_long & (layout.depth == 0)).sum())
    notes = []
    if lost:
        notes.append(f"{lost:,} sessions left out: their first request is longer than max_context")
    cut = len(kept) - int(kept.sum())
    if cut:
        notes.append(f"{cut:,} of {len(kept):,} requests of sessions left out: beyond max_context")
    return kept, tuple(notes)


def _segments(layout: _Layout, rows: Ints, new: Ints, outputs: Ints, groups: Ints, prefix: int) -> Segments:
    """What the prompts of ``rows`` consist of: a system prompt, then new tokens and answers in turn.

    Ids: system prompts first, then two a request, its new tokens and its answer.
    """
    depth, group = layout.depth[rows], groups[layout.session[rows]]
    has = (group >= 0).astype(np.int64)
    sizes = has + 2 * depth + 1
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    which = np.repeat(np.arange(len(rows)), sizes)
    place = np.arange(offsets[-1]) - offsets[which] - has[which]  # −1: the system prompt
    is_answer = place % 2
    owner = layout.ancestor(rows[which], np.maximum(place, 0) // 2)
    systems = int(groups.max(initial=-1)) + 1
    ids = np.where(place < 0, group[which], systems + 2 * owner + is_answer)
    tokens = np.where(place < 0, prefix, np.where(is_answer == 1, outputs[owner], new[owner]))
    asked_again = np.zeros(len(new), dtype=bool)
    asked_again[layout.after[rows][depth > 0]] = True
    answers = np.where(asked_again[rows], systems + 2 * rows + 1, -1)
    return Segments(offsets, ids, tokens, answers)
