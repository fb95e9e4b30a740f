"""Collectives from measured tables, linear in bytes.

Times outside a graph include what the host needs to launch (about 20 µs), which a busy device hides: they
count only where nothing else was measured.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tokensim.cost.base import Setting
from tokensim.cost.tables.curves import RowCurve
from tokensim.model.operators import Collective
from tokensim.workload.base import Floats

if TYPE_CHECKING:
    import polars as pl

BACKENDS = ("custom_graph", "nccl", "rccl", "oneccl", "custom_eager", "gloo")
"""Backends by preference. ``custom_graph`` is the engine's own all-reduce as its workers call it, which hands
large buffers to NCCL itself, on the machine on which that version was measured; the tables of NCCL may come
from another machine with other links (two RTX PRO 6000: 15 and 37 GB/s), so the two are not joined."""


class CollectiveTable:
    """The collectives of one profile; ``table`` has the columns of ``collective``."""

    def __init__(self, table: pl.DataFrame, setting: Setting, source: str) -> None:
        self._table = table
        self._setting = setting
        self._source = source

    def price(self, op: Collective) -> RowCurve | None:
        """The time of ``op``; None where its kind or number of ranks was not measured, or other links carry
        it."""
        if not self._setting.measured_links(op.ranks):
            return None
        table = self._table
        table = table.filter((table["collective"] == op.kind) & (table["ranks"] == op.ranks))
        lines = {
            str(key[0]): _line(part) for key, part in table.partition_by("backend", as_dict=True).items()
        }
        line = next((lines[name] for name in BACKENDS if name in lines), None)
        if line is None:
            return None
        size, seconds = line
        row_bytes = op.bytes_per_row * (op.ranks if op.kind == "all_gather" else 1)
        return RowCurve(size / row_bytes, seconds, self._source, float(op.count))


def _line(part: pl.DataFrame) -> tuple[Floats, Floats]:
    part = part.group_by("bytes").min().sort("bytes")
    return part["bytes"].to_numpy().astype(float), part["seconds"].to_numpy()
