"""Which shapes the steps of a model need: its operators on one rank, over the loads that an engine gives.

Coarse points lie a factor of four to eight apart; what they need between them is found by measuring.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from tokensim.cost.tables.elementwise import FAMILIES
from tokensim.cost.tables.formats import expert_formats, table_formats
from tokensim.cost.tables.grids import WALKED
from tokensim.model import ModelSpec, dtypes
from tokensim.model.operators import Attention, Collective, Elementwise, Experts, Gemm, Operator
from tokensim.model.shards import operators
from tokensim.profiling.bench import Facts
from tokensim.profiling.lines import Line
from tokensim.profiling.shapes import Shape, work

MEMORY_SHARE = 0.4
"""Of the device's memory, what the operands of one shape may take: they exist twice while the caches are
emptied, and results beside them."""

INDEPENDENT = "independent"
"""The spread of tokens over experts that is measured: each token chooses at random."""

OPERATORS = ("gemm", "attention", "elementwise", "experts", "collective")
"""What ``--operators`` chooses from."""

KINDS = {
    "gemm": ("gemm",),
    "attention": ("prefill_attention", "decode_attention", "mixed_attention"),
    "elementwise": ("elementwise",),
    "experts": ("experts",),
    "collective": ("collective",),
}
"""The kinds of tables of each."""


@dataclass(frozen=True, slots=True)
class Extent:
    """The largest load: ``tokens`` of a step, ``seqs`` that decode in it, ``context`` of one of them."""

    tokens: int = 8192
    seqs: int = 256
    context: int = 16384


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure: ``lines``, and ``notes`` on what is not measured and why. ``what`` says it in
    words."""

    what: str
    lines: tuple[Line, ...]
    notes: tuple[str, ...] = ()

    def only(self, wanted: Sequence[str]) -> Plan:
        """The plan with these of ``OPERATORS`` alone."""
        kinds = {kind for name in wanted for kind in KINDS[name]}
        return replace(self, lines=tuple(line for line in self.lines if line.shape.kind in kinds))

    def coarse(self) -> list[Shape]:
        """Every shape that is measured in any case, each once."""
        return list(
            dict.fromkeys(shape for line in self.lines for x in line.coarse for shape in line.shapes(x))
        )


def model_plan(
    model: ModelSpec,
    facts: Facts,
    extent: Extent,
    weights: Sequence[str],
    *,
    tensor: int = 1,
    expert: int = 1,
    kv_dtype: str | None = None,
) -> Plan:
    """The plan for one rank of ``model`` with each of the formats ``weights``; raises ``InputError`` for a
    parallel plan that the model does not allow."""
    activation = next((w for w in weights if w in dtypes.FULL_PRECISION), "bfloat16")
    kv = kv_dtype or activation
    needed: dict[str, Operator] = {}
    for weight in weights:
        for op in operators(model, weight, kv, tensor, expert, activation):
            key = f"{op.name} {op.weight_dtype if isinstance(op, Gemm | Experts) else ''}"
            needed.setdefault(key, op)
    planned = _Planned(facts, extent, activation, kv, tensor, expert)
    for op in needed.values():
        planned.add(op)
    ranks = f", {tensor} tensor-parallel ranks" if tensor > 1 else ""
    return Plan(f"{model.name}{ranks}, {', '.join(weights)}", planned.lines(), tuple(planned.notes))


class _Planned:
    """Collects lines; operators of one shape share them."""

    def __init__(
        self, facts: Facts, extent: Extent, activation: str, kv_dtype: str, tensor: int, expert: int
    ) -> None:
        self.facts, self.extent = facts, extent
        self.activation, self.kv_dtype = activation, kv_dtype
        self.tensor, self.expert = tensor, expert
        self.notes: dict[str, None] = {}
        self._lines: list[Line] = []

    def lines(self) -> tuple[Line, ...]:
        """The lines, those along one axis of one shape merged."""
        return merged(self._lines)

    def add(self, op: Operator) -> None:
        """The lines of ``op``, or a note why there are none."""
        match op:
            case Gemm():
                name = self._format(table_formats(dtypes.weight_dtype(op.weight_dtype)), op.weight_dtype)
                most = self.extent.tokens if op.rows == "tokens" else self.extent.seqs
                if name:
                    shape = Shape.of("gemm", dtype=name, n=op.n, k=op.k)
                    self._lines += along(shape, "m", spaced(1, most), self.facts)
            case Elementwise():
                if op.name in FAMILIES:
                    most = self.extent.tokens if op.rows == "tokens" else self.extent.seqs
                    self._lines += elementwise(
                        FAMILIES[op.name], self.activation, round(op.bytes_per_row), most, self.facts
                    )
            case Attention():
                if op.prefill_dims is not None:
                    self.notes["latent attention is not measured: the fitted model prices it"] = None
                elif op.causal:
                    heads = (op.heads, op.kv_heads, op.qk_dim)
                    self._lines += attention(heads, self.kv_dtype, self.extent, self.facts)
                else:
                    self.notes["attention of an encoder is not measured: the roofline prices it"] = None
            case Experts():
                self._experts(op)
            case Collective():
                self._collective(op)

    def _experts(self, op: Experts) -> None:
        name = self._format(expert_formats(dtypes.weight_dtype(op.weight_dtype)), op.weight_dtype)
        if not name:
            return
        slices = 1 if self.expert > 1 else self.tensor
        shape = Shape.of(
            "experts",
            dtype=name,
            hidden=op.hidden,
            intermediate=op.intermediate * slices,
            experts=op.total_experts,
            top_k=op.top_k,
            tensor=slices,
            expert=self.expert,
            distribution=INDEPENDENT,
        )
        self._lines += along(shape, "tokens", spaced(1, self.extent.tokens), self.facts)

    def _collective(self, op: Collective) -> None:
        if self.facts.devices < op.ranks:
            self.notes[
                f"collectives of {op.ranks} ranks are not measured: there are {self.facts.devices} here"
            ] = None
            return
        row = op.bytes_per_row * (op.ranks if op.kind == "all_gather" else 1)
        rows = self.extent.tokens if op.rows == "tokens" else self.extent.seqs
        shape = Shape.of(
            "collective", collective=op.kind, backend=self.facts.kernels["collective"], ranks=op.ranks
        )
        self._lines += along(shape, "bytes", spaced(round(row), round(row * rows), 8), self.facts)

    def _format(self, names: Sequence[str], wanted: str) -> str | None:
        """The table's name of a format that the device has."""
        found = next((name for name in names if name in self.facts.dtypes), None)
        if found is None:
            why = next((self.facts.lacking[name] for name in names if name in self.facts.lacking), "")
            reason = f" ({why})" if why else ""
            self.notes[f"{wanted} is not measured: not on this device{reason}"] = None
        return found


def attention(heads: tuple[int, int, int], kv_dtype: str, extent: Extent, facts: Facts) -> Iterator[Line]:
    """Prefill, decode and, where a kernel takes both in one call, mixed attention of (query heads, KV heads,
    head size)."""
    if kv_dtype not in facts.dtypes:
        return
    names: dict[str, int | str] = {"kv_dtype": kv_dtype}
    names.update(zip(("heads", "kv_heads", "head_dim"), heads, strict=True))
    yield from _decodes(names, extent, facts)
    prefill = Shape.of("prefill_attention", **names, window=0, cached=0)
    longest = min(extent.tokens, extent.context)

    def full(tokens: int) -> tuple[Shape, ...]:
        """As many sequences of that length as fill the device."""
        batch = 1 << max(0, min(6, (longest // tokens).bit_length() - 1))
        return (prefill.at(batch=batch, tokens=tokens),) if batch > 1 else ()

    yield from along(prefill.at(batch=1), "tokens", spaced(16, longest), facts, form="work", beside=full)
    if facts.kind == "gpu":  # by which the cost layer knows how fast a block of queries walks
        one = Shape.of(
            "prefill_attention", kv_dtype=kv_dtype, heads=1, kv_heads=1, head_dim=heads[2], window=0, cached=0
        )
        yield Line(one.at(batch=1), "tokens", WALKED, "work", refined=False)
    if "mixed_attention" in facts.kernels:
        yield from _mixed(names, extent, facts)


def _decodes(names: dict[str, int | str], extent: Extent, facts: Facts) -> Iterator[Line]:
    """Decodes: a line along the context for each batch, and two along the batch."""
    decode = Shape.of("decode_attention", **names, window=0)
    batches, contexts = spaced(1, extent.seqs), spaced(16, extent.context, 8)
    for batch in batches:
        yield from along(decode.at(batch=batch), "context", contexts, facts)
    everywhere = [x for x in contexts if fits(decode.at(batch=batches[-1], context=x), facts)]
    if len(everywhere) < 2:
        return
    ends = everywhere[0], everywhere[-1]
    for one, other in (ends, ends[::-1]):

        def beside(batch: int, other: int = other) -> tuple[Shape, ...]:
            return (decode.at(batch=batch, context=other),)

        yield from along(decode.at(context=one), "batch", batches, facts, beside=beside)


def _mixed(names: dict[str, int | str], extent: Extent, facts: Facts) -> Iterator[Line]:
    """Chunks alone, and beside them a few and many decodes, after nothing and after half a context."""
    mixed = Shape.of("mixed_attention", **names)
    half, few = extent.context // 2, max(1, extent.seqs // 16)
    beside = [
        {"cached": cached, "decodes": decodes, "context": context}
        for cached in (0, half)
        for decodes, context in ((0, 0), *((n, x) for n in (few, extent.seqs) for x in (256, half)))
    ]

    def others(tokens: int) -> tuple[Shape, ...]:
        shapes = (mixed.at(tokens=tokens, **which) for which in beside[1:])
        return tuple(shape for shape in shapes if fits(shape, facts))

    yield from along(mixed.at(**beside[0]), "tokens", spaced(64, extent.tokens, 8), facts, beside=others)


def elementwise(family: str, dtype: str, row_bytes: int, most: int, facts: Facts) -> list[Line]:
    """The line along the rows of an elementwise operator."""
    if dtype not in facts.dtypes:
        return []
    shape = Shape.of("elementwise", operator=family, dtype=dtype, row_bytes=row_bytes)
    return list(along(shape, "rows", spaced(1, most, 8), facts))


def along(
    shape: Shape,
    axis: str,
    coarse: Iterable[int],
    facts: Facts,
    form: str = "time",
    beside: object = None,
) -> Iterator[Line]:
    """The line, without the points whose operands do not fit in memory; none if fewer than two are left."""
    kept = tuple(x for x in coarse if fits(shape.at(**{axis: x}), facts))
    if len(kept) > 1:
        more = {} if beside is None else {"beside": beside}
        yield Line(shape, axis, kept, form, **more)  # type: ignore[arg-type]


def fits(shape: Shape, facts: Facts) -> bool:
    """Whether the operands of ``shape`` have room on the device."""
    return work(shape).operands <= MEMORY_SHARE * facts.memory_bytes


def spaced(least: int, most: int, factor: int = 4) -> tuple[int, ...]:
    """``least`` and every ``factor`` times it below ``most``, and ``most``; the last but one is left out
    where it comes close to ``most``."""
    points = [least]
    while points[-1] * factor < most:
        points.append(points[-1] * factor)
    if len(points) > 1 and points[-1] * 1.5 > most:
        points.pop()
    return (*points, most) if most > least else (least,)


def merged(lines: Iterable[Line]) -> tuple[Line, ...]:
    """Lines along one axis of one shape as one with the points of all."""
    by_key: dict[str, Line] = {}
    for line in lines:
        known = by_key.get(line.key)
        points = set(line.coarse) | (set(known.coarse) if known else set())
        by_key[line.key] = replace(known or line, coarse=tuple(sorted(points)))
    return tuple(by_key.values())
