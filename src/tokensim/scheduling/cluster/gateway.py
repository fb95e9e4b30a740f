"""In what order a gateway lets waiting requests into the cluster: which tenant's turn it is, and which of its
requests."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence

from tokensim.registry import register
from tokensim.scheduling.local import Request


class GatewayOrder(ABC):
    """Each tenant has a queue. ``key`` says who is first in it, ``pick`` which head enters next."""

    def key(self, request: Request) -> tuple[float, ...]:
        """The smaller, the earlier among the requests of a tenant; does not change."""
        return (request.arrival_s,)

    @abstractmethod
    def pick(self, heads: Sequence[Request]) -> Request:
        """One of ``heads``, of the tenants that may send one now."""

    def began(self, tenant: int, waiting: Collection[int]) -> None:
        """``tenant`` has begun to wait; ``waiting`` are all that do, itself included."""
        return

    def entered(self, request: Request, weight: float) -> None:
        """``request``, of a tenant of that ``weight``, was let in."""
        return


@register.gateway_order("fcfs")
class FirstComeFirstServed(GatewayOrder):
    """In order of arrival, whoever sent it."""

    def pick(self, heads: Sequence[Request]) -> Request:
        """See ``GatewayOrder.pick``."""
        return min(heads, key=lambda r: (r.arrival_s, r.index))


@register.gateway_order("priority")
class MostUrgentFirst(GatewayOrder):
    """Smallest ``priority`` first, in order of arrival among equals (llm-d's flow control, Kubernetes'
    Gateway API inference extension)."""

    def key(self, request: Request) -> tuple[float, ...]:
        """See ``GatewayOrder.key``."""
        return (request.priority, request.arrival_s)

    def pick(self, heads: Sequence[Request]) -> Request:
        """See ``GatewayOrder.pick``."""
        return min(heads, key=lambda r: (r.priority, r.arrival_s, r.index))


@register.gateway_order("fair")
class Fair(GatewayOrder):
    """The tenant that has been served least, in tokens of prompt and output by its weight: the virtual token
    counter (Sheng et al., Fairness in serving large language models, OSDI 2024). Who has not been waiting
    cannot save up: its counter is lifted to the least of those that wait."""

    def __init__(self) -> None:
        self._served: dict[int, float] = {}

    def pick(self, heads: Sequence[Request]) -> Request:
        """See ``GatewayOrder.pick``."""
        return min(heads, key=lambda r: (self._served.get(r.traits.tenant, 0.0), r.arrival_s, r.index))

    def began(self, tenant: int, waiting: Collection[int]) -> None:
        """See ``GatewayOrder.began``."""
        others = [self._served.get(other, 0.0) for other in waiting if other != tenant]
        if others:
            self._served[tenant] = max(self._served.get(tenant, 0.0), min(others))

    def entered(self, request: Request, weight: float) -> None:
        """See ``GatewayOrder.entered``."""
        tenant = request.traits.tenant
        self._served[tenant] = self._served.get(tenant, 0.0) + request.length / weight
