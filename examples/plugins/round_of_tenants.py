"""A gateway order of one's own: the tenants take turns, and each sends its shortest prompt first.

    tokensim run examples/quickstart.yaml --plugin examples/plugins/round_of_tenants.py \
        --rate 40 --num-requests 500 --set 'cluster.admission={max_outstanding: 64, order: round-of-tenants}'

``key`` orders the requests of a tenant, ``pick`` chooses among the first ones of all tenants that may enter,
``entered`` tells who did. A tenant that has not had a turn for longest is next.
"""

from __future__ import annotations

from collections.abc import Sequence

from tokensim import register
from tokensim.scheduling.cluster.gateway import GatewayOrder
from tokensim.scheduling.local import Request


@register.gateway_order("round-of-tenants")
class RoundOfTenants(GatewayOrder):
    """``cluster.admission.order: round-of-tenants``."""

    def __init__(self) -> None:
        self._turns: dict[int, int] = {}
        self._turn = 0

    def key(self, request: Request) -> tuple[float, ...]:
        """Shortest prompt first."""
        return (request.input_tokens, request.arrival_s)

    def pick(self, heads: Sequence[Request]) -> Request:
        """Of the tenant whose last turn is longest ago."""
        return min(heads, key=lambda head: (self._turns.get(head.traits.tenant, 0), head.traits.tenant))

    def entered(self, request: Request, weight: float) -> None:
        """That was a turn of its tenant."""
        self._turn += 1
        self._turns[request.traits.tenant] = self._turn
