"""Moves KV between replicas over the links between their places."""

from __future__ import annotations

from collections.abc import Callable
from math import inf

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

    def way(self, source: Replica, target: Replica) -> tuple[float, float]:
        """What a transfer between two replicas takes if nothing else is on the way: (seconds of latency,
        seconds a byte); infinite where one of them is gone."""
        if source is not target and not (source.place.nodes and target.place.nodes):
            return inf, 0.0
        path = self.topology.path(source.place, target.place)
        links = self.network.links
        rate = min([path.most_bytes_per_s, *(links[index].capacity for index in path.links)])
        return path.latency_s, 1 / rate

    def cancel(self, transfer: Transfer, now: float) -> None:
        """See ``Mover.cancel``."""
        self.network.cancel(transfer, now)
