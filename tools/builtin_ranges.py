"""The coefficients of the shipped model's forms as a vector to fit: where each starts, and its bounds."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tokensim.cost.builtin.forms import Form

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Range:
    """Where a coefficient starts, and its bounds; fitted as its logarithm unless ``linear``."""

    start: float
    low: float
    high: float
    linear: bool = False


_CACHE = {"cache_bytes": Range(2e7, 3e5, 4e8), "cache_speed": Range(1.0, 1e-4, 20.0)}
_SHARE = Range(0.7, 0.02, 1.3)

RANGES: dict[str, dict[str, Range]] = {
    "GemmForm": {
        "launch_s": Range(3e-6, 5e-7, 1e-3),
        "compute_share": Range(0.8, 0.02, 1.3),
        "memory_share": Range(0.85, 0.1, 1.3),
        "sharpness": Range(1.5, 0.05, 12.0),
        "edge_rows": Range(20.0, 0.1, 128.0),
        "edge_columns": Range(20.0, 0.1, 128.0),
        "edge_depth": Range(150.0, 0.1, 2000.0),
        "fill": Range(3.0, 1e-3, 1e3),
        "chain_s": Range(2e-9, 1e-13, 1e-7),
        "chain_steps": Range(1000.0, 16.0, 1e6),
        "row_s": Range(1e-10, 1e-13, 1e-7),
        "row_element_s": Range(1e-14, 1e-17, 1e-11),
        "sag": Range(0.1, 1e-3, 1.0),
        "sag_s": Range(1e-3, 5e-5, 3e-2),
        **_CACHE,
    },
    "ExpertsForm": {
        "launch_s": Range(2e-5, 3e-6, 1e-3),
        "compute_share": _SHARE,
        "memory_share": Range(0.8, 0.08, 1.3),
        "sharpness": Range(2.7, 0.05, 50.0),
        "edge_columns": Range(55.0, 0.1, 1500.0),
        "edge_depth": Range(55.0, 0.1, 2000.0),
        "tile_rows": Range(20.0, 1.0, 180.0),
        "expert_s": Range(1e-8, 1e-12, 1e-5),
        "choice_s": Range(1e-9, 1e-12, 1e-6),
        "element_s": Range(1e-12, 1e-16, 1e-10),
        "activation_traffic": Range(1.0, 0.05, 20.0),
        "hits_balanced": Range(1.2, 0.2, 3.0),
        "hits_mild": Range(0.8, 0.1, 3.0),
        "hits_strong": Range(0.7, 0.1, 3.0),
        "busiest_mild": Range(1.5, 1.0, 4.0),
        "busiest_strong": Range(1.8, 1.0, 5.0),
        "least_rows": Range(0.6, 0.02, 4.5),
        "width_growth": Range(0.0, -0.4, 0.4, linear=True),
        "cache_bytes": Range(2.4e7, 4e5, 3e8),
        "cache_speed": Range(1.0, 1e-4, 20.0),
    },
    "DecodeForm": {
        "launch_s": Range(1e-5, 2e-6, 1e-3),
        "split_s": Range(5e-7, 1e-9, 2e-5),
        "merge_s": Range(1e-6, 1e-8, 1e-4),
        "block_s": Range(2e-8, 1e-11, 1e-6),
        "block_growth": Range(0.3, -1.0, 2.0, linear=True),
        "walk_s": Range(1e-11, 1e-15, 1e-7),
        "lone_walk_s": Range(1e-10, 1e-15, 1e-7),
        "head_share": Range(0.05, 1e-4, 1.0),
        "compute_share": Range(0.6, 0.01, 3.0),
        "padded_heads": Range(3.0, 1e-3, 300.0),
        "sharpness": Range(2.0, 0.05, 20.0),
        "cache_bytes": Range(2e7, 3e5, 4e8),
        "cache_speed": Range(2.0, 1e-4, 20.0),
        "memory_share": Range(0.85, 0.05, 1.3),
    },
    "PrefillForm": {
        "launch_s": Range(1e-5, 2e-6, 1e-3),
        "block_s": Range(3e-8, 1e-11, 1e-6),
        "block_growth": Range(0.3, -1.0, 2.5, linear=True),
        "walk_s": Range(5e-9, 1e-12, 1e-6),
        "head_share": Range(0.05, 1e-4, 1.0),
        "memory_share": Range(0.8, 0.05, 1.3),
        "sharpness": Range(0.5, 1e-3, 20.0),
        "edge_tokens": Range(60.0, 0.1, 600.0),
        "window_tokens": Range(60.0, 1.0, 600.0),
        "cache_traffic": Range(1.5, 0.3, 60.0),
        **_CACHE,
        "compute_share": Range(0.6, 0.02, 1.5),
    },
    "StreamForm": {
        "launch_s": Range(2e-6, 3e-7, 1e-4),
        "memory_share": Range(0.8, 0.05, 1.3),
        **_CACHE,
    },
    "CollectiveForm": {
        "launch_s": Range(6e-6, 1e-6, 1e-3),
        "small_rate": Range(5e10, 1e8, 1e13),
        "large_rate": Range(3e11, 1e8, 1e13),
        "turn_bytes": Range(1e6, 1e3, 1e10),
    },
}
"""For each form, each coefficient; those by head size share one range."""


class Spec:
    """The coefficients of one form as a vector, and back."""

    def __init__(self, form: type[Form], head_sizes: tuple[float, ...]) -> None:
        self.type = form
        self.head_sizes = head_sizes
        self.slots: list[tuple[str, int, Range]] = []
        for field in dataclasses.fields(form):
            if field.name == "head_sizes":
                continue
            count = len(head_sizes) if "tuple" in str(field.type) else 1
            self.slots.append((field.name, count, RANGES[form.__name__][field.name]))

    def starts(self) -> list[Array]:
        """Where to start from: the middle of the ranges, and (forms with many minima) half and twice that."""
        middle = self._vector(lambda r: r.start)
        if self.type.__name__ in ("CollectiveForm", "StreamForm"):
            return [middle]
        low, high = self.bounds()
        return [middle, np.clip(0.5 * middle + 0.5 * (0.25 * low + 0.75 * high), low, high)]

    def bounds(self) -> tuple[Array, Array]:
        """The least and the largest vector."""
        return self._vector(lambda r: r.low), self._vector(lambda r: r.high)

    def form(self, vector: Array, digits: int | None = 3) -> Form:
        """The form with the coefficients in ``vector``, rounded to as many ``digits`` as the file keeps."""
        values: dict[str, Any] = {"head_sizes": self.head_sizes} if self.head_sizes else {}
        at = 0
        for name, count, range_ in self.slots:
            raw = [float(x if range_.linear else np.exp(x)) for x in vector[at : at + count]]
            numbers = raw if digits is None else [float(f"{x:.{digits}g}") for x in raw]
            by_size = name in values or (self.head_sizes and self._by_size(name))
            values[name] = tuple(numbers) if by_size else numbers[0]
            at += count
        return self.type(**values)

    def _by_size(self, name: str) -> bool:
        return any(f.name == name and "tuple" in str(f.type) for f in dataclasses.fields(self.type))

    def _vector(self, of: Callable[[Range], float]) -> Array:
        return np.array(
            [of(r) if r.linear else np.log(of(r)) for _, count, r in self.slots for _ in range(count)]
        )
