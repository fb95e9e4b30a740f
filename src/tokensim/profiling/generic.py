"""Shapes for any model: a grid of GEMMs, the usual heads, and traffic of elementwise operators.

The tables interpolate GEMMs in their sizes by efficiency, attention by the nearest measured heads, and
elementwise operators by their traffic.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

from tokensim.cost.tables.elementwise import FAMILIES
from tokensim.profiling.bench import Facts
from tokensim.profiling.lines import Line
from tokensim.profiling.plan import Extent, Plan, along, attention, elementwise, merged, spaced
from tokensim.profiling.shapes import Shape

WIDE = (512, 2048, 8192, 32768, 131072)
DEEP = (512, 2048, 8192, 32768)
"""Sizes of a GEMM's result and of its summed dimension: from a rank's share of a small projection to a
vocabulary, and to the widest FFN of the model catalog."""

HEADS = ((32, 32), (8, 1), (32, 8))
"""Query and KV heads of a rank: multi-head, many queries a KV head, and four."""

HEAD_DIMS = (64, 128)

ROW_BYTES = (1 << 12, 1 << 15, 1 << 18)
"""Traffic of a row of norms, activations, rotary and embeddings; of sampling ten times."""


def generic_plan(facts: Facts, extent: Extent, weights: Sequence[str]) -> Plan:
    """The plan that serves any model with weights in the formats ``weights`` (the tables' names)."""
    lines: list[Line] = []
    for dtype, n, k in product(weights, WIDE, DEEP):
        lines += along(Shape.of("gemm", dtype=dtype, n=n, k=k), "m", spaced(1, extent.tokens), facts)
    activation = next((w for w in weights if w in ("bfloat16", "float16", "float32")), "bfloat16")
    for (heads, kv_heads), head_dim in product(HEADS, HEAD_DIMS):
        lines += attention((heads, kv_heads, head_dim), activation, extent, facts)
    for family, row_bytes in product(dict.fromkeys(FAMILIES.values()), ROW_BYTES):
        sampled = family == "sampling"
        traffic, most = (10 * row_bytes, extent.seqs) if sampled else (row_bytes, extent.tokens)
        lines += elementwise(family, activation, traffic, most, facts)
    notes = ["expert layers are measured with --model alone: they have too many sizes for a grid"]
    for ranks in (2, 4, 8):
        if ranks <= facts.devices:
            shape = Shape.of(
                "collective", collective="all_reduce", backend=facts.kernels["collective"], ranks=ranks
            )
            lines += along(shape, "bytes", spaced(4096, 1 << 28, 8), facts)
    return Plan(f"any model, {', '.join(weights)}", merged(lines), tuple(notes))
