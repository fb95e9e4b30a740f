"""What recordings of all engines have in common: files, tokens, and how a difference is told."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

VOCABULARY = 50000  # token i of segment [seed, len] is (seed * 1000003 + i) % 50000
STRIDE = 1000003
NEUTRAL: tuple[object, ...] = (None, False, 0, "", [])  # an option of these values asks for nothing

Record = dict[str, Any]


class NotModelled(Exception):
    """The recording needs something that the scheduler does not have."""


def token_runs(segments: Sequence[Sequence[int]]) -> list[tuple[int, int]]:
    """Segments [seed, len] as runs (first token, tokens), neighbours that count on joined.

    So equal tokens have equal runs.
    """
    runs: list[tuple[int, int]] = []
    for seed, tokens in segments:
        left, first = tokens, seed * STRIDE % VOCABULARY
        if left and runs and (runs[-1][0] + runs[-1][1]) % VOCABULARY == first:
            first, before = runs.pop()
            left += before
        if left:
            runs.append((first, left))
    return runs


def lines_of(path: Path) -> Iterator[Record]:
    """Header and lines of a recording."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for text in file:
            yield json.loads(text)
