"""What every trace format gives: rows of requests; and how a format is recognised from the file's content."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from tokensim.errors import InputError
from tokensim.scenario.workload import TraceSpec
from tokensim.workload.base import Floats, Ints, Segments
from tokensim.workload.source import Kind, as_text, kind_of, read_bytes
from tokensim.workload.table import Table, parse_table


@dataclass
class TraceFile:
    """The content of a trace file, read once, and parsed as a table when a format asks for it.

    ``spec`` has the keys of ``workload.trace``; ``base_dir`` is what other paths in it are relative to.
    """

    path: Path
    data: bytes
    spec: TraceSpec
    base_dir: Path
    kind: Kind = field(init=False)
    _table: Table | None = field(default=None, init=False)
    _document: Any = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.kind = kind_of(self.data)

    @classmethod
    def read(cls, path: Path, spec: TraceSpec, base_dir: Path) -> TraceFile:
        """The file at ``path``; raises ``InputError`` if it is absent, empty or a damaged gzip."""
        return cls(path, read_bytes(path), spec, base_dir)

    @property
    def table(self) -> Table:
        """The file as a table (CSV, JSON lines, Parquet); raises ``InputError`` naming the bad line."""
        if self._table is None:
            self._table = parse_table(self.data, self.path)
        return self._table

    @property
    def document(self) -> Any:
        """The file as one JSON document."""
        import json

        if self._document is None:
            text = as_text(self.data, self.path).decode().rstrip()
            try:
                self._document = json.loads(text)
            except json.JSONDecodeError as error:
                cut = error.pos >= len(text) - 1 or "Unterminated" in error.msg
                raise InputError(
                    "the JSON document is cut off" if cut else f"is not JSON: {error.msg}",
                    where=f"{self.path}, line {error.lineno}",
                    hint="the file is truncated; fetch it again" if cut else None,
                ) from None
        return self._document

    @property
    def names(self) -> tuple[str, ...]:
        """The columns of the table, or the keys of the first object of a JSON list."""
        if self.kind != "json":
            return self.table.names
        first = self.document[0] if self.document else {}
        return tuple(first) if isinstance(first, Mapping) else ()


@dataclass(frozen=True, slots=True)
class TraceRows:
    """The requests of a trace in the file's order.

    ``arrival_ns`` [n] whole nanoseconds from any zero, non-decreasing (None: the trace has no arrivals);
    ``input_tokens``, ``output_tokens`` [n] ≥ 0 tokens (a row with a zero did not run: it is dropped and
    counted); ``after`` is heeded with ``sessions: true``, and ``delay_s`` then takes the place of the gaps
    between arrivals; the rest as in ``Workload``.
    """

    arrival_ns: Ints | None
    input_tokens: Ints
    output_tokens: Ints
    segments: Segments | None = None
    priority: Ints | None = None
    names: Sequence[str] | None = None
    after: Ints | None = None
    delay_s: Floats | None = None
    session: Ints | None = None
    tenant: Ints | None = None
    deadline_s: Floats | None = None
    predicted_tokens: Ints | None = None
    adapter: Ints | None = None
    encoder_tokens: Ints | None = None
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.input_tokens)

    def take(self, rows: Ints) -> TraceRows:
        """The requests at ``rows``, in that order; a row may come more than once."""
        segments = self.segments
        if segments is not None:
            sizes = np.diff(segments.offsets)[rows]
            offsets = np.concatenate([[0], np.cumsum(sizes)])
            at = np.arange(offsets[-1]) + np.repeat(segments.offsets[rows] - offsets[:-1], sizes)
            answers = None if segments.output_ids is None else segments.output_ids[rows]
            segments = Segments(offsets, segments.ids[at], segments.tokens[at], answers)
        after = self.after
        if after is not None:
            place = np.full(len(self), -1, dtype=np.int64)
            place[rows] = np.arange(len(rows))
            after = np.where(after[rows] >= 0, place[after[rows]], -1)
        taken: dict[str, Any] = {
            name: column[rows] for name in ROW_COLUMNS if (column := getattr(self, name)) is not None
        }
        return replace(
            self,
            **taken,
            segments=segments,
            after=after,
            names=None if self.names is None else [self.names[i] for i in rows.tolist()],
        )


TRAITS = ("priority", "session", "tenant", "deadline_s", "predicted_tokens", "adapter", "encoder_tokens")
"""Columns of ``TraceRows`` that a ``Workload`` has under the same name."""

ROW_COLUMNS = ("arrival_ns", "input_tokens", "output_tokens", "delay_s", *TRAITS)


class TraceFormat(Protocol):
    """What a class in ``register.trace_format`` can do; it is made without arguments.

    ``uses`` names the optional keys of ``workload.trace`` that the format heeds, of ``columns``,
    ``time_unit``, ``tokenizer``, ``characters_per_token``, ``hash_block_tokens`` and ``options``; any other
    that is set is refused.
    """

    uses: frozenset[str]

    def recognises(self, file: TraceFile) -> bool:
        """Whether the content of ``file`` is of this format."""
        ...

    def read(self, file: TraceFile) -> TraceRows:
        """The requests of ``file``; raises ``InputError`` naming the line for whatever is wrong."""
        ...
