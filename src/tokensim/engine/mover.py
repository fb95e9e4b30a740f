"""Moves KV between replicas over the links between their places."""

from __future__ import annotations

from collections.abc import Callable

from tokensim.engine.fairness import Transfer
from tokensim.engine.network import Network
from tokensim.engine.replica import Replica
from tokensim.engine.topology import Topology


class NetworkMover:
    """A ``Mover`` of ``tokensim.engine.handover`` over ``network``; replicas lie where ``topology`` has put
    them (``Replica.place``)."""

    def __init__(self, network: Network, topology: Topology) -> None:
        self.network = network
        self.topology = topology

    def move(
        self, source: Replica, target: Replica, bytes_: float, now: float, done: Callable[[float], None]
    ) -> Transfer:
        """See ``Mover.move``."""
        path = self.topology.path(source.place, target.place)
        return self.network.send(
            path.links,
            bytes_,
            now,
            done,
            latency_s=path.latency_s,
            most_bytes_per_s=path.most_bytes_per_s,
            source=source.index,
            target=target.index,
        )

    def cancel(self, transfer: Transfer, now: float) -> None:
        """See ``Mover.cancel``."""
        self.network.cancel(transfer, now)
