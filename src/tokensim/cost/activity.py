"""How hard the device works in each run of equal steps: arithmetic, traffic, exchange; in seconds.

What a device draws follows what it does, so that energy needs the work of each entry of the log, not of the
whole run. Work is counted as the seconds that it would take at the peak rate: FLOPs at the rate of their
dtype, bytes at the bandwidth of the memory; collectives by the time that they take.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tokensim.cost.base import Activity, StepColumns
from tokensim.cost.breakdown import adapted, chunk_sums, contexts_of, rows_run
from tokensim.cost.step import AttentionPart, CompiledStepCost, RowPart
from tokensim.workload.base import Floats


@dataclass(slots=True)
class _Work:
    """Seconds at the peaks, entry by entry."""

    compute_s: Floats
    memory_s: Floats

    def add(self, flops: Floats, moved: Floats, part: RowPart | AttentionPart) -> None:
        """``flops`` and bytes ``moved`` of all runs of ``part`` in each entry."""
        self.compute_s += flops * (part.op.count * part.ideal_s_per_flop)
        self.memory_s += moved * (part.op.count * part.ideal_s_per_byte)

    @property
    def total(self) -> Floats:
        """Both together."""
        return self.compute_s + self.memory_s


def activity(cost: CompiledStepCost, steps: StepColumns) -> Activity:
    """See ``StepCost.activity``.

    Operators that depend on rows alone are shared between prefill and decode by tokens, attention is told
    apart exactly. What padding to captured CUDA graphs adds is work too.
    """
    size = len(steps.steps)
    times = steps.steps.astype(np.float64)
    rows_work, prefill, decode = (_Work(np.zeros(size), np.zeros(size)) for _ in range(3))
    network_s = np.zeros(size)
    for parts, rows, _ in rows_run(cost, steps):
        some = rows > 0
        values, which = np.unique(rows[some], return_inverse=True)
        for part in parts:
            if part.kind == "collective":
                network_s[some] += part.time.seconds(values)[which] * times[some]
                continue
            flops, moved = np.zeros(size), np.zeros(size)
            flops[some] = part.work.flops(values)[which]
            moved[some] = part.work.bytes(values)[which]
            rows_work.add(flops * times, moved * times, part)
    new = np.bincount(steps.chunk_row, weights=steps.chunk_tokens, minlength=size)
    # Drafts that are verified are rows beside the decodes; the cache is read once for all rows of a request.
    verified = steps.decode + (0 if steps.drafting is None else steps.drafting.drafts)
    if cost.adapters is not None and steps.adapters is not None:
        for count, adapters, entries in adapted(steps, new):
            compute_s, memory_s = cost.adapters.peak_seconds(count, adapters)
            rows_work.compute_s[entries] += compute_s * times[entries]
            rows_work.memory_s[entries] += memory_s * times[entries]
    for attention in cost.attention_parts:
        work = attention.work
        pairs, reads = chunk_sums(attention, steps)
        moved = work.bytes_token * reads + work.bytes_query * new
        prefill.add(work.prefill_flops_pair * pairs, moved, attention)
        contexts = contexts_of(attention, steps)
        moved = work.bytes_token * contexts + work.bytes_query * verified * times
        rows_each = np.divide(verified, steps.decode, out=np.ones(size), where=steps.decode > 0)
        decode.add(work.flops_pair * contexts * rows_each, moved, attention)
    tokens = new + verified
    by_tokens = np.divide(new, tokens, out=np.full(size, np.nan), where=tokens > 0)
    total = rows_work.total + prefill.total + decode.total
    mine = rows_work.total * by_tokens + prefill.total
    return Activity(
        compute_s=rows_work.compute_s + prefill.compute_s + decode.compute_s,
        memory_s=rows_work.memory_s + prefill.memory_s + decode.memory_s,
        network_s=network_s,
        prefill_share=np.divide(mine, total, out=by_tokens, where=total > 0),
    )
