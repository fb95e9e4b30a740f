"""LoRA adapters on a model's linear layers: which layers, and how many bytes.

A layer ``y = x W`` gets ``y += (x A) B`` with A [k, rank] and B [rank, n] (Hu et al., arXiv:2106.09685).
Layers that vLLM packs into one have an A for each of their slices. Under tensor parallelism column-parallel
layers have all of A and a part of B, row-parallel ones a part of A and all of B (``fully_sharded_loras``
off); so the shapes that one rank runs say what it holds. Routed experts, embeddings and the LM head have no
adapters here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tokensim.errors import InputError, nearest
from tokensim.model.operators import Gemm, Operator

MODULES: dict[str, tuple[tuple[str, int], ...]] = {
    "qkv_proj": (("qkv_proj", 3),),
    "q_proj": (("q_proj", 1),),
    "q_a_proj": (("q_a_proj", 1),),
    "q_b_proj": (("q_b_proj", 1),),
    "kv_a_proj": (("kv_a_proj", 1),),
    "o_proj": (("o_proj", 1),),
    "gate_up_proj": (("ffn_gate_up", 2), ("shared_expert_gate_up", 2)),
    "up_proj": (("ffn_up", 1),),
    "down_proj": (("ffn_down", 1), ("shared_expert_down", 1)),
}
"""A module's name in vLLM → the GEMMs that it is here, and how many layers are packed into each."""

WEIGHT_BYTES = 2
"""Adapters are kept in the model's 16-bit type (``lora_dtype: auto``), however its weights are stored."""


@dataclass(frozen=True, slots=True)
class AdapterLayer:
    """The adapters of ``count`` equal layers on one rank: ``slices`` of A [k, rank], B [rank, n] in all."""

    k: int
    n: int
    slices: int
    count: int

    def weights(self, rank: int) -> int:
        """Numbers in all of these layers, for one adapter."""
        return self.count * rank * (self.slices * self.k + self.n)


def adapter_layers(
    operators: Sequence[Operator], modules: Sequence[str] | None, where: str
) -> list[AdapterLayer]:
    """The layers of one rank's ``operators`` that have adapters; ``modules`` None: all of ``MODULES``.

    Raises ``InputError`` at ``where`` for a module that the model does not have.
    """
    gemms = {op.name: op for op in operators if isinstance(op, Gemm)}
    there = [name for name, parts in MODULES.items() if any(gemm in gemms for gemm, _ in parts)]
    for name in modules or ():
        if name not in there:
            raise InputError(f"the model has no module '{name}'", where=where, hint=nearest(name, there))
    return [
        AdapterLayer(gemms[gemm].k, gemms[gemm].n, slices, gemms[gemm].count)
        for name in (there if modules is None else dict.fromkeys(modules))
        for gemm, slices in MODULES[name]
        if gemm in gemms
    ]


def adapter_bytes(layers: Sequence[AdapterLayer], rank: int) -> float:
    """Bytes of one adapter of ``rank`` on one device."""
    return float(WEIGHT_BYTES * sum(layer.weights(rank) for layer in layers))
