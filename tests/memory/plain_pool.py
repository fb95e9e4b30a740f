"""A plain KV pool that keeps every block by itself: what the real pools must be indistinguishable from.

Written from the description of the real engine's free queue and prefix cache: a list of block ids, a key a
block, a list of blocks a key.
"""

from __future__ import annotations

from collections.abc import Sequence

Token = tuple[int, int]  # (run, position in the run)
Key = tuple[Token, ...]  # all tokens up to the end of the block
Runs = Sequence[tuple[int, int]]  # (run, tokens)


def tokens_of(runs: Runs) -> list[Token]:
    return [(run, i) for run, tokens in runs for i in range(tokens)]


def keys_of(runs: Runs, block_size: int) -> list[Key]:
    """The keys of all full blocks of a content."""
    tokens = tokens_of(runs)
    return [tuple(tokens[: end + 1]) for end in range(block_size - 1, len(tokens), block_size)]


class PlainPool:
    """The pool. A table is a list of block ids, of which the first ``registered`` have a key."""

    def __init__(self, num_blocks: int, *, caching: bool, unhashed_first: bool) -> None:
        self.caching = caching
        self.unhashed_first = unhashed_first
        self.queue = list(range(1, num_blocks))  # block 0 is the null block
        self.refs = dict.fromkeys(self.queue, 0)
        self.key_of: dict[int, Key] = {}
        self.cache: dict[Key, list[int]] = {}
        self.evicted: list[Key] = []  # in order

    def find(self, keys: Sequence[Key]) -> list[int]:
        """The blocks of the longest cached prefix, the oldest copy of each."""
        found = []
        for key in keys:
            if key not in self.cache:
                break
            found.append(self.cache[key][0])
        return found

    def touch(self, blocks: list[int]) -> None:
        for block in blocks:
            if self.refs[block] == 0:
                self.queue.remove(block)
            self.refs[block] += 1

    def take(self, count: int) -> list[int]:
        """From the front of the queue; what they cached is lost."""
        taken, self.queue = self.queue[:count], self.queue[count:]
        for block in taken:
            key = self.key_of.pop(block, None)
            if key is not None:
                self.evicted.append(key)
                self.cache[key].remove(block)
                if not self.cache[key]:
                    del self.cache[key]
            self.refs[block] = 1
        return taken

    def spare(self) -> int:
        """Blocks at the front of the queue that cache nothing."""
        return next((i for i, block in enumerate(self.queue) if block in self.key_of), len(self.queue))

    def register(self, table: list[int], keys: Sequence[Key], first: int) -> None:
        """Blocks ``first`` … of ``table`` get the ``keys`` at the same places."""
        if self.caching:
            for block, key in list(zip(table, keys, strict=False))[first:]:
                self.key_of[block] = key
                self.cache.setdefault(key, []).append(block)

    def release(self, table: list[int]) -> None:
        """From the last block to the first; what nobody uses any more goes back to the queue."""
        idle = []
        for block in reversed(table):
            self.refs[block] -= 1
            if self.refs[block] == 0:
                idle.append(block)
        front = [block for block in idle if block not in self.key_of] if self.unhashed_first else []
        self.queue = front + self.queue + [block for block in idle if block not in front]
