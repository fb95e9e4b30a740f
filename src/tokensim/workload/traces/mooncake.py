"""Mooncake: JSON lines of ``timestamp`` (ms), ``input_length``, ``output_length``, ``hash_ids``.

Source: github.com/kvcache-ai/Mooncake (Apache-2.0). An id stands for 512 prompt tokens, the last for what is
left, and ids depend on all that comes before them, so equal ids mean equal prefixes.
"""

from __future__ import annotations

from tokensim.registry import register
from tokensim.workload.traces.base import TraceFile, TraceRows
from tokensim.workload.traces.blocks import prompt_segments

BLOCK_TOKENS = 512  # README of the trace, kvcache-ai/Mooncake


@register.trace_format("mooncake")
class Mooncake:
    """Reads the Mooncake traces; ``hash_block_tokens`` for files of the same layout with other blocks."""

    uses = frozenset({"hash_block_tokens"})

    def recognises(self, file: TraceFile) -> bool:
        """A table with its keys, and without Qwen-Bailian's ``chat_id``."""
        names = set(file.names)
        return (
            file.kind != "json"
            and {"timestamp", "input_length", "output_length"} <= names
            and "chat_id" not in names
        )

    def read(self, file: TraceFile) -> TraceRows:
        """See ``TraceFormat``."""
        table = file.table
        tokens = table.tokens("input_length")
        hashes = "hash_ids" if "hash_ids" in table.names else None
        return TraceRows(
            table.times_ns("timestamp", "ms"),
            tokens,
            table.tokens("output_length"),
            segments=prompt_segments(file, tokens, hashes, BLOCK_TOKENS),
        )
