"""Prompt content given outright: each prompt's segments as ``[id, tokens]``, and the id of its answer."""

from __future__ import annotations

import numpy as np

from tokensim.errors import InputError
from tokensim.workload.base import Ints, Segments
from tokensim.workload.table import Table

HINT = "a list of [id, tokens] with ids >= 0 and tokens >= 1, in JSON lines or Parquet"


def given_segments(table: Table, name: str, input_tokens: Ints, answers: str | None) -> Segments:
    """The segments in the column ``name``, and in the column ``answers`` the ids of what was generated (−1 or
    nothing: no prompt contains it); see ``Segments``.

    Raises ``InputError`` for what is no list of pairs, and for a row whose segments are not as long as its
    prompt.
    """
    import polars as pl

    column = table.column(name)
    if column.dtype != pl.List(pl.List(pl.Int64)):
        raise InputError(f"'{name}' is no list of segments", where=table.where(0), hint=HINT)
    counts = column.list.len().fill_null(0).cast(pl.Int64).to_numpy()
    pairs = column.filter(pl.Series(counts > 0)).explode()
    row_of = np.repeat(np.arange(len(counts)), counts)
    bad = (pairs.list.len() != 2).fill_null(value=True).to_numpy()
    if bad.any():
        table.refuse(int(row_of[np.argmax(bad)]), f"'{name}' holds something that is no pair", HINT)
    flat = pairs.explode()
    whole = flat.fill_null(-1).to_numpy().reshape(-1, 2) if len(flat) else np.empty((0, 2), dtype=np.int64)
    ids, tokens = whole[:, 0], whole[:, 1]
    bad = (ids < 0) | (tokens < 1)
    if bad.any():
        at = int(np.argmax(bad))
        table.refuse(int(row_of[at]), f"'{name}' holds [{ids[at]}, {tokens[at]}]", HINT)
    sums = np.bincount(row_of, weights=tokens, minlength=len(counts)).astype(np.int64)
    bad = sums != input_tokens
    if bad.any():
        row = int(np.argmax(bad))
        table.refuse(
            row,
            f"'{name}' are {sums[row]:,} tokens of {input_tokens[row]:,}",
            "the tokens of a prompt's segments sum to its input_tokens",
        )
    outputs = None if answers is None else table.integers(answers, "the id of an answer (-1: none)")
    return Segments(
        np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        np.ascontiguousarray(ids, dtype=np.int64),
        np.ascontiguousarray(tokens, dtype=np.int64),
        outputs,
    )
