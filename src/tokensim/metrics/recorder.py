"""Takes notes during a run, as packed rows: one a request when it ends, one a run of equal steps.

Packing a dozen numbers into a ``bytearray`` is the cheapest way in Python to keep them: an eighth of the time
of extending an ``array``. ``log`` hands the notes over as numpy columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from tokensim.cost.base import Drafting, StepColumns, Together
from tokensim.metrics.log import (
    STATUSES,
    HandoverRows,
    LinkUse,
    LoadRows,
    RequestColumns,
    RunLog,
    StepRows,
    TransferRows,
    Verified,
)

if TYPE_CHECKING:
    from tokensim.workload.base import Floats, Ints, Workload

UNFINISHED, FINISHED, TRUNCATED, REJECTED, FAILED, CANCELLED = range(len(STATUSES))

TIMES = {
    "arrival_s",
    "scheduled_s",
    "first_token_s",
    "finish_s",
    "start_s",
    "first_step_s",
    "clock_share",
    "copies_s",
    "growth_s",
    "end_s",
    "waited_s",
    "bytes",
    "stopped_s",
    "granted_s",
    "arrived_s",
}
"""The columns that are doubles; the others are 64-bit integers."""

REQUEST_ROW = (
    "index",
    "instance",
    "arrival_s",
    "scheduled_s",
    "first_token_s",
    "finish_s",
    "output_tokens",
    "cached_tokens",
    "preemptions",
    "recomputed_tokens",
    "status",
)
STEP_ROW = (
    "instance",
    "start_s",
    "first_step_s",
    "clock_share",
    "growth_s",
    "steps",
    "decode",
    "context",
    "window_context",
    "window_growth",
    "longest",
    "samples",
    "running",
    "waiting",
    "used_blocks",
    "first_blocks",
    "waited_s",
    "chunks",
    "adapters",
    "copies_s",
)
TRANSFER_ROW = ("start_s", "end_s", "bytes", "source", "target", "kind", "arrived")

HANDOVER_ROW = (
    "request",
    "source",
    "preemptions",
    "migrates",
    "stopped_s",
    "granted_s",
    "arrived_s",
    "bytes",
)
LOAD_ROW = ("request", "tier", "hit_tokens", "tokens", "bytes", "start_s", "end_s")


def _codes(row: tuple[str, ...]) -> str:
    return "".join("d" if name in TIMES else "q" for name in row)


PACK_REQUEST = Struct(_codes(REQUEST_ROW)).pack
PACK_STEP = Struct(_codes(STEP_ROW)).pack
PACK_CHUNK = Struct("qq").pack
PACK_GAP = Struct("dq").pack
PACK_DELIVERY = Struct("qqd").pack
PACK_TOGETHER = Struct("qqddd").pack
PACK_HANDOVER = Struct(_codes(HANDOVER_ROW)).pack
PACK_TRANSFER = Struct(_codes(TRANSFER_ROW)).pack
PACK_ENCODER = Struct("qd").pack
PACK_LOAD = Struct(_codes(LOAD_ROW)).pack
PACK_IDLE = Struct("qq").pack
PACK_DRAFTING = Struct("qqddd").pack
STEP_BYTES = Struct(_codes(STEP_ROW)).size


class MovedBytes(Protocol):
    """What is noted of a transfer: see ``TransferRows``."""

    start_s: float
    moved: float
    source: int
    target: int
    kind: str


class Recorder:
    """The notes of one run.

    ``requests`` and ``steps`` are rows with the columns above, packed by ``PACK_REQUEST`` and ``PACK_STEP``;
    ``chunks`` are (tokens, computed before) of each prefill chunk, packed by ``PACK_CHUNK``, and ``gaps`` the
    corrections (seconds, weight) of ``RunLog``, packed by ``PACK_GAP``. ``deliveries`` (request, whether its
    last token, when) are what front ends sent to the client, packed by ``PACK_DELIVERY``. ``together``
    (number of a row of ``steps``, rows, pooled rows, exchanged rows, seconds of waiting) are the columns of
    ``cost.base.Together``, packed by ``PACK_TOGETHER``. ``transfers`` are rows packed by ``PACK_TRANSFER``,
    their kinds by number in ``transfer_kinds``. ``encoders`` (number of a row of ``steps``, seconds)
    are what encoders of images added to steps, packed by ``PACK_ENCODER``. ``loads`` from memory
    tiers are rows with the columns of ``LoadRows``, packed by ``PACK_LOAD``. ``idle`` (number of a row of
    ``steps``, how many of its decodes are rows of requests that have finished), packed by ``PACK_IDLE``.
    ``drafting``, as ``together``, (number of a row, drafts,
    seconds of the first pass, of later ones, of the search) those of ``cost.base.Drafting``.
    ``explicit_gaps`` are the instances of which all gaps stand in ``gaps``, ``later_stages`` those that are a
    stage but the first of a pipeline; ``verified`` is what each that speculates has come to so far.
    ``handovers`` are rows with the columns of ``HandoverRows``, packed by ``PACK_HANDOVER``; ``failures``
    (when, index of the replica) and ``retries`` (index of the request), one each time.
    """

    def __init__(self) -> None:
        self.requests = bytearray()
        self.steps = bytearray()
        self.chunks = bytearray()
        self.gaps = bytearray()
        self.deliveries = bytearray()
        self.together = bytearray()
        self.encoders = bytearray()
        self.loads = bytearray()
        self.handovers = bytearray()
        self.failures: list[tuple[float, int]] = []
        self.retries: list[int] = []
        self.transfers = bytearray()
        self.transfer_kinds: dict[str, int] = {}
        self.idle = bytearray()
        self.drafting = bytearray()
        self.explicit_gaps: set[int] = set()
        self.later_stages: set[int] = set()
        self.verified: dict[int, Verified] = {}

    def transfer(self, transfer: MovedBytes, now: float, arrived: bool) -> None:
        """``transfer`` ended ``now``: it ``arrived``, or was cancelled."""
        kind = self.transfer_kinds.setdefault(transfer.kind, len(self.transfer_kinds))
        self.transfers += PACK_TRANSFER(
            transfer.start_s, now, transfer.moved, transfer.source, transfer.target, kind, arrived
        )

    def encoded(self, seconds: float) -> None:
        """The step that is noted next took ``seconds`` longer for an encoder."""
        self.encoders.extend(PACK_ENCODER(len(self.steps) // STEP_BYTES, seconds))

    def note_idle(self, rows: int) -> None:
        """The next row of ``steps`` has so many decodes of requests that have finished."""
        self.idle.extend(PACK_IDLE(len(self.steps) // STEP_BYTES, rows))

    def forget(self, most_bytes: int) -> None:
        """Throw the notes away if they take more than ``most_bytes``: nobody will ask for a log."""
        notes = (
            *(self.requests, self.steps, self.chunks, self.gaps, self.deliveries, self.together),
            *(self.encoders, self.loads, self.handovers, self.transfers, self.idle, self.drafting),
        )
        if sum(map(len, notes)) > most_bytes:
            for note in notes:
                note.clear()
            self.failures.clear()
            self.retries.clear()

    def log(
        self,
        workload: Workload,
        *,
        end_s: float,
        complete: bool,
        num_blocks: list[int],
        wall_s: float,
        links: Sequence[LinkUse] = (),
    ) -> RunLog:
        """Everything as columns. In an incomplete run nothing after ``end_s`` has happened yet."""
        steps = _columns(self.steps, STEP_ROW)
        chunk_row = np.repeat(np.arange(len(steps["chunks"])), steps["chunks"])
        chunks = _columns(self.chunks, ("tokens", "before"))
        # An interruption may fall between a row and its chunks: the last ones may have no row.
        chunks = {name: column[: len(chunk_row)] for name, column in chunks.items()}
        prefill = np.bincount(chunk_row, chunks["tokens"], len(steps["chunks"])).astype(np.int64)
        gaps = np.frombuffer(self.gaps, [("seconds", "f8"), ("weight", "i8")])
        n, first, growth = steps["steps"], steps["first_step_s"], steps["growth_s"]
        drafting = self._drafting(len(n))
        return RunLog(
            requests=self._requests(workload, np.inf if complete else end_s),
            steps=StepRows(
                instance=steps["instance"],
                start_s=steps["start_s"],
                end_s=steps["start_s"] + n * first + growth * (n * (n - 1) / 2),
                first_step_s=first,
                last_step_s=first + growth * (n - 1),
                running=steps["running"],
                waiting=steps["waiting"],
                used_blocks=steps["used_blocks"],
                first_blocks=steps["first_blocks"],
                waited_s=steps["waited_s"],
                prefill_tokens=prefill,
                idle=self._idle(len(n)),
                what=StepColumns(
                    steps=n,
                    decode=steps["decode"],
                    context=steps["context"].astype(np.float64),
                    window_context=steps["window_context"].astype(np.float64),
                    window_growth=steps["window_growth"].astype(np.float64),
                    longest=steps["longest"].astype(np.float64),
                    clock_share=steps["clock_share"],
                    seconds=n * first + growth * (n * (n - 1) / 2),
                    samples=steps["samples"] if drafting is None else steps["samples"] + drafting.drafts,
                    chunk_row=chunk_row,
                    chunk_tokens=chunks["tokens"],
                    chunk_context=chunks["before"],
                    together=self._together(len(n)),
                    encoder_s=self._encoder_s(len(n)),
                    adapters=steps["adapters"],
                    copies_s=steps["copies_s"],
                    drafting=drafting,
                ),
            ),
            gap_s=np.ascontiguousarray(gaps["seconds"]),
            gap_weight=np.ascontiguousarray(gaps["weight"]),
            end_s=end_s,
            complete=complete,
            num_blocks=num_blocks,
            wall_s=wall_s,
            transfers=self._transfers(),
            links=tuple(links) if any(link.peak_transfers for link in links) else (),
            loads=LoadRows(**_columns(self.loads, LOAD_ROW)) if self.loads else None,
            explicit_gaps=frozenset(self.explicit_gaps),
            later_stages=frozenset(self.later_stages),
            verified=self._verified(),
            handovers=HandoverRows(**_columns(self.handovers, HANDOVER_ROW)) if self.handovers else None,
            retries=np.bincount(self.retries, minlength=len(workload)) if self.failures else None,
        )

    def _transfers(self) -> TransferRows | None:
        """The transfers that ended; None if there was none."""
        if not self.transfers:
            return None
        columns = _columns(self.transfers, TRANSFER_ROW)
        columns["arrived"] = columns["arrived"].astype(bool)
        return TransferRows(**columns, kinds=tuple(self.transfer_kinds))

    def _encoder_s(self, size: int) -> Floats | None:
        """What encoders added to each of ``size`` rows; None if there are none."""
        return _spread(self.encoders, size, (), ("seconds",))["seconds"] if self.encoders else None

    def _idle(self, size: int) -> Ints | None:
        """The column of idle decodes, for ``size`` rows; None if there are none."""
        return _spread(self.idle, size, ("rows",), ())["rows"] if self.idle else None

    def _together(self, size: int) -> Together | None:
        """The columns of ranks that step together, for ``size`` rows; None if there are none."""
        if not self.together:
            return None
        return Together(
            **_spread(self.together, size, ("rows",), ("pooled_rows", "exchanged_rows", "wait_s"))
        )

    def _verified(self) -> Verified | None:
        """All instances that speculate together."""
        if not self.verified:
            return None
        each = self.verified.values()
        return Verified(sum(v.rows for v in each), sum(v.drafts for v in each), sum(v.accepted for v in each))

    def _drafting(self, size: int) -> Drafting | None:
        """The columns of speculative decoding, for ``size`` rows; None if there are none."""
        if not self.drafting:
            return None
        return Drafting(**_spread(self.drafting, size, ("drafts",), ("first_s", "later_s", "search_s")))

    def _requests(self, workload: Workload, cut_s: float) -> RequestColumns:
        rows = _columns(self.requests, REQUEST_ROW)
        ahead = rows["finish_s"] > cut_s  # noted when its last step was scheduled
        rows["status"][ahead] = UNFINISHED
        rows["output_tokens"][ahead] = 0
        where = rows["index"]

        def times(name: str) -> Floats:
            column = np.full(len(workload), np.nan)
            column[where] = np.where(rows[name] <= cut_s, rows[name], np.nan)
            return column

        def counts(name: str, missing: int = 0) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
            column = np.full(len(workload), missing, np.int64)
            column[where] = rows[name]
            return column

        first_token_s, finish_s = times("first_token_s"), times("finish_s")
        sent = np.frombuffer(self.deliveries, [("index", "i8"), ("last", "i8"), ("time", "f8")])

        def delivered(engine_s: Floats, last: bool) -> Floats:
            column = engine_s.copy()
            own = sent[sent["last"] == last]
            column[own["index"]] = np.where(own["time"] <= cut_s, own["time"], np.nan)
            return column

        return RequestColumns(
            intended_s=workload.arrival_s,
            arrival_s=times("arrival_s"),
            scheduled_s=times("scheduled_s"),
            first_token_s=first_token_s,
            finish_s=finish_s,
            first_delivery_s=delivered(first_token_s, False),
            last_delivery_s=delivered(finish_s, True),
            input_tokens=workload.input_tokens,
            requested_output_tokens=workload.output_tokens,
            output_tokens=counts("output_tokens"),
            cached_tokens=counts("cached_tokens"),
            preemptions=counts("preemptions"),
            recomputed_tokens=counts("recomputed_tokens"),
            instance=counts("instance", -1),
            status=counts("status", UNFINISHED).astype(np.int8),
            names=workload.names,
            tenant=workload.tenant,
        )


def _spread(notes: bytearray, size: int, whole: tuple[str, ...], floats: tuple[str, ...]) -> dict[str, Any]:
    """``notes``, each (number of a row of ``steps``, ``whole`` numbers, ``floats``), as columns of ``size``
    rows; 0 where a row has no note."""
    kinds = [*((name, "i8") for name in whole), *((name, "f8") for name in floats)]
    noted = np.frombuffer(notes, [("row", "i8"), *kinds])
    noted = noted[noted["row"] < size]  # an interruption may fall between a note and its row
    columns = {name: np.zeros(size, kind) for name, kind in kinds}
    for name, column in columns.items():
        column[noted["row"]] = noted[name]
    return columns


def _columns(rows: bytearray, names: tuple[str, ...]) -> dict[str, Any]:
    table = np.frombuffer(rows, [(name, "f8" if name in TIMES else "i8") for name in names])
    return {name: np.ascontiguousarray(table[name]) for name in names}
