"""A plain memory tier that keeps every block by itself: what the real one must be indistinguishable from.

A block is known by all tokens up to its end. Its entry is [value, last use, place in the prompt]; the victim
is the one with the smallest value, then the oldest use, then the largest place.
"""

from __future__ import annotations

from plain_pool import Key, Runs, keys_of


class PlainTier:
    """``policy`` is the name of one of the built-in ones."""

    def __init__(self, capacity: int, block_tokens: int, policy: str, *, whole: bool = False) -> None:
        self.capacity = capacity
        self.block_tokens = block_tokens
        self.policy = policy
        self.whole = whole
        self.blocks: dict[Key, list[float]] = {}
        self.flying: set[Key] = set()
        self.inflation = 0.0
        self.now = 0

    def reach(self, runs: Runs, first: int, stop: int) -> int:
        keys = keys_of(runs, self.block_tokens)
        block = first
        while block < min(stop, len(keys)) and keys[block] in self.blocks and keys[block] not in self.flying:
            block += 1
        return block

    def use(self, runs: Runs, stop: int, worth: float, begin: int = 0) -> None:
        self.now += 1
        for key in keys_of(runs, self.block_tokens)[begin:stop]:
            if key in self.blocks and self.policy != "fifo":
                entry = self.blocks[key]
                entry[0] = self.value(entry[0], worth)
                entry[1] = self.now

    def value(self, before: float | None, worth: float) -> float:
        if self.policy == "lfu":
            return 1.0 if before is None else before + 1
        if self.policy == "cost-aware":
            fresh = self.inflation + worth
            return fresh if before is None else max(before, fresh)
        return 0.0

    def put(self, runs: Runs, first: int, stop: int, worth: float, flying: bool, begin: int) -> list[Key]:
        """Returns what was evicted, in order."""
        keys = keys_of(runs, self.block_tokens)[:stop]
        self.use(runs, stop, worth, begin)
        missing = [
            (place, key) for place, key in enumerate(keys) if place >= first and key not in self.blocks
        ]
        if self.whole and len(missing) > self.capacity:
            return []
        missing = missing[: self.capacity]
        gone = self.evict(len(missing) - (self.capacity - len(self.blocks)))
        for place, key in missing:
            self.blocks[key] = [self.value(None, worth), self.now, place]
            if flying:
                self.flying.add(key)
        return gone

    def evict(self, blocks: int) -> list[Key]:
        gone: list[Key] = []
        last = None
        while self.blocks:
            key = min(self.blocks, key=lambda k: (*self.blocks[k][:2], -self.blocks[k][2]))
            value, used, _ = self.blocks[key]
            if len(gone) >= blocks and not (self.whole and last == (value, used)):
                break
            del self.blocks[key]
            self.flying.discard(key)
            self.inflation = max(self.inflation, value)
            last = (value, used)
            gone.append(key)
        return gone
