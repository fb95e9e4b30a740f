"""What prompts have in common, found by their tokens: the segments by which the simulated prefix cache knows
them.

As the engine does, every full block of tokens is hashed together with all that came before it; equal hashes
mean equal prefixes. What is remembered of a block is the *path* that last led through it: the segments of
that request, its answer included, so that a prompt which contains an earlier answer finds the blocks in which
that was generated. A new prompt follows the longest known path, and leaves it with a segment of its own.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Sequence
from hashlib import blake2b

Path = tuple[tuple[int, int], ...]
"""Segments (id, tokens), from the first token on."""

HASH_BYTES = 16


class PromptIndex:
    """The last ``most_blocks`` different blocks of ``block`` tokens that were seen."""

    def __init__(self, block: int, most_blocks: int) -> None:
        self.block = block
        self.most_blocks = most_blocks
        self._known: OrderedDict[bytes, Path] = OrderedDict()
        self._fresh = 0

    def __len__(self) -> int:
        return len(self._known)

    def enter(self, prompt: Sequence[int], answer: Sequence[int], salt: bytes) -> tuple[Path, int]:
        """The segments of ``prompt`` (token ids) and the id of its ``answer``, which is known in advance.
        Prompts with another ``salt`` (adapter, tenant) share nothing."""
        known, size, span = self._known, self.block, 8 * self.block
        data = array("q", (*prompt, *answer)).tobytes()
        whole = len(prompt) // size
        chain = blake2b(salt, digest_size=HASH_BYTES).digest()
        path: Path | None = None
        hits = 0
        chains: list[bytes] = []
        for block in range((len(prompt) + len(answer)) // size):
            chain = blake2b(chain + data[block * span : (block + 1) * span], digest_size=HASH_BYTES).digest()
            if block == hits and block < whole and (found := known.get(chain)) is not None:
                path = found
                hits += 1
                known.move_to_end(chain)
            else:
                chains.append(chain)
        segments = [] if path is None else cut(path, hits * size)
        rest = len(prompt) - hits * size
        if rest:
            segments.append((self._next(), rest))
        output = self._next()
        complete = (*segments, (output, len(answer)))
        for chain in chains:
            known[chain] = complete
        while len(known) > self.most_blocks:
            known.popitem(last=False)
        return tuple(segments), output

    def _next(self) -> int:
        self._fresh += 1
        return self._fresh


def cut(path: Path, tokens: int) -> list[tuple[int, int]]:
    """The first ``tokens`` of ``path``, which has at least so many."""
    kept: list[tuple[int, int]] = []
    for one, length in path:
        if tokens <= length:
            kept.append((one, tokens))
            return kept
        kept.append((one, length))
        tokens -= length
    raise ValueError(f"the path ends {tokens} tokens before that")
