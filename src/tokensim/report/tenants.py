"""The tenants in the table at the end of a run: how each was served, and how fairly."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tokensim.metrics.tenants import Tenants
from tokensim.report.numbers import count, duration

if TYPE_CHECKING:
    from rich.console import RenderableType

MOST = 8
"""Tenants shown; ``summary.json`` has all of them."""


def tenants_table(tenants: Tenants | None) -> RenderableType | None:
    """A row a tenant, by number, of those with the most requests; None if there are no tenants."""
    from rich.table import Table

    if tenants is None:
        return None
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for title in ("tenant", "requests", "rejected", "TTFT p50", "p99", "tokens/s"):
        table.add_column(title, justify="left" if title == "tenant" else "right", no_wrap=True)
    largest = sorted(tenants.tenants, key=lambda tenant: -tenant.requests)
    for tenant in sorted(largest[:MOST], key=lambda tenant: tenant.tenant):
        times = [tenant.ttft_p50_s, tenant.ttft_p99_s]
        table.add_row(
            str(tenant.tenant),
            count(tenant.requests),
            count(tenant.rejected),
            *("-" if time is None else duration(time) for time in times),
            "-" if tenant.tokens_per_s is None else count(round(tenant.tokens_per_s)),
        )
    if len(largest) > MOST:
        table.add_row(f"and {count(len(largest) - MOST)} more")
    if tenants.fairness is not None:
        table.caption, table.caption_justify = f"Jain's fairness index {tenants.fairness:.3f}", "left"
    return table
