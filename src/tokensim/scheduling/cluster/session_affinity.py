"""Session affinity: every round of a session to the same instance, by consistent hashing.

vLLM production-stack's ``session`` and the ``consistent_hashing`` of SGLang's gateway: a ring of hashes
(Karger et al., STOC 1997), so that an instance that comes or goes moves only its own share of the sessions.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from hashlib import blake2b

from tokensim.registry import register
from tokensim.scheduling.cluster.base import GlobalScheduler, T, Target
from tokensim.scheduling.local import Request

POINTS = 160
"""Points of an instance on the ring: ketama's, also of the ``uhashring`` that production-stack uses."""


@register.global_scheduler("session-affinity")
class SessionAffinity(GlobalScheduler):
    """A request without a session goes where the fewest are outstanding."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self._members: list[int] = []
        self._hashes: list[int] = []
        self._positions: list[int] = []

    def route(self, request: Request, instances: Sequence[T], now: float) -> T:
        """See ``GlobalScheduler.route``."""
        if request.traits.session < 0:
            return instances[int(self.loads.outstanding_requests(instances).argmin())]
        if len(instances) != len(self._members):
            self._make_ring(instances)
        at = bisect_right(self._hashes, _hash(f"session {request.traits.session}"))
        return instances[self._positions[at % len(self._positions)]]

    def joined(self, instance: Target) -> None:
        """See ``GlobalScheduler.joined``."""
        self._members = []

    left = joined

    def _make_ring(self, instances: Sequence[Target]) -> None:
        self._members = [instance.index for instance in instances]
        ring = sorted(
            (_hash(f"{member} {point}"), at)
            for at, member in enumerate(self._members)
            for point in range(POINTS)
        )
        self._hashes = [place for place, _ in ring]
        self._positions = [at for _, at in ring]


def _hash(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")
