"""Operands that no cache holds: a region larger than the last-level cache, of which each call takes the next
slice.

So every call finds its weights or its KV in memory, as in a model with many layers, without anything being
flushed between two calls (which would take longer than most calls and let the clocks fall).
"""

from __future__ import annotations

from math import ceil

import torch

SLICES = 4096
"""Slices at most: with smaller operands a row of calls ends before it would come round."""

OVER_CACHE = 4.0
"""The region, in last-level caches: a GPU's do not strictly keep what was used last."""

SCALE = 0.1
"""Standard deviation of the numbers: products stay finite in every format."""


class Arena:
    """Regions of random numbers, one dtype at a time. ``cold`` false: every call gets the same slice."""

    def __init__(self, device: torch.device, cache_bytes: float, *, cold: bool) -> None:
        self._device, self._least = device, OVER_CACHE * cache_bytes
        self.cold = cold
        self._region: torch.Tensor | None = None

    def slices(self, shape: tuple[int, ...], dtype: torch.dtype, most: int = SLICES) -> list[torch.Tensor]:
        """Tensors of ``shape`` that lie side by side, at most ``most`` of them, at least one."""
        size = dtype.itemsize
        count = 1
        for extent in shape:
            count *= extent
        aligned = ceil(count * size / 256) * 256 // size
        wanted = max(1, min(most, ceil(self._least / (aligned * size)))) if self.cold else 1
        region = self._filled(wanted * aligned, dtype)
        return [region[i * aligned : i * aligned + count].view(shape) for i in range(wanted)]

    def clear(self) -> None:
        """Give the memory back."""
        self._region = None

    def _filled(self, count: int, dtype: torch.dtype) -> torch.Tensor:
        """At least ``count`` random numbers."""
        region = self._region
        if region is None or region.dtype != dtype or region.numel() < count:
            self._region = region = None
            least = ceil(self._least / dtype.itemsize) if self.cold else 0
            self._region = region = random_numbers(max(count, least), dtype, self._device)
        return region


def random_numbers(count: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """``count`` numbers: a block of normal ones, repeated."""
    block = min(count, 1 << 22)
    generator = torch.Generator(device=device).manual_seed(0)
    if dtype == torch.int8:
        numbers = torch.randint(-127, 128, (block,), dtype=dtype, device=device, generator=generator)
    else:
        numbers = torch.randn(block, device=device, generator=generator).mul_(SCALE).to(dtype)
    whole = torch.empty(count, dtype=dtype, device=device)
    for start in range(0, count, block):
        part = whole[start : start + block]
        part.copy_(numbers[: part.numel()])
    return whole
