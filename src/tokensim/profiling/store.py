"""Every measurement on the disk at once: a file of JSON lines that is only ever appended to.

The first line says what was measured on; a line that was being written when the process died is ignored, and
cut off before the next one is written.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal, get_args

from tokensim.cost.tables.base import COLUMNS
from tokensim.errors import InputError
from tokensim.profiling.bench import Measurement
from tokensim.profiling.shapes import Shape

STORE_FILE = "measurements.jsonl"

Role = Literal["coarse", "refined", "check"]

KINDS: dict[str, type] = {"int": int, "str": str}
"""Types of a shape's columns."""


@dataclass(frozen=True, slots=True)
class Record:
    """A measured shape (or the ``refusal`` to measure it). ``guess``: what the points around said before;
    ``line``: of a check, the line that it was one of."""

    shape: Shape
    role: Role
    measurement: Measurement | None
    refusal: str = ""
    guess: float | None = None
    line: str = ""


class Store:
    """The measurements in ``file``. Use it in a ``with`` block."""

    def __init__(self, file: Path, identity: str, *, resume: bool) -> None:
        """Open or make the file; ``identity`` is what was measured on (``Facts.identity``).

        Raises ``InputError`` for a file that exists where ``resume`` was not asked for, that was measured on
        something else, or that cannot be read or written.
        """
        self.file = file
        self.records: dict[Shape, Record] = {}
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            lines = file.read_bytes().splitlines(keepends=True) if file.exists() else []
            if lines and not resume:
                raise InputError(
                    f"holds {len(lines) - 1:,} measurements",
                    where=str(file),
                    hint="--resume goes on from them; or give another folder with --output",
                )
            whole = lines if not lines or lines[-1].endswith(b"\n") else lines[:-1]
            self._read(whole, identity)
            self._file: IO[bytes] = file.open("r+b" if lines else "wb")
            self._file.truncate(sum(map(len, whole)))
            self._file.seek(0, os.SEEK_END)
            if not whole:
                self._write({"identity": identity})
        except OSError as error:
            raise InputError(f"cannot be used: {error.strerror or error}", where=str(file)) from None

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, record: Record) -> None:
        """Keep ``record``; it is on the disk when this returns."""
        self.records[record.shape] = record
        measured = record.measurement
        self._write(
            {
                "kind": record.shape.kind,
                **dict(record.shape.values),
                "role": record.role,
                **({} if record.guess is None else {"guess": record.guess, "line": record.line}),
                **({"refusal": record.refusal} if measured is None else {"measured": asdict(measured)}),
            }
        )

    def _write(self, row: dict[str, Any]) -> None:
        self._file.write(json.dumps(row).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def _read(self, lines: list[bytes], identity: str) -> None:
        for number, line in enumerate(lines, 1):
            try:
                row = json.loads(line)
                record = None if number == 1 else _record(row)
                there = row["identity"] if number == 1 else identity
            except (ValueError, KeyError, TypeError, AttributeError):
                raise InputError(
                    "is not a line of measurements",
                    where=f"{self.file}:{number}",
                    hint="the file was changed; remove it, or give another folder with --output",
                ) from None
            if there != identity:
                raise InputError(
                    f"was measured on: {there}",
                    where=str(self.file),
                    hint=f"this is: {identity}; give another folder with --output",
                )
            if record is not None and record.measurement is not None:
                self.records[record.shape] = record  # what was refused is tried again


def _record(row: dict[str, Any]) -> Record:
    """Raises ``ValueError``, ``KeyError`` or ``TypeError`` for a row that a store does not write."""
    measured = row.pop("measured", None)
    guess, line = row.pop("guess", None), row.pop("line", "")
    refusal, role, kind = row.pop("refusal", ""), row.pop("role"), row.pop("kind")
    if role not in get_args(Role) or any(type(row[name]) is not KINDS[COLUMNS[kind][name]] for name in row):
        raise ValueError("not a shape")
    found = None if measured is None else Measurement(**measured)
    times = [guess] if found is None else [guess, found.seconds, found.hot_seconds]
    if not all(time is None or (isfinite(time) and time > 0.0) for time in times):
        raise ValueError("not a time")
    return Record(Shape.of(kind, **row), role, found, refusal, guess, line)
