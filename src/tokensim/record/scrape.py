"""The server's metrics over time, polled beside the load on a connection of their own."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tokensim.record.exposition import Wanted
from tokensim.record.flavours import COLUMNS
from tokensim.record.http import page

if TYPE_CHECKING:
    import aiohttp

NAN = float("nan")


@dataclass(slots=True)
class ServerSeries:
    """``time_s`` (the middle of a poll) and a column each metric that the server has; NaN where a poll lacked
    it. ``missed`` polls of ``path`` found nothing."""

    path: str = ""
    time_s: array[float] = field(default_factory=lambda: array("d"))
    columns: dict[str, array[float]] = field(default_factory=dict)
    missed: int = 0

    def add(self, time_s: float, values: Mapping[str, float]) -> None:
        """Put in what one poll found."""
        for name in COLUMNS:
            if name in values and name not in self.columns:
                self.columns[name] = array("d", [NAN] * len(self.time_s))
        self.time_s.append(time_s)
        for name, column in self.columns.items():
            column.append(values.get(name, NAN))


async def scrape(
    session: aiohttp.ClientSession, path: str, wanted: Wanted, clock: Callable[[], float], every_s: float
) -> ServerSeries:
    """Poll ``path`` every ``every_s`` until cancelled; a poll that takes longer delays the next one.

    Returns what was found when it is cancelled.
    """
    series = ServerSeries(path)
    with suppress(asyncio.CancelledError):
        while True:
            began = clock()
            status, content = await page(session, path, max(every_s, 1.0))
            ended = clock()
            values = wanted.read(content.decode(errors="replace")) if status == 200 else {}
            if values:
                series.add((began + ended) / 2, values)
            else:
                series.missed += 1
            await asyncio.sleep(max(began + every_s - ended, every_s / 10))
    return series
