"""A workload: when requests are meant to arrive, how long they are, and what they share.

Everything is a column, so that a million requests are a few arrays. The engine's client reads the columns;
nothing here knows about time passing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Segments:
    """What the prompts are made of, for prefix caching: request ``i`` is ``ids[offsets[i]:offsets[i+1]]``.

    Each segment is ``(id, tokens)``. Two prompts share a prefix as long as their segments have equal ids in
    the same order; when one id appears with two lengths, the shorter is a prefix of the longer. Ids are ≥ 0.
    The tokens of a request's segments sum to its ``input_tokens``. ``output_ids`` [n]: the id of each
    request's answer where other prompts contain it (−1: none does; absent: nobody's).
    """

    offsets: Ints
    ids: Ints
    tokens: Ints
    output_ids: Ints | None = None


@dataclass(frozen=True, slots=True)
class Workload:
    """The requests of one run, in order of arrival.

    ``arrival_s`` [n] seconds from the start, non-decreasing (all zero in a closed loop); ``input_tokens`` ≥ 1
    and ``output_tokens`` ≥ 0 [n] (0: prefill only; the request ends with its prompt).
    ``priority`` [n]: smaller is more urgent. ``segments``: shared prompt content (absent: nothing is shared).
    ``names`` [n]: ids from the trace (absent: the index).

    ``max_in_flight``: the client holds a request back until fewer than that many are in flight.
    ``concurrency``: a closed loop of that many users; each sends its next request ``think_s`` [n] seconds
    after its previous one finished (``think_s[i]`` is the pause before request ``i`` is sent).

    ``after`` [n]: the index of the request whose finish it waits for (−1: none), smaller than its own; it is
    sent ``delay_s`` [n] later (tool time, think time), and not before its ``arrival_s``.

    ``tenant``, ``session``, ``deadline_s`` (after its arrival), ``predicted_tokens``, ``adapter``,
    ``encoder_tokens`` [n]: see ``scheduling.local.Traits``; absent: as there by default. ``image_tokens``:
    those of one image (absent: all of a request are one); they stand at the end of the prompt.

    ``notes``: what a reader of the results should know of the input (rows dropped and why, rules of thumb
    used).
    """

    arrival_s: Floats
    input_tokens: Ints
    output_tokens: Ints
    priority: Ints | None = None
    segments: Segments | None = None
    names: list[str] | None = None
    max_in_flight: int | None = None
    concurrency: int | None = None
    think_s: Floats | None = None
    after: Ints | None = None
    delay_s: Floats | None = None
    tenant: Ints | None = None
    session: Ints | None = None
    deadline_s: Floats | None = None
    predicted_tokens: Ints | None = None
    adapter: Ints | None = None
    encoder_tokens: Ints | None = None
    image_tokens: int | None = None
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.arrival_s)
