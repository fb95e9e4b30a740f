"""The bytes of a CSV, JSON lines or Parquet file as a data frame.

Polars parses; where it stumbles, or meets a row that does not fit, a slow parser looks at every line to say
which one is wrong.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokensim.errors import InputError

if TYPE_CHECKING:
    import polars as pl


def parse_parquet(data: bytes, path: Path) -> pl.DataFrame:
    """Typed columns; refuses a damaged file."""
    import polars as pl

    try:
        return pl.read_parquet(io.BytesIO(data))
    except Exception as error:  # polars raises its own, OSError and pyo3's; all mean the same here
        first = str(error).splitlines()[0]
        raise InputError(f"the Parquet file is truncated or damaged ({first})", where=str(path)) from None


def csv_rows(data: bytes) -> Iterator[tuple[int, list[str]]]:
    """(line, fields) of each row that is not blank."""
    reader = csv.reader(io.StringIO(data.decode("utf-8"), newline=""))
    for row in reader:
        if row and not (len(row) == 1 and not row[0].strip()):
            yield reader.line_num, row


def parse_csv(data: bytes, path: Path) -> pl.DataFrame:
    """Every column as text, names stripped; refuses rows with more or fewer fields than the header."""
    import polars as pl

    header = next(iter(csv_rows(data.split(b"\n", 1)[0])), (1, []))[1]
    if not header:
        raise InputError("the first line is empty", where=f"{path}, line 1", hint="start with the header")
    names = [name.strip() for name in header]
    twice = next((name for i, name in enumerate(names) if name in names[:i]), None)
    if twice is not None:
        raise InputError(f"the column '{twice}' is there twice", where=f"{path}, line 1")
    try:
        frame = pl.read_csv(io.BytesIO(data), infer_schema=False)
    except Exception:  # whatever stopped polars, the slow parser names the line
        return _csv_slowly(data, path, names)
    if len(frame.columns) != len(names) or (frame.height and frame[frame.columns[-1]].has_nulls()):
        return _csv_slowly(data, path, names)
    frame.columns = names
    return frame


def _csv_slowly(data: bytes, path: Path, names: Sequence[str]) -> pl.DataFrame:
    """The same row by row, to name the bad line."""
    import polars as pl

    rows: list[list[str]] = []
    end = data.rstrip(b"\r\n").count(b"\n") + 1
    try:
        for line, fields in csv_rows(data):
            if len(fields) != len(names):
                cut = line >= end and len(fields) < len(names)
                raise InputError(
                    f"{len(fields)} field{'s' * (len(fields) != 1)} where the header has {len(names)}"
                    + (" (the last line is cut off)" if cut else ""),
                    where=f"{path}, line {line}",
                    hint="the file is truncated; fetch it again" if cut else "one file, one format",
                )
            rows.append(fields)
    except csv.Error as error:
        raise InputError(f"is not CSV: {error}", where=str(path)) from None
    columns = {name: [row[i] or None for row in rows[1:]] for i, name in enumerate(names)}
    return pl.DataFrame(columns, schema=dict.fromkeys(names, pl.String))


def parse_jsonl(data: bytes, path: Path) -> pl.DataFrame:
    """Typed columns; refuses lines that are not JSON objects and keys that only some lines have."""
    import polars as pl

    try:
        frame = pl.read_ndjson(io.BytesIO(data), infer_schema_length=None)
    except Exception:  # whatever stopped polars, the slow parser names the line
        return _jsonl_slowly(data, path)
    # Where rows disagree about a type, polars takes a wider one or null; the first row says what was meant.
    first = json.loads(data.lstrip().split(b"\n", 1)[0])
    odd = (
        column.has_nulls()
        or (column.dtype == pl.String and not isinstance(first.get(column.name), str))
        or (column.dtype.is_nested() and not isinstance(first.get(column.name), list | dict))
        for column in frame.iter_columns()
    )
    return _jsonl_slowly(data, path) if any(odd) else frame


def _jsonl_slowly(data: bytes, path: Path) -> pl.DataFrame:
    """The same line by line, to name the bad line."""
    import polars as pl

    rows: list[dict[str, Any]] = []
    lines = data.split(b"\n")
    last = max(i for i, line in enumerate(lines, 1) if line.strip())
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            row = json.loads(line)
        except ValueError:
            if number == last and number > 1:
                raise InputError(
                    "the last line is cut off", where=where, hint="the file is truncated; fetch it again"
                ) from None
            shown = line.strip().decode()[:60]
            raise InputError(
                f"is not a JSON object: {shown}", where=where, hint="one JSON object a line, nothing else"
            ) from None
        if not isinstance(row, dict):
            raise InputError(f"is not a JSON object: {row!r:.60}", where=where, hint="one JSON object a line")
        for name, value in row.items():
            if rows and name in rows[0] and value is not None and rows[0][name] is not None:
                _same_type(name, value, rows[0][name], where)
        rows.append(row)
    try:
        return pl.DataFrame(rows, infer_schema_length=None, strict=False)
    except Exception as error:  # polars' own, for values no column can hold
        raise InputError(f"the rows do not make a table ({error})", where=str(path)) from None


def _same_type(name: str, value: object, first: object, where: str) -> None:
    """Refuse a value of another type than in the first row (whole and broken numbers are one type)."""
    found, expected = _type_words(value), _type_words(first)
    if found != expected and not (
        isinstance(value, list) and isinstance(first, list) and not (value and first)
    ):
        raise InputError(
            f"'{name}' is {value!r:.40}, {found}", where=where, hint=f"{expected} in the first row"
        )


def _type_words(value: object) -> str:
    if isinstance(value, list):
        inner = sorted({_type_words(item) for item in value})
        return "a list of " + " and ".join(inner) if inner else "a list"
    for types, words in (
        (bool, "true/false"),
        (int | float, "a number"),
        (str, "a text"),
        (dict, "an object"),
    ):
        if isinstance(value, types):
            return words
    return "null"
