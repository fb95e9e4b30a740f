"""Times of the shipped model that depend on rows alone: GEMMs, experts, elementwise kernels, collectives."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tokensim.cost.base import Origin
from tokensim.cost.builtin.row_forms import CollectiveForm, ExpertsForm, GemmForm, StreamForm
from tokensim.model.operators import Collective, Elementwise, Experts, Gemm
from tokensim.workload.base import Floats

MILD = 1
"""The spread of tokens over experts that is priced: the milder power law of the tables (exponent 1.01). At 16
tokens and 128 experts of which each token takes 8, it hits about as many (73) as independent choices with
unequal popularity do; uniform independent choices hit 82, balanced ones all."""


@dataclass(frozen=True, slots=True)
class ShippedGemm:
    """A ``RowTime``: all runs of one GEMM in a step."""

    form: GemmForm
    op: Gemm
    weight_bytes: float
    flop_rate: float
    byte_rate: float
    known: Origin

    def seconds(self, rows: Floats) -> Floats:
        """See ``RowTime.seconds``."""
        n, k = self.op.n, self.op.k
        one = self.form.seconds(rows, n, k, self.weight_bytes, self.flop_rate, self.byte_rate)
        return np.asarray(self.op.count * one)

    def origin(self, rows: float) -> Origin:
        """See ``RowTime.origin``."""
        return self.known


@dataclass(frozen=True, slots=True)
class ShippedExperts:
    """A ``RowTime``: all routed-experts layers of a step, on the busiest rank."""

    form: ExpertsForm
    op: Experts
    weight_bytes: float
    flop_rate: float
    byte_rate: float
    known: Origin

    def seconds(self, rows: Floats) -> Floats:
        """See ``RowTime.seconds``; ``rows`` are those of one of ``replicas`` that share the experts."""
        op = self.op
        if op.load is not None:
            tokens = rows * op.replicas
            loaded = self.form.loaded(
                tokens,
                op.load.rows(tokens),
                op.load.hits(tokens),
                float(op.hidden),
                float(op.intermediate),
                float(op.gemms),
                float(op.top_k),
                float(op.experts),
                self.weight_bytes,
                self.flop_rate,
                self.byte_rate,
            )
            return np.asarray(op.count * loaded)
        one = self.form.seconds(
            rows * op.replicas,
            float(op.hidden),
            float(op.intermediate),
            float(op.gemms),
            float(op.top_k),
            float(op.experts),
            float(op.total_experts / op.experts),
            float(MILD),
            self.weight_bytes,
            self.flop_rate,
            self.byte_rate,
        )
        return np.asarray(op.count * one)

    def origin(self, rows: float) -> Origin:
        """See ``RowTime.origin``."""
        return self.known


@dataclass(frozen=True, slots=True)
class ShippedStream:
    """A ``RowTime``: all runs of one elementwise operator, each of as many ``kernels``."""

    form: StreamForm
    op: Elementwise
    kernels: int
    byte_rate: float
    known: Origin

    def seconds(self, rows: Floats) -> Floats:
        """See ``RowTime.seconds``."""
        one = self.form.seconds(self.op.bytes_per_row * rows, self.byte_rate)
        return np.asarray(self.op.count * (one + (self.kernels - 1) * self.form.launch_s))

    def origin(self, rows: float) -> Origin:
        """See ``RowTime.origin``."""
        return self.known


@dataclass(frozen=True, slots=True)
class ShippedCollective:
    """A ``RowTime``: all runs of one collective among as many ranks as were measured."""

    form: CollectiveForm
    op: Collective
    known: Origin

    def seconds(self, rows: Floats) -> Floats:
        """See ``RowTime.seconds``. Measured sizes are of the whole buffer: what all ranks gather."""
        share = self.op.ranks if self.op.kind == "all_gather" else 1
        return np.asarray(self.op.count * self.form.seconds(share * self.op.bytes_per_row * rows))

    def origin(self, rows: float) -> Origin:
        """See ``RowTime.origin``."""
        return self.known
