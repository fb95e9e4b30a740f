"""How long a step takes: the interface between the engine and every source of operator times.

The engine walks *step runs*, so a cost is asked for two things only: the line on which a pure decode step of
``n`` requests lies, and the time of any other single step. Where the time went is computed afterwards, from
the columns that the recorder kept, so that the loop pays nothing for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from tokensim.workload.base import Floats, Ints


@dataclass(frozen=True, slots=True)
class DecodeLine:
    """A decode-only step lasts ``base + slope·C + window_slope·W`` seconds while ``C <= limit``.

    ``C`` is the sum over the batch of each request's context (cached tokens and the one being decoded),
    ``W`` the same with each context capped at the model's sliding window.
    """

    base: float
    slope: float
    window_slope: float
    limit: float


@dataclass(frozen=True, slots=True)
class StepColumns:
    """What was run, one entry a run of ``steps`` equal steps (a single step has ``steps`` 1).

    ``decode`` requests decode in each step, with ``context`` = C and ``window_context`` = W at the first one;
    each later step adds ``decode`` to C and ``window_growth`` to W. ``chunk_tokens``/``chunk_context`` are
    prefill chunks (new tokens, tokens cached before), ``chunk_row`` the entry that each belongs to.
    ``samples`` is the number of rows that need logits, in each step.
    """

    steps: Ints
    decode: Ints
    context: Floats
    window_context: Floats
    window_growth: Floats
    samples: Ints
    chunk_row: Ints
    chunk_tokens: Ints
    chunk_context: Ints


@dataclass(frozen=True, slots=True)
class OperatorTime:
    """Time that one operator took over a whole run: where it went, why, and how that is known."""

    operator: str
    kind: str  # gemm | attention | moe | elementwise | collective | host
    seconds: float
    flops: float
    bytes: float
    bound_seconds: dict[str, float]  # compute | memory | network | host → seconds
    source: str  # roofline | fitted | interpolated | exact


class StepCost(Protocol):
    """The price of steps of one model on one device under one parallel plan, compiled once."""

    window: int | None
    """The sliding window (tokens) whose capped context sum the engine must keep; None if there is none."""

    def decode_line(self, decode: int) -> DecodeLine:
        """The line for decode-only steps of ``decode`` ≥ 1 requests."""
        ...

    def step_time(
        self,
        decode: int,
        context: float,
        window_context: float,
        chunks: Sequence[tuple[int, int]],
        samples: int,
    ) -> float:
        """Seconds of one step: ``decode`` requests (C, W as above) and prefill ``chunks``.

        A chunk is (tokens, cached before). With no chunks it lies on ``decode_line(decode)``.
        """
        ...

    def breakdown(self, steps: StepColumns) -> list[OperatorTime]:
        """Where the time of all these steps went, by operator; the seconds sum to the steps' total."""
        ...
