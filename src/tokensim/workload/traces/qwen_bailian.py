"""Qwen-Bailian: JSON lines of ``chat_id``, ``parent_chat_id``, ``timestamp`` (s), lengths, and ``hash_ids``.

Source: github.com/alibaba-edu/qwen-bailian-usagetraces-anon (Apache-2.0). An id stands for 16 prompt tokens.
A turn of a conversation carries the turns before it in its prompt; what it shares with them is in its ids.
``parent_chat_id`` is the turn before it, −1 for none; with ``sessions: true`` it waits for that one.
"""

from __future__ import annotations

from tokensim.registry import register
from tokensim.workload.traces.base import TraceFile, TraceRows
from tokensim.workload.traces.blocks import prompt_segments
from tokensim.workload.traces.rounds import numbered, row_of_name

BLOCK_TOKENS = 16  # README of the trace, alibaba-edu/qwen-bailian-usagetraces-anon


@register.trace_format("qwen-bailian")
class QwenBailian:
    """Reads the Qwen-Bailian traces; requests are named by ``chat_id``."""

    uses = frozenset({"hash_block_tokens"})

    def recognises(self, file: TraceFile) -> bool:
        """A table with its keys."""
        needed = {"chat_id", "timestamp", "input_length", "output_length"}
        return file.kind != "json" and needed <= set(file.names)

    def read(self, file: TraceFile) -> TraceRows:
        """See ``TraceFormat``."""
        table = file.table
        chats = [str(chat) for chat in table.integers("chat_id").tolist()]
        tokens = table.tokens("input_length")
        after = None
        if "parent_chat_id" in table.names:
            parents = [str(chat) for chat in table.integers("parent_chat_id").tolist()]
            after = row_of_name([None if p.startswith("-") else p for p in parents], chats)
        hashes = "hash_ids" if "hash_ids" in table.names else None
        return TraceRows(
            table.times_ns("timestamp"),
            tokens,
            table.tokens("output_length"),
            segments=prompt_segments(file, tokens, hashes, BLOCK_TOKENS),
            names=chats,
            after=after,
            session=None if after is None else numbered(after),
        )
