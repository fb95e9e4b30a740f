"""What the shipped model's formulas are made of: smooth maxima, caches, tiles.

All functions take arrays that broadcast.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tokensim.workload.base import Floats

TILE = 128.0
"""Rows and columns of the tile that ``fill`` and the blocks of attention are counted in: the usual one of
dense kernels (CUTLASS, FlashAttention) on all devices fitted."""

Numbers = Floats | float
"""What the formulas take: arrays that broadcast, or plain numbers."""

_CACHE_EDGE = 6.0
"""How sharply a working set falls out of the cache: as the inverse of 1 + (bytes / cache_bytes)^6. Of 3, 4, 6
and 9 the one that fits decode attention on L40S best; others hardly care."""


def smooth_max(sharpness: float, *terms: Numbers) -> Floats:
    """The p-norm of positive ``terms``, p = 1 + ``sharpness``: their sum at 0, their maximum far above."""
    arrays = np.broadcast_arrays(*terms)
    largest = np.maximum.reduce(arrays)
    power = 1.0 + sharpness
    total = np.add.reduce([np.power(one / largest, power) for one in arrays])
    return np.asarray(largest * np.power(total, 1.0 / power))


def through_cache(size: Numbers, cache_bytes: float, cache_speed: float) -> Any:
    """Bytes of memory traffic that take as long as ``size`` bytes of a working set measured over and over.

    Far below ``cache_bytes`` they come ``1 + cache_speed`` times as fast as from memory. Rises with ``size``.
    """
    saved = 1.0 - 1.0 / (1.0 + cache_speed)
    return size * (1.0 - saved / (1.0 + (size / cache_bytes) ** _CACHE_EDGE))
