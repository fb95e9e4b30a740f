"""Any CSV, JSON lines or Parquet file, by a map from our column names to the file's.

Ours are ``arrival_s``, ``input_tokens``, ``output_tokens``, and optionally ``hash_ids``, ``priority``,
``request_id``; a file that has these names needs no map. Without an arrival column the file gives lengths,
and ``workload.arrivals`` the rest.
"""

from __future__ import annotations

from tokensim.errors import InputError
from tokensim.registry import register
from tokensim.workload.traces.base import TraceFile, TraceRows
from tokensim.workload.traces.blocks import prompt_segments


@register.trace_format("generic")
class Generic:
    """Reads a file by ``columns``, ``time_unit`` (default s) and ``hash_block_tokens``."""

    uses = frozenset({"columns", "time_unit", "hash_block_tokens"})

    def recognises(self, file: TraceFile) -> bool:
        """Whether a map was given, or the file has our names."""
        if file.kind == "json":
            return False
        return file.spec.columns is not None or {"input_tokens", "output_tokens"} <= set(file.names)

    def read(self, file: TraceFile) -> TraceRows:
        """See ``TraceFormat``."""
        table, mapped = file.table, file.spec.columns or {}

        def column(ours: str) -> str | None:
            """The file's name for an optional column of ours, if it has it."""
            return mapped.get(ours, ours if ours in table.names else None)

        arrival, hashes = column("arrival_s"), column("hash_ids")
        priority, request = column("priority"), column("request_id")
        tokens = table.tokens(mapped.get("input_tokens", "input_tokens"))
        unit = file.spec.time_unit
        if unit is not None and arrival is None:
            raise InputError(
                "time_unit is set, and the trace has no arrivals", where=str(file.path), hint="leave it out"
            )
        return TraceRows(
            table.times_ns(arrival, unit) if arrival is not None else None,
            tokens,
            table.tokens(mapped.get("output_tokens", "output_tokens")),
            segments=prompt_segments(file, tokens, hashes, None),
            priority=table.integers(priority) if priority is not None else None,
            names=[str(name) for name in table.column(request)] if request is not None else None,
        )
