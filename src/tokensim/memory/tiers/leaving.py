"""What was evicted, told by content: neighbours become one stretch, so that whole prompts leave as one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from tokensim.memory.prefix import ENDLESS, Content


class Linked(Protocol):
    """A token run in a tree: ``key`` is the token at which it begins, and its id."""

    @property
    def key(self) -> tuple[int, int]:
        """See above."""
        ...

    @property
    def parent(self) -> Any:
        """The run before it; None: this is the root."""
        ...


def merged(gone: Iterable[tuple[Linked, int, int]], block_tokens: int) -> list[tuple[Content, int, int]]:
    """``gone`` is (run, first block, blocks) in order of eviction: (content, first, stop) of each stretch.

    A stretch grows by what was evicted next if that is the end of what lies before it.
    """
    stretches: list[tuple[Content, int, int]] = []
    deepest: Linked | None = None  # whose path is the content of the stretch that grows
    top: Linked | None = None  # the run that its first block lies in
    first = stop = 0
    for run, block, count in gone:
        if top is not None and block + count == first:
            while top is not run and top.parent is not None and top.key[0] // block_tokens >= first:
                top = top.parent
            if top is run:
                first = block
                continue
        if deepest is not None:
            stretches.append((content_of(deepest), first, stop))
        deepest = top = run
        first, stop = block, block + count
    if deepest is not None:
        stretches.append((content_of(deepest), first, stop))
    return stretches


def content_of(run: Linked) -> Content:
    """The tokens up to the end of ``run``, which has none."""
    keys = []
    while run.parent is not None:
        keys.append(run.key)
        run = run.parent
    keys.reverse()
    return Content([key for _, key in keys], [*(start for start, _ in keys[1:]), ENDLESS])
