"""How long a step takes: the interfaces between the engine, the operators and every source of their times.

A *source* (``OperatorCost``) turns operators with shapes into times: a ``RowTime`` for what depends on the
number of rows alone (GEMM, experts, elementwise, collectives), an ``AttentionTime`` for attention. Measured
tables, the fitted model, the roofline and a user's own simulator are such sources; ``tokensim.cost.step``
asks them in order and compiles what they answer, so that the loop of the engine looks up nothing by name.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from tokensim.hardware.base import Device
from tokensim.model.operators import Operator
from tokensim.workload.base import Floats, Ints

How = Literal["exact", "interpolated", "extrapolated", "fitted", "roofline"]
"""How a time is known. ``exact``: measured at this very shape; ``interpolated``: between measured shapes;
``extrapolated``: beyond them; ``fitted``: the fitted model; ``roofline``: peaks and bandwidths alone."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where one time comes from: ``how`` it is known, the ``source`` that knows it (for people), and its
    relative ``error`` where that is known (median of the source's own held-out check)."""

    how: How
    source: str
    error: float | None = None


@dataclass(frozen=True, slots=True)
class Setting:
    """What sources may need to know besides the operators: one rank of one model on one device.

    ``engine`` and ``version`` are the serving engine's name (``vllm``, ``sglang``, ``trtllm``) and version;
    ``model`` is the model's id. ``tensor``, ``expert`` and ``data`` are the degrees of parallelism.
    ``own_links``: a node connects devices as it did where operators of this device were measured. ``scaled``
    is the device that the times are for in the end, where that is not ``device`` (``cost.carried``); no
    source needs to know.
    """

    device: Device
    model: str
    engine: str = "vllm"
    version: str = ""
    activation_dtype: str = "bfloat16"
    kv_dtype: str = "bfloat16"
    tensor: int = 1
    expert: int = 1
    data: int = 1
    own_links: bool = True
    scaled: Device | None = None

    def measured_links(self, ranks: int) -> bool:
        """Whether a collective among ``ranks`` devices that was measured holds here: all tables are of one
        node."""
        return self.own_links and ranks <= self.device.devices_per_node


class RowTime(Protocol):
    """The time of an operator that depends on the number of rows (tokens, or samples) of a step alone."""

    def seconds(self, rows: Floats) -> Floats:
        """Seconds of all the ``count`` runs of the operator in one step, for each number of ``rows`` ≥ 1."""
        ...

    def origin(self, rows: float) -> Origin:
        """Where the answer for ``rows`` comes from."""
        ...


@dataclass(frozen=True, slots=True)
class DecodeCurve:
    """Seconds of decode attention (all its layers) of a fixed number of requests, against their mean context.

    Linear between the ascending ``contexts`` (tokens attended to, the one being decoded included); the first
    and the last piece go on beyond them, never below zero seconds. At least two points. ``skew`` is what a
    batch of unequal contexts adds: seconds = curve(mean) + skew · (curve(longest) − curve(mean)).
    """

    contexts: tuple[float, ...]
    seconds: tuple[float, ...]
    skew: float = 0.0

    def at(self, context: float) -> float:
        """Seconds at a mean ``context``, of equal ones."""
        x, y = self.contexts, self.seconds
        i = min(max(bisect_left(x, context), 1), len(x) - 1)
        return y[i - 1] + (y[i] - y[i - 1]) * (context - x[i - 1]) / (x[i] - x[i - 1])


class AttentionTime(Protocol):
    """The time of one attention operator (all ``count`` layers of it) in a step.

    Contexts are already capped at the operator's sliding window, if it has one. ``needs_longest``: unequal
    contexts cost something, so that the engine must keep the longest (else it passes 0).
    """

    @property
    def needs_longest(self) -> bool:
        """See above."""
        ...

    def decode(self, requests: int) -> DecodeCurve:
        """The curve for steps in which ``requests`` ≥ 1 decode and nothing else runs."""
        ...

    def mixed(
        self, chunks: Sequence[tuple[int, int]], requests: int, context: float, longest: float
    ) -> float:
        """Seconds in a step with prefill ``chunks`` of (new tokens, tokens cached before), at least one, and
        ``requests`` ≥ 0 decodes whose contexts sum to ``context``, the longest being ``longest``."""
        ...

    def origin(
        self, chunks: Sequence[tuple[int, int]], requests: int, context: float, longest: float
    ) -> Origin:
        """Where the answer for such a step comes from (``chunks`` may be empty)."""
        ...


Times = Mapping[str, RowTime | AttentionTime]
"""Times by the operator's name."""


class OperatorCost(Protocol):
    """A source of operator times. Registered ones are made as ``Source(setting, **options)``."""

    name: str
    """For people, in tables and errors."""

    # A source whose attribute ``bidirectional`` is true also prices attention that is not causal; it is not
    # required, and one without it is not asked for that.

    def price(self, operators: Sequence[Operator]) -> Times:
        """Times of those of ``operators`` that this source knows, by name; the next source gets the rest.

        An ``Attention`` gets an ``AttentionTime``, everything else a ``RowTime``. Where one measurement
        covers several operators, one of them gets its time, the others a ``RowTime`` of zero.
        """
        ...


@dataclass(frozen=True, slots=True)
class Together:
    """What data-parallel ranks that step together add to ``StepColumns``, entry by entry.

    ``rows`` tokens are what the rank ran, padding included (0: an entry of an instance that steps alone),
    ``pooled_rows`` the mean of all ranks, and ``exchanged_rows`` those that collectives last as long for as
    if every rank had so many; ``wait_s`` is what it waited for the slowest, over all the steps.
    """

    rows: Ints
    pooled_rows: Floats
    exchanged_rows: Floats
    wait_s: Floats


@dataclass(frozen=True, slots=True)
class Drafting:
    """What speculative decoding adds to ``StepColumns``, entry by entry (single steps).

    ``drafts`` rows are verified beside the decodes; ``first_s`` and ``later_s`` are the seconds of the
    drafter's first pass and of its later ones, ``search_s`` those of a search on the host.
    """

    drafts: Ints
    first_s: Floats
    later_s: Floats
    search_s: Floats


@dataclass(frozen=True, slots=True)
class StepColumns:
    """What was run, one entry a run of ``steps`` equal steps (a single step has ``steps`` 1).

    ``decode`` requests decode in each step, with ``context`` = C and ``window_context`` = W at the first one;
    each later step adds ``decode`` to C and ``window_growth`` to W. ``longest`` is the longest context among
    them (0 where nobody asked for it), ``clock_share`` how much longer compute-bound rows took than at the
    full clock, ``seconds`` what all the steps took. ``chunk_tokens``/``chunk_context`` are prefill chunks
    (new tokens, tokens cached before), ``chunk_row`` the entry that each belongs to. ``samples`` is the
    number of rows that need logits, in each step. An entry of a rank that steps together with others may be a
    dummy: nothing decodes, there are no chunks, and ``together`` says what it ran. ``encoder_s``: what an
    encoder of images added to the entry; ``adapters``: the number of different ones in each step;
    ``copies_s``: how much longer the entry took for copies of KV and adapters (absent: none).
    """

    steps: Ints
    decode: Ints
    context: Floats
    window_context: Floats
    window_growth: Floats
    longest: Floats
    clock_share: Floats
    seconds: Floats
    samples: Ints
    chunk_row: Ints
    chunk_tokens: Ints
    chunk_context: Ints
    together: Together | None = None
    encoder_s: Floats | None = None
    adapters: Ints | None = None
    copies_s: Floats | None = None
    drafting: Drafting | None = None


@dataclass(frozen=True, slots=True)
class OperatorTime:
    """Time that one operator took over a whole run: where it went, why, and how that is known."""

    operator: str
    kind: str  # gemm | attention | moe | elementwise | collective | host
    seconds: float
    flops: float
    bytes: float
    bound_seconds: dict[str, float]  # compute | memory | network | host → seconds
    source: str  # how most of its time is known: exact | interpolated | extrapolated | fitted | roofline


@dataclass(frozen=True, slots=True)
class Activity:
    """How hard the device works, one entry a run of equal steps, summed over the steps of the entry.

    ``compute_s`` and ``memory_s``: what arithmetic and traffic would take at the device's peaks;
    ``network_s``: what collectives take. ``prefill_share`` of the work is prefill's, the rest decode's; NaN
    where neither runs (a dummy step).
    """

    compute_s: Floats
    memory_s: Floats
    network_s: Floats
    prefill_share: Floats


class StepEstimate(Protocol):
    """How long steps last."""

    window: int | None
    """The sliding window (tokens) whose capped context sum the engine must keep; None if there is none."""

    def decode_run(
        self, decode: int, context: float, window_context: float, window_growth: float, longest: float
    ) -> tuple[float, float, int]:
        """Decode-only steps of ``decode`` ≥ 1 requests: (seconds of the first, what each later one lasts
        longer, for how many steps ≥ 1 that holds).

        C is ``context`` in the first step and grows by ``decode`` a step, W is ``window_context`` and grows
        by ``window_growth``, the longest context grows by 1.
        """
        ...

    def step_time(
        self,
        decode: int,
        context: float,
        window_context: float,
        longest: float,
        chunks: Sequence[tuple[int, int]],
        samples: int,
    ) -> float:
        """Seconds of one step with prefill ``chunks`` of (tokens, cached before) beside the decodes."""
        ...


class StepCost(StepEstimate, Protocol):
    """The price of steps of one model on one device under one parallel plan, compiled once."""

    needs_longest: bool
    """Whether the engine must keep the longest context of the decoding requests (else it passes 0)."""

    def compute_time(self, tokens: int) -> float:
        """Of a step of ``tokens`` rows, the seconds in GEMMs and experts that are bound by arithmetic."""
        ...

    def adapters_time(self, tokens: int, adapters: int) -> float:
        """Seconds that a step of ``tokens`` rows lasts longer for so many different ``adapters`` ≥ 1."""
        ...

    def breakdown(self, steps: StepColumns) -> list[OperatorTime]:
        """Where the time of all these steps went, by operator; the seconds sum to the steps' total."""
        ...

    def activity(self, steps: StepColumns) -> Activity:
        """How hard the device works in each entry of ``steps``."""
        ...
