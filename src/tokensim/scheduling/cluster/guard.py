"""A guard around the order of a gateway that is not ours: what it does wrong is said, with its name."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from math import isnan

from tokensim.errors import SimulationError, asked
from tokensim.scheduling.cluster.gateway import GatewayOrder
from tokensim.scheduling.local import Request


class GuardedOrder(GatewayOrder):
    """``order`` under guard: raises ``SimulationError``, with its name, for what no order can answer."""

    def __init__(self, order: GatewayOrder) -> None:
        self._order = order
        self._name = type(order).__name__

    def key(self, request: Request) -> tuple[float, ...]:
        """See ``GatewayOrder.key``."""
        key = asked("gateway order", self._order, "key", self._order.key, request)
        if not isinstance(key, tuple) or not all(isinstance(n, (int, float)) and not isnan(n) for n in key):
            raise SimulationError(
                f"the gateway order {self._name} gave {request} the key {key!r}; key must return a tuple of"
                " numbers"
            )
        return key

    def pick(self, heads: Sequence[Request]) -> Request:
        """See ``GatewayOrder.pick``."""
        picked = asked("gateway order", self._order, "pick", self._order.pick, tuple(heads))
        for head in heads:
            if picked is head:
                return head
        raise SimulationError(
            f"the gateway order {self._name} picked {picked!r}; pick must return one of the requests that it"
            " is given"
        )

    def began(self, tenant: int, waiting: Collection[int]) -> None:
        """See ``GatewayOrder.began``."""
        asked("gateway order", self._order, "began", self._order.began, tenant, waiting)

    def entered(self, request: Request, weight: float) -> None:
        """See ``GatewayOrder.entered``."""
        asked("gateway order", self._order, "entered", self._order.entered, request, weight)
