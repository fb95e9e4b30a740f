"""The operators that one step of a model runs on one rank, with their shapes.

A step has ``m`` tokens (every scheduled token is a row) and ``s`` samples (rows that need logits). Each
operator says which of the two its row count is, its per-rank shape under the parallel plan, and how many
times a step runs it (``count``, usually the number of layers). Prices are not here: see ``tokensim.cost``.

Data-parallel ranks that share experts run them together: what is ``pooled`` works on the tokens of all of
them, and its rows are the tokens of one rank on average.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tokensim.model.routing import ExpertLoad

Rows = Literal["tokens", "samples"]


@dataclass(frozen=True, slots=True)
class Gemm:
    """``y[rows, n] = x[rows, k] @ w[k, n]``; ``weight_dtype`` is what the weights are stored as."""

    name: str
    n: int
    k: int
    count: int
    weight_dtype: str
    rows: Rows = "tokens"


@dataclass(frozen=True, slots=True)
class Experts:
    """Routed experts: each token goes to ``top_k`` FFNs of ``gemms`` matrices of hidden x intermediate.

    ``experts`` and ``intermediate`` are per rank (expert parallel divides the first, tensor parallel the
    second); ``total_experts`` is before division. ``gemms`` is 3 for gated FFNs (gate, up, down), else 2.
    ``replicas`` data-parallel replicas share the experts: for every token of this one, that many are routed.
    ``load`` is that of the busiest rank; None: as the source of its time has it.
    """

    name: str
    experts: int
    total_experts: int
    top_k: int
    hidden: int
    intermediate: int
    gemms: int
    count: int
    weight_dtype: str
    replicas: int = 1
    load: ExpertLoad | None = None

    @property
    def pooled(self) -> bool:
        """Whether it works on the tokens of several data-parallel ranks together."""
        return self.replicas > 1


@dataclass(frozen=True, slots=True)
class Attention:
    """Attention of ``heads`` query heads over ``kv_heads`` cached heads (per rank), ``count`` layers.

    ``qk_dim``/``v_dim`` are head sizes. ``kv_bytes_per_token`` is what one layer of this rank reads and
    writes of the cache for one token of context. ``window`` caps the context (sliding window), None is full
    attention. ``causal``: a token sees those before it; else it sees all of its sequence (encoders), and what
    is read and written are keys and values of the layer. MLA: ``kv_heads`` is 1 and ``qk_dim``/``v_dim`` are
    the latent sizes that decode works on; ``prefill_dims`` are the (qk, v) sizes that prefill works on where
    they differ (MLA expands the latents).
    """

    name: str
    heads: int
    kv_heads: int
    qk_dim: int
    v_dim: int
    kv_bytes_per_token: float
    count: int
    window: int | None = None
    prefill_dims: tuple[int, int] | None = None
    causal: bool = True


@dataclass(frozen=True, slots=True)
class Elementwise:
    """Norms, activations, rotary, residuals, embedding look-ups, sampling: bound by memory."""

    name: str
    bytes_per_row: float
    count: int
    rows: Rows = "tokens"
    pooled: bool = False


@dataclass(frozen=True, slots=True)
class Collective:
    """A collective over ``ranks`` devices, ``bytes_per_row`` of payload a rank."""

    name: str
    kind: Literal["all_reduce", "all_gather", "reduce_scatter", "all_to_all"]
    bytes_per_row: float
    ranks: int
    count: int
    rows: Rows = "tokens"
    pooled: bool = False


Operator = Gemm | Experts | Attention | Elementwise | Collective
"""Any operator of a step."""
