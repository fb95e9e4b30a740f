"""Random streams by name: one seed, and what one part draws never shifts what another draws.

A stream is PCG64 seeded by ``SeedSequence(seed, spawn_key=(crc32(name),))`` under NumPy's ``RandomState``,
whose distributions NumPy keeps bit for bit the same in every version (NEP 19), which it does not promise for
``Generator``. What is drawn is then rounded (arrivals to nanoseconds, lengths to tokens), which hides the
last bit in which the C libraries of two machines may differ.
"""

from __future__ import annotations

import zlib

import numpy as np

ARRIVALS = "arrivals"
"""The stream of arrival times; the others below are named alike."""
PHASES = "phases"
INPUT_LENGTHS = "input lengths"
OUTPUT_LENGTHS = "output lengths"
JOINT_LENGTHS = "joint lengths"
THINK_TIMES = "think times"
RESAMPLING = "resampling"
ROUNDS = "rounds"
BRANCHES = "branches"
FIRST_LENGTHS = "first input lengths"
SESSION_PAUSES = "pauses within sessions"
PREFIXES = "shared prefixes"
IMAGES = "images"
IMAGE_SHARE = "who has images"
TENANTS = "tenants"
PRIORITIES = "priorities"
ADAPTERS = "adapters"
ADAPTER_SHARE = "who has an adapter"
PREDICTIONS = "predicted lengths"


class Streams:
    """The random streams of one seed; ``streams("arrivals")`` starts that stream from its beginning."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def __call__(self, name: str) -> np.random.RandomState:
        """The stream called ``name``, always from its beginning; a plug-in may use any name of its own."""
        key = zlib.crc32(name.encode())
        return np.random.RandomState(np.random.PCG64(np.random.SeedSequence(self.seed, spawn_key=(key,))))
