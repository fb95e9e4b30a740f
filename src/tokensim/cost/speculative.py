"""The cost of a step with speculative decoding: verify all drafts at once, then draft the next ones.

The target model runs one row for each request and draft, and needs logits for all of them. Its attention
reads the cache once for all rows of a request, so it takes what a decode of the requests takes, unless the
rows' arithmetic takes longer. Then the drafter runs as many passes as there are drafts to make: the first
over all rows of the step, which fills its own KV cache, the others over one row a request (``propose`` in
``vllm/v1/spec_decode/eagle.py``). N-gram drafts take time of the host instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from tokensim.cost.base import Activity, Drafting, OperatorTime, StepColumns
from tokensim.cost.step import CompiledStepCost
from tokensim.workload.base import Floats, Ints

NGRAM_TOKEN_S = 1e-9
"""Host time of an n-gram search for each token of context: vLLM's compiled search passes over the tokens
once (``ngram_proposer.py``); an estimate of one such pass."""


@dataclass(frozen=True, slots=True)
class DraftPasses:
    """What one pass of the drafter costs: the ``first`` of a step, and each ``later`` one."""

    first: CompiledStepCost
    later: CompiledStepCost


class Spent(NamedTuple):
    """Seconds of a step; of them those of the drafter's first pass, of its later ones, and of a search on the
    host."""

    step_s: float
    first_s: float
    later_s: float
    search_s: float


class SpeculativeStepCost:
    """The cost of steps that verify up to ``drafts`` drafts a request; ``passes`` None: n-gram drafts."""

    def __init__(self, target: CompiledStepCost, passes: DraftPasses | None, drafts: int) -> None:
        self.target = target
        self.passes = passes
        self.drafts = drafts
        self.window = target.window
        self.needs_longest = target.needs_longest

    def verify_time(
        self,
        decode: int,
        drafts: int,
        context: float,
        window_context: float,
        longest: float,
        chunks: Sequence[tuple[int, int]],
        samples: int,
    ) -> Spent:
        """Seconds of one step in which ``decode`` requests verify ``drafts`` drafts together.

        ``context`` (``window_context``) sums the tokens that each of them attends to at its last row;
        ``samples`` are the rows that need logits.
        """
        target, passes = self.target, self.passes
        shape = (decode, drafts, context, window_context, longest, chunks)
        tokens = decode + drafts + sum(new for new, _ in chunks)
        device_s = target.rows_time(tokens, samples) + _attention_time(target, *shape)
        requests = decode + len(chunks)
        if passes is None:
            search_s = NGRAM_TOKEN_S * context
            return Spent(target.host.step(device_s, requests) + search_s, 0.0, 0.0, search_s)
        capped = _capped(passes.first, decode, context)
        first_s = passes.first.rows_time(tokens, requests) + _attention_time(
            passes.first, decode, drafts, context, capped, longest, chunks
        )
        later_s = 0.0
        total = context + sum(new + before for new, before in chunks)
        furthest = max([longest, *(float(new + before) for new, before in chunks)])
        for ahead in range(1, self.drafts):
            seen = total + ahead * requests
            later_s += passes.later.rows_time(requests, requests) + sum(
                passes.later.decode_attention(
                    requests, seen, _capped(passes.later, requests, seen), furthest + ahead
                )
            )
        return Spent(target.host.step(device_s + first_s + later_s, requests), first_s, later_s, 0.0)

    def step_time(
        self,
        decode: int,
        context: float,
        window_context: float,
        longest: float,
        chunks: Sequence[tuple[int, int]],
        samples: int,
    ) -> float:
        """See ``StepCost.step_time``: of a step without drafts to verify."""
        return self.verify_time(decode, 0, context, window_context, longest, chunks, samples).step_s

    def decode_run(
        self, decode: int, context: float, window_context: float, window_growth: float, longest: float
    ) -> tuple[float, float, int]:
        """See ``StepCost.decode_run``: a single step, without drafts to verify."""
        return self.step_time(decode, context, window_context, longest, (), decode), 0.0, 1

    def compute_time(self, tokens: int) -> float:
        """See ``StepCost.compute_time``: of the target model."""
        return self.target.compute_time(tokens)

    def adapters_time(self, tokens: int, adapters: int) -> float:
        """See ``StepCost.adapters_time``: speculation and adapters do not go together."""
        raise AssertionError("adapters beside speculation")

    def activity(self, steps: StepColumns) -> Activity:
        """See ``StepCost.activity``: what the target and all passes of the drafter do, together. Passes after
        the first one are decode, of prompts too."""
        own = self.target.activity(steps)
        if self.passes is None or steps.drafting is None:
            return own
        first, later = self.passes.first, self.passes.later
        return _together(
            own,
            first.activity(_first_columns(first, steps, steps.drafting)),
            later.activity(_later_columns(later, steps, steps.drafting, self.drafts - 1)),
        )

    def breakdown(self, steps: StepColumns) -> list[OperatorTime]:
        """See ``StepCost.breakdown``; the drafter's operators have ``draft_`` before their names."""
        times = self.target.breakdown(steps)
        if self.passes is None or steps.drafting is None:
            return times
        own = {time.operator: time for time in times}
        first, later = self.passes.first, self.passes.later
        for pass_, columns in (
            (first, _first_columns(first, steps, steps.drafting)),
            (later, _later_columns(later, steps, steps.drafting, self.drafts - 1)),
        ):
            for time in pass_.breakdown(columns) if columns.seconds.any() else ():
                name = f"draft_{time.operator}"
                own[name] = _sum(own[name], time) if name in own else replace(time, operator=name)
        return list(own.values())


def _attention_time(
    cost: CompiledStepCost,
    decode: int,
    drafts: int,
    context: float,
    window_context: float,
    longest: float,
    chunks: Sequence[tuple[int, int]],
) -> float:
    """Seconds of attention in a step whose decodes have ``drafts`` more rows together."""
    alone = cost.decode_attention(decode, context, window_context, longest) if decode else ()
    seconds = cost.mixed_attention(decode, context, window_context, longest, chunks) if chunks else sum(alone)
    if drafts:
        rows = (decode + drafts) / decode
        for part, part_s in zip(cost.attention_parts, alone, strict=True):
            pairs = rows * (context if part.op.window is None else window_context)
            seconds += max(0.0, part.arithmetic_s(pairs) - part_s)
    return seconds


def _first_columns(cost: CompiledStepCost, steps: StepColumns, drafting: Drafting) -> StepColumns:
    """What the drafter's first passes ran: all rows of the step, logits for one row a request."""
    requests = _requests(steps)
    nothing = np.zeros(len(requests))
    return replace(
        steps,
        seconds=drafting.first_s,
        samples=requests,
        clock_share=nothing,
        window_context=_capped_all(cost, steps.decode, steps.context),
        drafting=Drafting(drafting.drafts, nothing, nothing, nothing),
    )


def _later_columns(
    cost: CompiledStepCost, steps: StepColumns, drafting: Drafting, passes: int
) -> StepColumns:
    """What its later passes ran: runs of ``passes`` steps that decode one row a request."""
    requests, size = _requests(steps), len(steps.steps)
    ends = steps.chunk_tokens + steps.chunk_context
    context = steps.context + np.bincount(steps.chunk_row, weights=ends, minlength=size) + requests
    longest = steps.longest.copy()
    np.maximum.at(longest, steps.chunk_row, ends)
    nothing, none = np.zeros(size), np.empty(0, np.int64)
    return StepColumns(
        steps=np.where(requests > 0, passes, 0),
        decode=requests,
        context=context,
        window_context=_capped_all(cost, requests, context),
        window_growth=nothing,
        longest=longest + 1.0,
        clock_share=nothing,
        seconds=drafting.later_s,
        samples=requests,
        chunk_row=none,
        chunk_tokens=none,
        chunk_context=none,
    )


def _together(*parts: Activity) -> Activity:
    """All ``parts`` of the same entries; what of them is prefill goes by the work of each."""
    work = [part.compute_s + part.memory_s for part in parts]
    prefill = [np.nan_to_num(part.prefill_share) * done for part, done in zip(parts, work, strict=True)]
    total = np.sum(work, axis=0)
    return Activity(
        compute_s=np.sum([part.compute_s for part in parts], axis=0),
        memory_s=np.sum([part.memory_s for part in parts], axis=0),
        network_s=np.sum([part.network_s for part in parts], axis=0),
        prefill_share=np.divide(
            np.sum(prefill, axis=0), total, out=parts[0].prefill_share.copy(), where=total > 0
        ),
    )


def _requests(steps: StepColumns) -> Ints:
    """Requests in each step: its decodes and its chunks."""
    return steps.decode + np.bincount(steps.chunk_row, minlength=len(steps.steps)).astype(np.int64)


def _capped(cost: CompiledStepCost, requests: int, context: float) -> float:
    """The sum of contexts capped at the drafter's own window, if it has one: as if all were equal."""
    return context if cost.window is None else min(context, float(requests * cost.window))


def _capped_all(cost: CompiledStepCost, requests: Ints, context: Floats) -> Floats:
    if cost.window is None:
        return context
    return np.minimum(context, requests.astype(np.float64) * cost.window)


def _sum(one: OperatorTime, other: OperatorTime) -> OperatorTime:
    bounds = dict(one.bound_seconds)
    for name, seconds in other.bound_seconds.items():
        bounds[name] = bounds.get(name, 0.0) + seconds
    return replace(
        one,
        seconds=one.seconds + other.seconds,
        flops=one.flops + other.flops,
        bytes=one.bytes + other.bytes,
        bound_seconds=bounds,
    )
