"""One request whose KV goes from one instance to another, and the terms on which it goes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Any, Protocol

from tokensim.memory import Content
from tokensim.scheduling.local import KvSource, Offer, Request

if TYPE_CHECKING:
    from tokensim.engine.cluster import Cluster
    from tokensim.engine.handover import Handover
    from tokensim.engine.instance import Instance
    from tokensim.engine.replica import Replica


class Mover(Protocol):
    """Moves KV between instances."""

    def move(
        self, source: Replica, target: Replica, bytes_: float, now: float, done: Callable[[float], None]
    ) -> Any:
        """Start to move ``bytes_``; ``done(time)`` is called when they have come. Returns what ``cancel``
        takes."""
        ...

    def cancel(self, transfer: Any, now: float) -> None:
        """Stop a transfer that ``move`` started."""
        ...


@dataclass(frozen=True, slots=True)
class Terms:
    """How prefill and decode work together.

    ``push``: the decode side has its memory before the prefill starts; else it fetches the KV when it can
    take it. ``layerwise``: see above. ``streams_first``: the client gets the first token from the prefill
    instance, and the decode instance goes on from the second; else (vLLM) that one computes the prompt's
    last token again and gives the first token too. ``latency_s``: from the end of a prefill until the decode
    side knows of it (a proxy's round trip). ``kv_bytes_per_token`` of the whole model, all ranks.
    ``layers`` of the model.
    """

    kv_bytes_per_token: float
    layers: int = 1
    push: bool = False
    layerwise: bool = False
    streams_first: bool = True
    latency_s: float = 0.0

    @property
    def early(self) -> bool:
        """Whether the decode instance is chosen when the request arrives."""
        return self.push or self.layerwise


class Passage:
    """One request on its way: ``first`` in the instance that gives the KV of its first ``tokens``, ``second``
    in the one that takes it.

    ``length`` at which the request ends; ``stopped_s``: when the giver had produced its last token.
    ``pieces`` of KV (from token, to token, share of the layers) are computed and not yet sent; ``planned``:
    tokens that are in some piece, or will be when the chunk in progress ends (``leaving`` such are to come);
    ``skip``: leading tokens that the decode side has (−1: it has no memory yet). ``announced``: the decode
    side knows that the prefill is over.
    """

    __slots__ = (
        "announced",
        "first",
        "gone",
        "granted_s",
        "in_flight",
        "leaving",
        "length",
        "migrates",
        "over",
        "pieces",
        "planned",
        "prefill",
        "second",
        "sent_bytes",
        "skip",
        "source",
        "started",
        "stopped_s",
        "target",
        "tokens",
    )

    def __init__(self, first: Request, prefill: Replica, tokens: int) -> None:
        self.first = first
        self.prefill = prefill
        self.tokens = tokens
        self.length = first.length
        self.migrates = False
        self.started = False
        self.source: Instance | None = None  # the rank that holds the KV, once all of it is there
        self.second: Request | None = None
        self.target: Instance | None = None  # the rank that has memory for it
        self.pieces: list[tuple[int, int, float]] = []
        self.gone: list[tuple[int, int, float]] = []  # pieces that were sent
        self.planned = 0
        self.leaving = 0
        self.skip = -1
        self.in_flight: dict[Any, None] = {}
        self.announced = False
        self.stopped_s = float("nan")
        self.granted_s = float("nan")
        self.sent_bytes = 0.0
        self.over = False

    @property
    def breaks_off(self) -> bool:
        """A side of it is dead, though its last step still runs: after that, there will be another one."""
        target = None if self.target is None else self.target.replica
        return self.prefill.gone_s < inf or (target is not None and target.gone_s < inf)

    def plan(self, end: int) -> tuple[int, int]:
        """Tokens up to ``end`` are, or are being, computed: those that nobody knew of (from, to)."""
        begin = self.planned
        self.planned = max(begin, end)
        return begin, self.planned

    def succeed(self, *, streams_first: bool) -> Request:
        """Make ``second``, the request as the taker gets it; for ``streams_first`` see ``Terms``."""
        first = self.first
        second = Request(first.index, first.arrival_s, first.input_tokens, first.output_tokens, self.length)
        second.priority, second.traits = first.priority, first.traits
        second.content = Content.unique(first.index)
        second.tokens = self.tokens + (self.migrates or streams_first)
        self.second = second
        return second

    def inform(self) -> None:
        """Tell ``second`` what the giver knows of ``first``."""
        first, second = self.first, self.second
        assert second is not None
        second.scheduled_s, second.cached_tokens = first.scheduled_s, first.cached_tokens
        second.first_token_s = first.first_token_s
        if second.first_token_s == second.first_token_s:
            second.last_token_s = self.stopped_s


class Source:
    """Where the scheduler of ``rank`` asks for KV: first the handover, then what it asked before (tiers)."""

    def __init__(self, handover: Handover, rank: Instance, tiers: KvSource | None) -> None:
        self._handover = handover
        self._rank = rank
        self._tiers = tiers

    def offer(self, request: Request, cached: int, now: float) -> Offer | None:
        """See ``KvSource.offer``."""
        offer = self._handover.offer(request, cached)
        if offer is None and self._tiers is not None:
            return self._tiers.offer(request, cached, now)
        return offer

    def load(self, request: Request, offer: Offer, now: float) -> None:
        """See ``KvSource.load``."""
        if isinstance(offer.source, Passage):
            self._handover.load(self._rank, offer.source, offer, now)
        elif self._tiers is not None:
            self._tiers.load(request, offer, now)


def stay(simulation: Cluster, passage: Passage, now: float) -> None:
    """The request of ``passage``, which waits for its prefill, is served to its end where it prefills; if it
    waits there already, behind all others."""
    first, replica = passage.first, passage.prefill
    length = min(passage.length, replica.axes[0].max_model_len)
    first.held = False
    if not passage.started:
        first.length = passage.length
        simulation.deliver(first, replica.take(), now, False)
        return
    if simulation.loads.counts:
        simulation.loads.sent(first, replica)
    rank = next((rank for rank in replica.ranks if first in rank.scheduler.waiting), None)
    if rank is None:
        first.length = length
        return
    scheduler = rank.scheduler

    def again(now: float) -> None:
        scheduler.remove(first)
        first.length = length
        scheduler.add(first)

    simulation.notify(rank.axis, again, now)
