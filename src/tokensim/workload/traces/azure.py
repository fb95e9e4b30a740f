"""Azure LLM inference traces, 2023 and 2024: ``TIMESTAMP,ContextTokens,GeneratedTokens``.

Source: github.com/Azure/AzurePublicDataset (CC-BY 4.0). Timestamps have up to seven digits after the second;
in 2024 they end in ``+00:00``, and whole seconds have no fraction.
"""

from __future__ import annotations

from tokensim.registry import register
from tokensim.workload.traces.base import TraceFile, TraceRows


@register.trace_format("azure")
class Azure:
    """Reads the Azure traces."""

    uses: frozenset[str] = frozenset()

    def recognises(self, file: TraceFile) -> bool:
        """A table with the three columns."""
        return file.kind != "json" and {"TIMESTAMP", "ContextTokens", "GeneratedTokens"} <= set(file.names)

    def read(self, file: TraceFile) -> TraceRows:
        """See ``TraceFormat``."""
        table = file.table
        return TraceRows(
            table.times_ns("TIMESTAMP"), table.tokens("ContextTokens"), table.tokens("GeneratedTokens")
        )
