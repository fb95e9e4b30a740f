"""Where the time of a whole run went: by operator, by what binds it, and how it is known.

Computed afterwards from the columns that the recorder kept, so that the loop pays nothing. The time of
attention in steps with prefill chunks is what the steps took less everything else, so that the parts sum to
the run; only where the host was slower than the device is it asked for anew.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from tokensim.cost.base import OperatorTime, StepColumns
from tokensim.cost.ranks import parts_of
from tokensim.cost.step import CLOCKED, AttentionPart, CompiledStepCost, Line, RowPart
from tokensim.cost.work import pairs_and_reads_array
from tokensim.workload.base import Floats, Ints

Indices = npt.NDArray[np.intp]

EQUAL = 1e-12
"""Durations that differ by this share at most are the same, but for rounding."""


@dataclass(slots=True)
class _Tally:
    """Sums for one operator."""

    kind: str
    how: str = "roofline"
    flops: float = 0.0
    bytes: float = 0.0
    bounds: dict[str, float] = field(default_factory=dict)

    def add(self, bound: str, seconds: float) -> None:
        """``seconds`` more under ``bound``."""
        if seconds:
            self.bounds[bound] = self.bounds.get(bound, 0.0) + float(seconds)

    def result(self, operator: str) -> OperatorTime:
        """The sums as the interface wants them."""
        seconds = math.fsum(self.bounds.values())
        return OperatorTime(operator, self.kind, seconds, self.flops, self.bytes, self.bounds, self.how)


def breakdown(cost: CompiledStepCost, steps: StepColumns) -> list[OperatorTime]:
    """See ``StepCost.breakdown``: operators in the order of a step, the host last.

    What the host does not hide, and what the device waits for it, counts as ``host``; what a data-parallel
    rank waits for the slowest, as a collective of the name ``wait_for_ranks``; what an encoder of images
    added, as ``vision_encoder``, all of it bound by arithmetic; what copies of KV and adapters add, as
    ``wait_for_copies``.
    """
    times = steps.steps.astype(np.float64)
    size = len(times)
    if not size:
        return []
    new = np.bincount(steps.chunk_row, weights=steps.chunk_tokens, minlength=size)
    chunks = np.bincount(steps.chunk_row, minlength=size)
    tallies: dict[str, _Tally] = {}
    left = steps.seconds.copy()
    left -= _add_extras(tallies, cost, steps, new)
    alone_s = left.copy()  # without encoders, copies and adapters
    slowed_s = np.zeros(size)  # what falling clocks added
    if steps.drafting is not None:
        left -= steps.drafting.first_s + steps.drafting.later_s
    if steps.together is not None:
        left -= steps.together.wait_s
        waits = {"network": float(steps.together.wait_s.sum())}
        tallies["wait_for_ranks"] = _Tally("collective", bounds=waits)
    for parts, rows, of_tokens in rows_run(cost, steps):
        values, which = np.unique(rows, return_inverse=True)
        counts = np.bincount(which, weights=times, minlength=len(values)).astype(np.float64)
        slowed = np.bincount(which, weights=times * steps.clock_share, minlength=len(values))
        some = values > 0
        seconds, clocked = np.zeros(len(values)), np.zeros(len(values))
        for part in parts:
            tally = tallies.setdefault(part.op.name, _Tally(part.kind))
            own = _add_rows(tally, part, values[some], counts[some])
            seconds[some] += own
            if part.kind in CLOCKED and of_tokens:
                compute = np.where(part.compute_bound(values[some]), own, 0.0)
                clocked[some] += compute
                tally.add("compute", float(compute @ slowed[some]))
        left -= (seconds[which] + clocked[which] * steps.clock_share) * times
        slowed_s += clocked[which] * steps.clock_share * times
    decoding = [_decode_seconds(cost, part, steps) for part in cost.attention_parts]
    mixed = new > 0
    busy_s = cost.host.step_s + cost.host.request_s * (steps.decode + chunks)
    known_host = times * (cost.host.gap_s + (0.0 if cost.host.asynchronous else busy_s))
    if steps.drafting is not None:
        known_host = known_host + steps.drafting.search_s
    of_decodes = sum(decoding, np.zeros(size))
    attention_s = np.where(mixed, np.maximum(left - known_host, 0.0), of_decodes)
    if cost.host.asynchronous:
        host_s = times * (busy_s + cost.host.gap_s)
        exposed = np.flatnonzero(mixed & (alone_s - slowed_s <= host_s * (1.0 + EQUAL)))
        attention_s[exposed] = np.minimum(_mixed_seconds(cost, steps, exposed), attention_s[exposed])
    of_chunks = np.maximum(attention_s - of_decodes, 0.0)
    # In a mixed step attention may take less than its decodes alone would (they overlap with the chunks).
    shrink = np.minimum(1.0, np.divide(attention_s, of_decodes, out=np.ones(size), where=of_decodes > 0))
    shares = _shares_of_chunks(cost, steps)
    for attention, alone, share in zip(cost.attention_parts, decoding, shares, strict=True):
        tally = tallies.setdefault(attention.op.name, _Tally("attention"))
        _add_attention(tally, attention, steps, alone * shrink, of_chunks * share)
    left -= of_decodes * shrink + of_chunks
    tallies["host"] = _Tally("host", how="fitted", bounds={"host": float(left.sum())})
    return [tally.result(name) for name, tally in tallies.items()]


def _add_extras(
    tallies: dict[str, _Tally], cost: CompiledStepCost, steps: StepColumns, new: npt.NDArray[Any]
) -> Floats:
    """Encoders of images, copies that held steps up, and the kernels of adapters; returns their seconds in
    each entry."""
    extra_s = np.zeros(len(steps.steps))
    if steps.encoder_s is not None:
        tallies["vision_encoder"] = _Tally("encoder", bounds={"compute": float(steps.encoder_s.sum())})
        extra_s += steps.encoder_s
    if steps.copies_s is not None and steps.copies_s.any():
        tallies["wait_for_copies"] = _Tally("copies", bounds={"network": float(steps.copies_s.sum())})
        extra_s += steps.copies_s
    if cost.adapters is not None and steps.adapters is not None and steps.adapters.any():
        tallies["adapters"] = tally = _Tally("gemm")
        for rows, adapters, entries in adapted(steps, new):
            times = steps.steps[entries].astype(np.float64)
            seconds = cost.adapters.seconds(rows, adapters)
            compute_s, memory_s = cost.adapters.peak_seconds(rows, adapters)
            flops, moved = cost.adapters.work(rows, adapters)
            tally.add("compute" if compute_s > memory_s else "memory", seconds * float(times.sum()))
            tally.flops += flops * float(times.sum())
            tally.bytes += moved * float(times.sum())
            extra_s[entries] += seconds * times
    return extra_s


def adapted(steps: StepColumns, new: npt.NDArray[Any]) -> Iterator[tuple[int, int, Indices]]:
    """The entries with adapters, those of one shape together: (rows of a step, adapters, indices); ``new``
    are the prefill tokens of each entry."""
    assert steps.adapters is not None
    some = np.flatnonzero(steps.adapters)
    rows = steps.decode[some] + new[some].astype(np.int64)
    shapes, which = np.unique(np.column_stack([rows, steps.adapters[some]]), axis=0, return_inverse=True)
    for number, (tokens, adapters) in enumerate(shapes.tolist()):
        yield tokens, adapters, some[which.ravel() == number]


def rows_run(cost: CompiledStepCost, steps: StepColumns) -> Iterator[tuple[list[RowPart], Floats, bool]]:
    """The operators that depend on rows alone, in groups: (operators, the rows that they run in each entry,
    whether these are tokens)."""
    size = len(steps.steps)
    new = np.bincount(steps.chunk_row, weights=steps.chunk_tokens, minlength=size)
    tokens = steps.decode.astype(np.float64) + new
    if steps.drafting is not None:
        tokens += steps.drafting.drafts
    padded = cost.padded(tokens)
    own, pooled, exchanged = padded, padded, padded
    together = steps.together
    if together is not None:
        own = np.where(together.rows > 0, together.rows, padded)
        pooled = np.where(together.rows > 0, together.pooled_rows, padded)
        exchanged = np.where(together.rows > 0, together.exchanged_rows, padded)
    yield parts_of(cost, "own"), own, True
    yield parts_of(cost, "pooled"), pooled, True
    yield parts_of(cost, "exchange"), exchanged, True
    yield cost.sample_parts, steps.samples.astype(np.float64), False


def _add_rows(tally: _Tally, part: RowPart, rows: Floats, counts: Floats) -> Floats:
    """Steps of ``rows`` rows, each ``counts`` times; returns the seconds of one step of each."""
    if not len(rows):
        return rows
    seconds = part.time.seconds(rows)
    if part.kind == "collective":
        tally.add("network", float(seconds @ counts))
    else:
        compute = part.compute_bound(rows)
        tally.add("compute", float(np.where(compute, seconds, 0.0) @ counts))
        tally.add("memory", float(np.where(compute, 0.0, seconds) @ counts))
    tally.flops += part.op.count * float(part.work.flops(rows) @ counts)
    tally.bytes += part.op.count * float(part.work.bytes(rows) @ counts)
    tally.how = part.time.origin(float(rows[np.argmax(seconds * counts)])).how
    return seconds


def _decode_seconds(cost: CompiledStepCost, part: AttentionPart, steps: StepColumns) -> Floats:
    """Seconds of the decodes of each entry, all its steps (an entry lies on one piece of each line)."""
    seconds = np.zeros(len(steps.steps))
    later = (steps.steps - 1).astype(np.float64)
    growth = (steps.decode.astype(np.float64), steps.window_growth, np.ones(len(later)))
    first = (steps.context, steps.window_context, steps.longest)
    for decode, rows in _by_value(steps.decode):
        if not decode:
            continue
        for line in cost.decode_lines(part, decode):
            x = first[line.of][rows]
            ends = _evaluate(line, x) + _evaluate(line, x + later[rows] * growth[line.of][rows])
            seconds[rows] += ends / 2 * steps.steps[rows]
    if steps.drafting is not None:  # more rows a request, which may make arithmetic bind
        rows_each = 1.0 + steps.drafting.drafts / np.maximum(steps.decode, 1)
        context = steps.context if part.op.window is None else steps.window_context
        verified = part.arithmetic_s(1.0) * rows_each * context
        seconds = np.where(steps.drafting.drafts > 0, np.maximum(seconds, verified), seconds)
    return seconds


def _mixed_seconds(cost: CompiledStepCost, steps: StepColumns, rows: Indices) -> Floats:
    """Seconds of attention in the entries ``rows``, single steps with chunks."""
    order = np.argsort(steps.chunk_row, kind="stable")
    ends = np.searchsorted(steps.chunk_row[order], rows, side="right").tolist()
    starts = np.searchsorted(steps.chunk_row[order], rows).tolist()
    tokens, before = steps.chunk_tokens[order].tolist(), steps.chunk_context[order].tolist()
    seconds = np.zeros(len(rows))
    for at, (row, first, last) in enumerate(zip(rows.tolist(), starts, ends, strict=True)):
        chunks = list(zip(tokens[first:last], before[first:last], strict=True))
        seconds[at] = cost.mixed_attention(
            int(steps.decode[row]),
            float(steps.context[row]),
            float(steps.window_context[row]),
            float(steps.longest[row]),
            chunks,
        )
    return seconds


def _by_value(column: Ints) -> Iterator[tuple[int, Indices]]:
    """(value, indices of the entries that have it) of a column."""
    order = np.argsort(column, kind="stable")
    values, starts = np.unique(column[order], return_index=True)
    yield from zip(values.tolist(), np.split(order, starts[1:]), strict=True)


def _evaluate(line: Line, x: Floats) -> Floats:
    piece = np.searchsorted(np.asarray(line.knots), x)
    values: Floats = np.asarray(line.base)[piece] + np.asarray(line.slope)[piece] * x
    return values


def _shares_of_chunks(cost: CompiledStepCost, steps: StepColumns) -> list[Floats]:
    """What each attention operator has of the pairs of the chunks of each entry; they sum to 1."""
    pairs = []
    for part in cost.attention_parts:
        seen, _ = chunk_sums(part, steps)
        pairs.append(seen * part.work.prefill_flops_pair * part.op.count)
    total = sum(pairs, np.zeros(len(steps.steps)))
    return [np.divide(own, total, out=np.zeros(len(total)), where=total > 0) for own in pairs]


def chunk_sums(part: AttentionPart, steps: StepColumns) -> tuple[Floats, Floats]:
    """(pairs, tokens read) of the chunks of each entry."""
    pairs, reads = pairs_and_reads_array(
        steps.chunk_tokens.astype(np.float64), steps.chunk_context.astype(np.float64), part.op.window
    )
    size = len(steps.steps)
    return (
        np.bincount(steps.chunk_row, weights=pairs, minlength=size).astype(np.float64),
        np.bincount(steps.chunk_row, weights=reads, minlength=size).astype(np.float64),
    )


def contexts_of(part: AttentionPart, steps: StepColumns) -> Floats:
    """The sum of the decodes' contexts over all steps of each entry."""
    times = steps.steps.astype(np.float64)
    windowed = part.op.window is not None
    first = steps.window_context if windowed else steps.context
    growth = steps.window_growth if windowed else steps.decode
    return np.asarray(times * first + times * (times - 1.0) / 2.0 * growth)


def _add_attention(
    tally: _Tally, part: AttentionPart, steps: StepColumns, decodes_s: Floats, chunks_s: Floats
) -> None:
    work, count = part.work, part.op.count
    times = steps.steps.astype(np.float64)
    first = steps.context if part.op.window is None else steps.window_context
    contexts = float(contexts_of(part, steps).sum())
    decodes = float(times @ steps.decode)
    pairs, reads = chunk_sums(part, steps)
    new = float(steps.chunk_tokens.sum())
    flops_s, bytes_s = part.ideal_s_per_flop, part.ideal_s_per_byte
    heavy = work.flops_pair * flops_s > work.bytes_token * bytes_s
    tally.add("compute" if heavy else "memory", float(decodes_s.sum()))
    compute = work.prefill_flops_pair * pairs * flops_s > work.bytes_token * reads * bytes_s
    tally.add("compute", float(chunks_s[compute].sum()))
    tally.add("memory", float(chunks_s[~compute].sum()))
    tally.flops += count * (work.flops_pair * contexts + work.prefill_flops_pair * float(pairs.sum()))
    tally.bytes += count * (
        work.bytes_token * (contexts + float(reads.sum())) + work.bytes_query * (decodes + new)
    )
    if float(decodes_s.sum()) >= float(chunks_s.sum()):
        row = int(np.argmax(decodes_s))
        tally.how = part.time.origin(
            (), int(steps.decode[row]), float(first[row]), float(steps.longest[row])
        ).how
    else:
        row = int(np.argmax(chunks_s))
        own = steps.chunk_row == row
        chunks = list(zip(steps.chunk_tokens[own].tolist(), steps.chunk_context[own].tolist(), strict=True))
        tally.how = part.time.origin(
            chunks, int(steps.decode[row]), float(first[row]), float(steps.longest[row])
        ).how
