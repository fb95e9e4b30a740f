"""The outcomes of a study on the disk: each is durable once it is there, and a study can go on from them.

One SQLite file, one row a run, found again by what was run (``study.digest``) and not by its number, so that
a study whose parameters have changed keeps what it has in common with before.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from tokensim.errors import InputError
from tokensim.explore.task import Outcome

STORE_FILE = "points.sqlite"


class Store:
    """The outcomes in ``file`` (made if absent). Use it in a ``with`` block."""

    def __init__(self, file: Path) -> None:
        self.file = file
        try:
            self._base = sqlite3.connect(file, isolation_level=None)
            # A commit survives the end of the process at any time; the end of the machine may cost the last.
            self._base.execute("PRAGMA journal_mode=WAL")
            self._base.execute("PRAGMA synchronous=NORMAL")
            self._base.execute(
                "CREATE TABLE IF NOT EXISTS outcomes"
                " (digest TEXT PRIMARY KEY, status TEXT, error TEXT, figures TEXT)"
            )
            self._base.execute("CREATE TABLE IF NOT EXISTS points (point INTEGER PRIMARY KEY, digest TEXT)")
            self._base.execute("DELETE FROM points")
        except sqlite3.DatabaseError as error:
            raise InputError(
                f"cannot be used: {error}", where=str(file), hint="give another folder with --output"
            ) from None

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._base.close()

    def claim(self, digest: str, point: int, *, retry: bool) -> bool:
        """``point`` is the run ``digest``; returns whether that is done (with ``retry``: done well)."""
        self._base.execute("INSERT INTO points VALUES (?, ?)", (point, digest))
        found = self._base.execute("SELECT status FROM outcomes WHERE digest = ?", (digest,)).fetchone()
        return found is not None and (found[0] == "ok" or not retry)

    def add(self, digest: str, outcome: Outcome) -> None:
        """Keep ``outcome``, what became of the run ``digest``."""
        self._base.execute(
            "INSERT OR REPLACE INTO outcomes VALUES (?, ?, ?, ?)",
            (digest, outcome.status, outcome.error, json.dumps(outcome.figures)),
        )

    def find(self, digest: str) -> Outcome | None:
        """What became of the run ``digest``, if it is there; the key is 0."""
        row = self._base.execute(
            "SELECT status, error, figures FROM outcomes WHERE digest = ?", (digest,)
        ).fetchone()
        return None if row is None else Outcome(0, row[0], row[1], json.loads(row[2]))

    def outcomes(self) -> Iterator[Outcome]:
        """What there is of the points, in their order, one by one; the key is the point."""
        rows = self._base.execute(
            "SELECT point, status, error, figures FROM points JOIN outcomes USING (digest) ORDER BY point"
        )
        for point, status, error, figures in rows:
            yield Outcome(point, status, error, json.loads(figures))

    def counts(self) -> dict[str, int]:
        """How many points ended with each status."""
        rows = self._base.execute(
            "SELECT status, COUNT(*) FROM points JOIN outcomes USING (digest) GROUP BY status"
        )
        return dict(rows.fetchall())
