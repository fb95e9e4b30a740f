"""BurstGPT: ``Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type``.

Source: github.com/HPMLL/BurstGPT (CC-BY 4.0). ``Timestamp`` is in seconds from midnight of the first day. A
response of 0 tokens is a failed request. Release 2.0 adds ``Session ID`` (heeded with ``sessions: true``;
rows without one stand alone) and ``Elapsed time``, which is not needed here.
"""

from __future__ import annotations

from tokensim.registry import register
from tokensim.workload.traces.base import TraceFile, TraceRows
from tokensim.workload.traces.rounds import numbered, previous_of_session


@register.trace_format("burstgpt")
class BurstGPT:
    """Reads the BurstGPT traces."""

    uses: frozenset[str] = frozenset()

    def recognises(self, file: TraceFile) -> bool:
        """A table with its column names."""
        return file.kind != "json" and {"Timestamp", "Request tokens", "Response tokens"} <= set(file.names)

    def read(self, file: TraceFile) -> TraceRows:
        """See ``TraceFormat``."""
        table = file.table
        after = None
        if "Session ID" in table.names:
            after = previous_of_session(table.column("Session ID").to_list())
        return TraceRows(
            table.times_ns("Timestamp"),
            table.tokens("Request tokens"),
            table.tokens("Response tokens"),
            after=after,
            session=None if after is None else numbered(after),
        )
