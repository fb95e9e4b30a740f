"""Any CSV, JSON lines or Parquet file, by a map from our column names to the file's.

Ours are ``arrival_s``, ``input_tokens``, ``output_tokens``, and optionally ``hash_ids`` or ``segments``
(with ``answer_id``), ``priority``, ``request_id``, ``tenant``, ``deadline_s``, ``predicted_tokens``,
``adapter``, ``encoder_tokens``; a file that has these names needs no map. Without an arrival column the file
gives lengths, and ``workload.arrivals`` the rest.

Sessions: ``session`` is anything that the rows of one have in common, ``after`` the ``request_id`` (without
such a column: the row, from 0) of the request that a row follows, ``delay_s`` the pause in between. Where
sessions are whole numbers, routers see these; −1 is none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tokensim.errors import InputError
from tokensim.registry import register
from tokensim.workload.base import Floats, Ints, Segments
from tokensim.workload.table import Table
from tokensim.workload.traces.base import TraceFile, TraceRows
from tokensim.workload.traces.blocks import prompt_segments
from tokensim.workload.traces.contents import given_segments
from tokensim.workload.traces.rounds import numbered, previous_of_session, row_of_name


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

        arrival, hashes, request = column("arrival_s"), column("hash_ids"), column("request_id")
        tokens = table.tokens(mapped.get("input_tokens", "input_tokens"))
        unit = file.spec.time_unit
        if unit is not None and arrival is None:
            raise InputError(
                "time_unit is set, and the trace has no arrivals", where=str(file.path), hint="leave it out"
            )
        optional: dict[str, Any] = {
            ours: read(table, name) for ours, read in OPTIONAL.items() if (name := column(ours)) is not None
        }
        after, session = _dependencies(table, column, request)
        return TraceRows(
            table.times_ns(arrival, unit) if arrival is not None else None,
            tokens,
            table.tokens(mapped.get("output_tokens", "output_tokens")),
            segments=_content(file, column, tokens, hashes),
            names=[str(name) for name in table.column(request)] if request is not None else None,
            after=after,
            session=session,
            **optional,
        )


def _content(
    file: TraceFile, column: Callable[[str], str | None], tokens: Ints, hashes: str | None
) -> Segments | None:
    """What the prompts are made of: ``segments``, or blocks by ``hash_ids``; None where nothing says."""
    given, answers = column("segments"), column("answer_id")
    if given is None:
        if answers is not None:
            raise InputError(
                f"'{answers}' says what answers are, and nothing says what prompts are",
                where=str(file.path),
                hint="add 'segments': [[id, tokens], ...]",
            )
        return prompt_segments(file, tokens, hashes, None)
    if hashes is not None or file.spec.hash_block_tokens is not None:
        raise InputError(
            f"'{given}' says what prompts are already",
            where=str(file.path),
            hint="leave out 'hash_ids' and hash_block_tokens",
        )
    return given_segments(file.table, given, tokens, answers)


def _dependencies(
    table: Table, column: Callable[[str], str | None], request: str | None
) -> tuple[Ints | None, Ints | None]:
    """Which row each one follows, and its session; None where the file says nothing of it."""
    name, sessions = column("after"), column("session")
    after: Ints | None = None
    if name is not None:
        parents = [_named(value) for value in table.column(name).to_list()]
        rows = table.column(request).to_list() if request is not None else range(len(table))
        known = [str(row) for row in rows]
        after = row_of_name(parents, known)
        for row, parent in enumerate(parents):
            if parent is not None and after[row] < 0:
                table.refuse(
                    row, f"'{name}' is {parent}, which is no row above", "a request follows an earlier one"
                )
    elif sessions is not None:
        named = [_named(value) for value in table.column(sessions).to_list()]
        after = previous_of_session(named)
        if table.column(sessions).dtype.is_integer():
            return after, np.array([-1 if name is None else int(name) for name in named], dtype=np.int64)
    return after, None if after is None else numbered(after)


def _named(value: object) -> str | None:
    """An id as text; None for nothing: empty, null or −1."""
    text = "" if value is None else str(value).strip()
    return None if text in ("", "-1") else text


def _not_negative(table: Table, name: str) -> Floats:
    """Seconds ≥ 0 from the column ``name``."""
    values = table.floats(name, "a number of seconds")
    if (values < 0).any():
        table.refuse(int(np.argmax(values < 0)), f"'{name}' is negative", "expected seconds of 0 or more")
    return values


OPTIONAL: dict[str, Callable[[Table, str], Ints | Floats]] = {
    "priority": Table.integers,
    "delay_s": _not_negative,
    "tenant": Table.integers,
    "deadline_s": _not_negative,
    "predicted_tokens": Table.tokens,
    "adapter": Table.integers,
    "encoder_tokens": Table.tokens,
}
"""How each column of ours that a file may have is read."""
