"""The pools in the table at the end of a run: how busy each was, what it cost, what it drew."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tokensim.metrics.summary import Summary
from tokensim.report.numbers import count, energy, money, share

if TYPE_CHECKING:
    from rich.console import RenderableType

NAME = 14
"""Characters of a pool's name that are shown."""


def pools_table(summary: Summary) -> RenderableType | None:
    """A row a pool; None if there is only one.

    ``instances`` is how many stood, on average over the makespan; ``$/M`` what a million input and output
    tokens cost (-: it served none).
    """
    from rich.table import Table
    from rich.text import Text

    accounts = summary.spending.pools
    if len(accounts) < 2:
        return None
    usage = {pool.pool: pool for pool in summary.usage.pools}
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for title in ("pool", "instances", "busy", "KV mean", "cost", "$/M in", "$/M out", "energy"):
        table.add_column(title, justify="left" if title == "pool" else "right", no_wrap=True)
    for pool in accounts:
        used, account = usage[pool.pool], pool.account
        table.add_row(
            Text(pool.pool if len(pool.pool) <= NAME else pool.pool[: NAME - 2] + ".."),
            count(used.instances_mean),
            share(used.busy_share),
            share(used.kv_mean),
            money(account.usd),
            money(account.usd_per_million_input_tokens).removeprefix("$"),
            money(account.usd_per_million_output_tokens).removeprefix("$"),
            energy(account.energy_kwh),
        )
    return table
