"""Prompt content from ``hash_ids``: one id a block of prompt tokens, equal ids meaning equal content."""

from __future__ import annotations

import numpy as np

from tokensim.errors import InputError
from tokensim.workload.base import Ints, Segments
from tokensim.workload.table import Table
from tokensim.workload.traces.base import TraceFile


def prompt_segments(
    file: TraceFile, input_tokens: Ints, name: str | None, block: int | None
) -> Segments | None:
    """The prompts' content from the column ``name`` of ``file``; None where nothing says what is shared.

    ``block`` is the format's tokens an id, which ``hash_block_tokens`` in the scenario overrides. Raises
    ``InputError`` where neither is known, or ``hash_block_tokens`` is set and there are no ids.
    """
    given = file.spec.hash_block_tokens
    if name is None:
        if given is not None:
            raise InputError(
                "hash_block_tokens is set, and the trace has no 'hash_ids'",
                where=str(file.path),
                hint="leave it out",
            )
        return None
    block = given or block
    if block is None:
        raise InputError(
            f"how many tokens does one of '{name}' stand for?",
            where=str(file.path),
            hint="set workload.trace.hash_block_tokens, e.g. 16",
        )
    return hash_segments(file.table, name, input_tokens, block)


def hash_segments(table: Table, name: str, input_tokens: Ints, block: int) -> Segments:
    """The segments of every row from its list of ids in the column ``name``, a block being ``block`` tokens.

    The last, partial block may have an id or not; where it has none, those tokens are shared with nobody. A
    row without ids shares nothing. Raises ``InputError`` for a row whose ids do not fit its length.
    """
    import polars as pl

    column = table.column(name)
    if not isinstance(column.dtype, pl.List):
        raise InputError(
            f"'{name}' is not a list of ids",
            where=table.where(0),
            hint="ids of blocks are a list, in JSON lines or Parquet",
        )
    counts = column.list.len().fill_null(0).cast(pl.Int64).to_numpy()
    whole, blocks = input_tokens // block, -(-input_tokens // block)
    bad = (counts != blocks) & (counts != whole) & (counts != 0)
    if bad.any():
        row = int(np.argmax(bad))
        needed = f"{whole[row]} or {blocks[row]}" if whole[row] != blocks[row] else f"{blocks[row]}"
        table.refuse(
            row,
            f"{counts[row]} {name} for {input_tokens[row]} input tokens",
            f"that prompt has {needed} blocks of {block} tokens; is hash_block_tokens right?",
        )
    given = _dense(column.filter(pl.Series(counts > 0)).explode(), table, name)
    # A row has its ids, then one segment of its own for the tokens that no id covers.
    covered = np.minimum(counts * block, input_tokens)
    tails = (input_tokens > covered).astype(np.int64)
    offsets = np.concatenate([[0], np.cumsum(counts + tails)])
    is_tail = np.zeros(offsets[-1], dtype=bool)
    is_tail[offsets[1:][tails > 0] - 1] = True
    fresh = int(given.max(initial=-1)) + 1
    ids = np.empty(offsets[-1], dtype=np.int64)
    ids[~is_tail] = given
    ids[is_tail] = fresh + np.arange(int(tails.sum()))
    tokens = np.full(offsets[-1], block, dtype=np.int64)
    last = offsets[1:][input_tokens > 0] - 1
    position = (counts + tails - 1)[input_tokens > 0]
    tokens[last] = (input_tokens - np.where(tails > 0, covered, position * block))[input_tokens > 0]
    return Segments(offsets, ids, tokens)


def _dense(ids: object, table: Table, name: str) -> Ints:
    """Ids as whole numbers ≥ 0; texts, negative and huge numbers are numbered afresh."""
    import polars as pl

    assert isinstance(ids, pl.Series)
    if not len(ids):
        return np.empty(0, dtype=np.int64)
    if ids.has_nulls() or not (ids.dtype.is_integer() or ids.dtype == pl.String):
        raise InputError(
            f"'{name}' holds something that is no id", where=str(table.path), hint="whole numbers or texts"
        )
    if ids.dtype.is_integer() and int(ids.min()) >= 0 and int(ids.max()) < 2**61:  # type: ignore[arg-type]
        return ids.cast(pl.Int64).to_numpy()
    return ids.rank("dense").cast(pl.Int64).to_numpy() - 1
