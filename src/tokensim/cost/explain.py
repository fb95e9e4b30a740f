"""One step, operator by operator: shape, time, work, what binds it, and where the time comes from.

``parse_step`` reads what ``tokensim explain --step`` takes; ``explain`` gives the same seconds as the engine
gets from the compiled cost, not summed up.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tokensim.cost.base import Origin
from tokensim.cost.step import AttentionPart, CompiledStepCost, RowPart
from tokensim.cost.work import pairs_and_reads
from tokensim.errors import InputError, nearest
from tokensim.model.operators import Attention, Collective, Elementwise, Experts, Gemm, Operator

HOST = "host"
"""The name, kind and bound of what a step lasts longer than its operators."""

GRAMMAR = (
    "decode=REQUESTS@CONTEXT, prefill=TOKENS or prefill=TOKENS@CACHED; several joined by '+':"
    " decode=64@1024+prefill=512"
)

_PART = re.compile(r"(?P<name>[a-z]+)=(?P<first>\d+)(@(?P<second>\d+))?")


@dataclass(frozen=True, slots=True)
class Step:
    """What runs in one step.

    ``decodes``: (requests, tokens that each attends to, its newest included); ``chunks``: (new tokens, tokens
    cached before) of each prefill chunk.
    """

    decodes: tuple[tuple[int, int], ...] = ()
    chunks: tuple[tuple[int, int], ...] = ()

    @property
    def decode(self) -> int:
        """Requests that decode."""
        return sum(requests for requests, _ in self.decodes)

    @property
    def requests(self) -> int:
        """Requests in the step; each needs the logits of its last token."""
        return self.decode + len(self.chunks)

    @property
    def tokens(self) -> int:
        """Rows of the step."""
        return self.decode + sum(new for new, _ in self.chunks)

    def contexts(self, window: int | None = None) -> tuple[float, float]:
        """(sum, longest) of the decodes' contexts, each capped at ``window``."""
        capped = [
            (requests, context if window is None else min(context, window))
            for requests, context in self.decodes
        ]
        return (
            float(sum(requests * context for requests, context in capped)),
            float(max((context for _, context in capped), default=0)),
        )


@dataclass(frozen=True, slots=True)
class ExplainedOperator:
    """All ``count`` runs of one operator in the step.

    ``bound`` is compute, memory, network or host; ``of_peak`` the share of the device's peak FLOP/s (compute)
    or bandwidth (memory) that it reaches, None where neither binds.
    """

    operator: str
    kind: str
    shape: str
    count: int
    seconds: float
    flops: float
    bytes: float
    bound: str
    of_peak: float | None
    origin: Origin


@dataclass(frozen=True, slots=True)
class Explanation:
    """A step on one device: the operators of every token, attention, those of the sampled tokens, the host.

    ``step_s`` = ``device_s`` (the operators) + ``host_s`` (what the device does not hide). ``rows`` is the
    number of tokens that the kernels run on (padded to a captured CUDA graph).
    """

    operators: tuple[ExplainedOperator, ...]
    device_s: float
    host_s: float
    rows: int

    @property
    def step_s(self) -> float:
        """Seconds of the step."""
        return self.device_s + self.host_s


def parse_step(texts: Sequence[str]) -> Step:
    """The step that ``texts`` describe together: see ``GRAMMAR``; raises ``InputError``."""
    decodes: list[tuple[int, int]] = []
    chunks: list[tuple[int, int]] = []
    for text in texts:
        for part in text.replace(" ", "").split("+"):
            where = f"--step {text}"
            match = _PART.fullmatch(part)
            if match is None:
                raise InputError(f"'{part}' is not a part of a step", where=where, hint=GRAMMAR)
            name, first = match["name"], int(match["first"])
            if first == 0:
                raise InputError(f"'{part}' has nothing to run", where=where, hint="give 1 or more")
            if name == "prefill":
                chunks.append((first, int(match["second"] or 0)))
            elif name != "decode":
                raise InputError(
                    f"unknown '{name}'",
                    where=where,
                    hint=f"{nearest(name, ('decode', 'prefill'))}; {GRAMMAR}",
                )
            elif not match["second"] or int(match["second"]) == 0:
                raise InputError(
                    f"'{part}' does not say how long the contexts are",
                    where=where,
                    hint=f"{name}={first}@1024: {first} requests of 1024 tokens each",
                )
            else:
                decodes.append((first, int(match["second"])))
    return Step(tuple(decodes), tuple(chunks))


def explain(cost: CompiledStepCost, step: Step) -> Explanation:
    """Every operator of ``step`` under ``cost``, each request taking one sample."""
    rows = int(cost.padded(np.array([float(step.tokens)]))[0])
    operators = [
        *(_of_rows(part, rows) for part in cost.token_parts),
        *(_of_attention(cost, part, step) for part in cost.attention_parts),
        *(_of_rows(part, step.requests) for part in cost.sample_parts),
    ]
    device_s = sum(operator.seconds for operator in operators)
    host_s = cost.host.step(device_s, step.requests) - device_s
    way = "behind the device where it can" if cost.host.asynchronous else "the device waits"
    origin = Origin("fitted", f"host time ({way})")
    operators.append(ExplainedOperator(HOST, HOST, "", 1, host_s, 0.0, 0.0, HOST, None, origin))
    return Explanation(tuple(operators), device_s, host_s, rows)


def _of_rows(part: RowPart, rows: int) -> ExplainedOperator:
    at = np.array([float(rows)])
    seconds = float(part.time.seconds(at)[0])
    flops = part.op.count * float(part.work.flops(at)[0])
    moved = part.op.count * float(part.work.bytes(at)[0])
    if part.kind == "collective":
        bound, of_peak = "network", None
    else:
        bound = "compute" if bool(part.compute_bound(at)[0]) else "memory"
        ideal_s = flops * part.ideal_s_per_flop if bound == "compute" else moved * part.ideal_s_per_byte
        of_peak = ideal_s / seconds if seconds > 0 else None
    return ExplainedOperator(
        part.op.name,
        part.kind,
        shape_of(part.op, rows),
        part.op.count,
        seconds,
        flops,
        moved,
        bound,
        of_peak,
        part.time.origin(float(rows)),
    )


def _of_attention(cost: CompiledStepCost, part: AttentionPart, step: Step) -> ExplainedOperator:
    window = part.op.window
    context, longest = step.contexts(window)
    if step.chunks:
        seconds = part.time.mixed(step.chunks, step.decode, context, longest)
    else:
        lines = cost.decode_lines(part, step.decode)
        seconds = sum(line.at(longest if line.of == 2 else context) for line in lines)
    work, count = part.work, part.op.count
    flops = work.flops_pair * context
    moved = work.bytes_token * context + work.bytes_query * step.tokens
    for chunk in step.chunks:
        pairs, reads = pairs_and_reads(*chunk, window)
        flops += work.prefill_flops_pair * pairs
        moved += work.bytes_token * reads
    flops, moved = flops * count, moved * count
    ideal = {"compute": flops * part.ideal_s_per_flop, "memory": moved * part.ideal_s_per_byte}
    bound = max(ideal, key=lambda name: ideal[name])
    return ExplainedOperator(
        part.op.name,
        "attention",
        shape_of(part.op, step.tokens),
        count,
        seconds,
        flops,
        moved,
        bound,
        ideal[bound] / seconds if seconds > 0 else None,
        part.time.origin(step.chunks, step.decode, context, longest),
    )


def shape_of(op: Operator, rows: int) -> str:
    """The shape of one run of ``op`` on ``rows`` rows, for people."""
    match op:
        case Gemm():
            return f"m={rows} n={op.n} k={op.k} {op.weight_dtype}"
        case Experts():
            routed = (
                f"{op.experts} of {op.total_experts}" if op.experts < op.total_experts else f"{op.experts}"
            )
            return f"m={rows} top {op.top_k}, {routed} x {op.hidden}x{op.intermediate} {op.weight_dtype}"
        case Attention():
            dims = f"{op.qk_dim}" if op.qk_dim == op.v_dim else f"{op.qk_dim}/{op.v_dim}"
            window = f" window {op.window}" if op.window else ""
            return f"q={rows} heads={op.heads}/{op.kv_heads} dim={dims}{window}"
        case Elementwise():
            return f"m={rows} {op.bytes_per_row:.0f} B/row"
        case Collective():
            return f"{op.ranks} ranks, {rows * op.bytes_per_row / 1e6:.3g} MB"
