"""A file as a table whose every complaint names the file, the line and the value."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from tokensim.errors import InputError, nearest
from tokensim.workload.base import Floats, Ints
from tokensim.workload.parsing import csv_rows, parse_csv, parse_jsonl, parse_parquet
from tokensim.workload.source import Kind, as_text, kind_of, read_bytes

if TYPE_CHECKING:
    import polars as pl

_MOST_TOKENS = 1_000_000_000  # ours: far beyond any context, so that a slip of a column shows
_NS = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1}


@dataclass
class Table:
    """The rows of a file. ``frame`` has texts only when the file is CSV; typed columns otherwise."""

    path: Path
    kind: Kind
    data: bytes
    frame: pl.DataFrame

    @property
    def names(self) -> tuple[str, ...]:
        """The column names."""
        return tuple(self.frame.columns)

    def __len__(self) -> int:
        return self.frame.height

    @cached_property
    def _lines(self) -> list[int]:
        """The line on which each row ends; only asked for when something is wrong."""
        if self.kind == "csv":
            return [line for line, _ in csv_rows(self.data)][1:]
        return [i for i, line in enumerate(self.data.split(b"\n"), 1) if line.strip()]

    def where(self, row: int) -> str:
        """The file and line (Parquet: row) of ``row``."""
        if self.kind == "parquet":
            return f"{self.path}, row {row + 1}"
        return f"{self.path}, line {self._lines[row]}"

    def refuse(self, row: int, message: str, hint: str | None = None) -> NoReturn:
        """Raise ``InputError`` about ``row``."""
        raise InputError(message, where=self.where(row), hint=hint)

    def column(self, name: str) -> pl.Series:
        """The column ``name``; raises ``InputError`` with the nearest name."""
        if name not in self.frame.columns:
            raise InputError(f"no column '{name}'", where=str(self.path), hint=nearest(name, self.names))
        return self.frame[name]

    def tokens(self, name: str, least: int = 0) -> Ints:
        """Whole numbers ≥ ``least`` from the column ``name``; raises ``InputError`` naming line and value."""
        values = self.integers(name, "a number of tokens")
        bad = (values < least) | (values > _MOST_TOKENS)
        if bad.any():
            row = int(np.argmax(bad))
            self.refuse(
                row,
                f"'{name}' is {self._found(self.column(name), row)}",
                "a length is negative" if values[row] < 0 else f"expected {least} to {_MOST_TOKENS:,} tokens",
            )
        return values

    def integers(self, name: str, what: str = "a whole number") -> Ints:
        """Whole numbers from the column ``name``; raises ``InputError`` naming line and value."""
        import polars as pl

        column = self.column(name)
        if column.dtype.is_integer() or column.dtype == pl.String:
            whole = column.cast(pl.Int64, strict=False)
            if not whole.has_nulls():
                return whole.to_numpy()
        values = self.floats(name, what)
        odd = values != np.rint(values)
        if odd.any():
            row = int(np.argmax(odd))
            self.refuse(row, f"'{name}' is {column[row]}", f"expected {what}, whole")
        return np.clip(values, -(2.0**62), 2.0**62).astype(np.int64)

    def floats(self, name: str, what: str = "a number") -> Floats:
        """Finite numbers from the column ``name``; raises ``InputError`` naming line and value."""
        import polars as pl

        column = self.column(name)
        if not (column.dtype.is_numeric() or column.dtype in (pl.String, pl.Null)):
            self.refuse(0, f"'{name}' is {column[0]!r}", f"expected {what}")
        texts = column.str.strip_chars() if column.dtype == pl.String else column
        values = texts.cast(pl.Float64, strict=False).fill_null(float("nan")).to_numpy()
        bad = ~np.isfinite(values)
        if bad.any():
            row = int(np.argmax(bad))
            self.refuse(row, f"'{name}' is {self._found(column, row)}", f"expected {what}")
        return values

    def _found(self, column: pl.Series, row: int) -> str:
        """The value at ``row`` for a message."""
        value = column[row]
        if value is not None:
            return "NaN" if value != value else str(value).strip()
        cut = row == len(self) - 1 and self.kind == "csv" and not self.data.endswith(b"\n")
        return "missing (the last line looks cut off)" if cut else "missing"

    def times_ns(self, name: str, unit: str | None = None) -> Ints:
        """Times in whole ns, from dates or numbers; refuses times that go backwards.

        Numbers are counted in ``unit`` (s, ms, us, ns; None: seconds); dates have no unit.
        """
        column = self.column(name)
        if column.dtype.is_temporal() or self._has_dates(column):
            if unit is not None:
                self.refuse(0, f"'{name}' is {column[0]}", f"expected a number, counted in {unit}")
            times = self._dates_ns(name)
        else:
            unit = unit or "s"
            scale = _NS[unit]
            values = self.floats(name, f"a time in {unit}, or a date")
            if np.abs(values).max() > 2.0**62 / scale:
                self.refuse(
                    int(np.argmax(np.abs(values))),
                    f"'{name}' is beyond 146 years",
                    f"is it really in {unit}?",
                )
            whole = bool((values == np.rint(values)).all())
            times = values.astype(np.int64) * scale if whole else np.rint(values * scale).astype(np.int64)
        back = np.diff(times) < 0
        if back.any():
            row = int(np.argmax(back)) + 1
            self.refuse(
                row,
                f"time goes backwards: '{name}' is {column[row]} after {column[row - 1]}",
                "sort the trace by time",
            )
        return times

    def _has_dates(self, column: pl.Series) -> bool:
        import polars as pl

        return column.dtype == pl.String and bool(column.head(1).str.contains(r"^\s*\d{4}-\d\d-\d\d").any())

    def _dates_ns(self, name: str) -> Ints:
        """UTC ns since 1970; text such as ``2023-11-16 18:17:03.9799600``, with or without ``+00:00``."""
        import polars as pl

        column = self.column(name)
        if column.dtype == pl.String:
            text = column.str.strip_chars().str.replace("T", " ", literal=True).str.replace(r"Z$", "+00:00")
            zoned = text.str.contains(r"[+-]\d\d:?\d\d$").fill_null(False)
            text = pl.select(pl.when(zoned).then(text).otherwise(text + "+00:00")).to_series()
            dates = text.str.to_datetime("%Y-%m-%d %H:%M:%S%.f%#z", time_unit="ns", strict=False)
        else:
            dates = column.cast(pl.Datetime("ns"), strict=False)
        if dates.has_nulls():
            row = int(np.argmax(dates.is_null().to_numpy()))
            self.refuse(
                row,
                f"'{name}' is {self._found(column, row)}",
                "expected a date such as 2023-11-16 18:17:03.9799600",
            )
        return dates.cast(pl.Int64).to_numpy()


def read_table(path: Path) -> Table:
    """The rows of the CSV, JSON lines or Parquet file ``path``; raises ``InputError`` if there are none."""
    data = read_bytes(path)
    return parse_table(data, path)


def parse_table(data: bytes, path: Path) -> Table:
    """The rows in ``data``, which came from ``path``."""
    kind = kind_of(data)
    if kind == "parquet":
        frame = parse_parquet(data, path)
    elif kind == "json":
        raise InputError(
            "is one JSON document, not a table", where=str(path), hint="write one JSON object a line, or CSV"
        )
    else:
        data = as_text(data, path)
        frame = parse_csv(data, path) if kind == "csv" else parse_jsonl(data, path)
    if not frame.height:
        only = "the file has a header and no rows" if kind == "csv" else "the file has no rows"
        raise InputError(only, where=str(path), hint="a trace has one request a row")
    return Table(path, kind, data, frame)
