"""The table of a study: one row a run, its parameters, its seed, how it ended, every figure of its summary.

Columns stand in a fixed order, rows in the order of the points, so that the same study makes the same bytes.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from tokensim.explore.study import Study
from tokensim.explore.task import Outcome
from tokensim.report.atomic import write_atomic

if TYPE_CHECKING:
    import polars as pl

RESULTS_FILE = "results.parquet"
ROWS = 5_000
"""Rows in memory at a time."""


def rows_of(study: Study, outcomes: Iterable[Outcome]) -> Iterator[dict[str, Any]]:
    """One row an outcome."""
    names = [parameter.name for parameter in study.parameters]
    for outcome in outcomes:
        point = study.point(outcome.key)
        yield {
            "point": point.index,
            **{name: choice.label for name, choice in zip(names, point.choices, strict=True)},
            "seed": point.seed,
            "status": outcome.status,
            "error": outcome.error,
            **outcome.figures,
        }


def frame_of(rows: Iterable[dict[str, Any]], schema: dict[str, Any] | None = None) -> pl.DataFrame:
    """``rows`` as a table; columns that only some have are null elsewhere."""
    import polars as pl

    held = list(rows)
    schema = schema or schema_of(held)
    return pl.DataFrame(
        {name: [_as(kind, row.get(name)) for row in held] for name, kind in schema.items()}, schema=schema
    )


def schema_of(rows: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The columns of ``rows``, in the order in which they first come, and the type that holds all values."""
    import polars as pl

    kinds: dict[str, set[type]] = {}
    for row in rows:
        for name, value in row.items():
            seen = kinds.setdefault(name, set())
            if value is not None:
                seen.add(type(value))

    def held(types: set[type]) -> Any:
        if not types or str in types or types > {bool}:
            return pl.String
        if types == {bool}:
            return pl.Boolean
        return pl.Int64 if types == {int} else pl.Float64

    return {name: held(types) for name, types in kinds.items()}


def _as(kind: Any, value: Any) -> Any:
    """``value`` as a column of ``kind`` takes it."""
    import polars as pl

    if value is None or kind != pl.String or isinstance(value, str):
        return value
    return str(value)


def write_results(folder: Path, study: Study, outcomes: Any) -> Path:
    """Write ``results.parquet`` from ``outcomes()``, which is read twice, a part of it at a time."""
    import polars as pl

    schema = schema_of(rows_of(study, outcomes()))
    target = folder / RESULTS_FILE
    rows = rows_of(study, outcomes())
    first = list(islice(rows, ROWS))
    if len(first) < ROWS:
        write_atomic(target, lambda file: write_frame(frame_of(first, schema), file))
        return target
    parts: list[Path] = []
    while first:
        parts.append(folder / f".part-{len(parts)}.parquet")
        frame_of(first, schema).write_parquet(parts[-1])
        first = list(islice(rows, ROWS))
    try:

        def join(file: IO[bytes]) -> None:
            pl.scan_parquet(parts).sink_parquet(file)

        write_atomic(target, join)
    finally:
        for part in parts:
            part.unlink(missing_ok=True)
    return target


def write_frame(frame: pl.DataFrame, file: IO[bytes]) -> None:
    """``frame`` as Parquet into ``file``."""
    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    file.write(buffer.getbuffer())
