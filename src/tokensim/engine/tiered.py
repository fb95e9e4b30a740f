"""KV of one instance in memory tiers behind its device: what is loaded, or computed again, what is stored.

*Loading*: at admission, what the device's prefix cache lacks is looked for in the tiers, from the top; where
the copy pays, it is offered to the scheduler (``KvSource``). The request waits for it, or runs at once, with
copies layer by layer beside the compute. *Storing* (``through``): when a prefill chunk is computed, and when
a request ends or is preempted, its full blocks are copied down; nobody waits for that, but nobody can read
them before they have come. *Writing back* (``back``): a tier gets what the one above it, or the device,
evicts. What is loaded stays where it was and comes into the tiers above too, as it passes through them.

A load does not pin what it reads: it has just been used, so it is the last that would go.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Literal, cast

from tokensim.cost.base import StepEstimate
from tokensim.engine.agenda import Agenda
from tokensim.engine.lanes import Copy, Lane, end_of
from tokensim.memory import Content, KvPool, Node
from tokensim.memory.tiers import Flight, Part, Tier, find, merged
from tokensim.metrics.recorder import PACK_LOAD, Recorder
from tokensim.scheduling.local import LocalScheduler, Offer, Request, Step

Decide = Literal["always", "faster", "never"]

SLACK = 1e-9
"""Relative: what is on its way, worked out from times that were summed in different order."""


@dataclass(eq=False, slots=True)
class Store:
    """One tier, of one instance or shared: ``number`` in the record, what it holds, how it is written.

    ``through``: copied to when KV is computed (else: when the level above evicts). ``most_in_flight_bytes``:
    a copy that would wait behind as much as that is not made. ``stored_bytes`` came from the device,
    ``demoted_bytes`` from the tier above, ``promoted_bytes`` with loads from below; ``dropped_bytes`` were
    not stored, for too much was on its way.
    """

    number: int
    name: str
    kind: str
    tier: Tier
    block_bytes: float
    through: bool
    most_in_flight_bytes: float = inf
    stored_bytes: float = 0.0
    demoted_bytes: float = 0.0
    promoted_bytes: float = 0.0
    dropped_bytes: float = 0.0


@dataclass(frozen=True, slots=True)
class Level:
    """A store as one instance reaches it: ``read`` and ``write`` (from the device) and ``demote`` (from the
    level above) lanes; each copy takes ``latency_s``, and ``block_latency_s`` for each block."""

    store: Store
    read: tuple[Lane, ...]
    write: tuple[Lane, ...]
    demote: tuple[Lane, ...]
    latency_s: float = 0.0
    block_latency_s: float = 0.0

    def copy(self, lanes: tuple[Lane, ...], blocks: int) -> Copy:
        """``blocks`` over ``lanes``."""
        return Copy(lanes, blocks * self.store.block_bytes, self.latency_s + blocks * self.block_latency_s)


@dataclass(eq=False, slots=True)
class TieredKv:
    """The tiers of one instance, from the top: the ``KvSource`` of its ``scheduler``.

    ``overlap``: requests run at once, beside their copies. ``decide``: whether what could be loaded is. With
    ``rouse(now)`` the instance is told that a load has come.
    """

    levels: Sequence[Level]
    scheduler: LocalScheduler
    cost: StepEstimate
    agenda: Agenda
    recorder: Recorder
    block_size: int
    token_bytes: float
    overlap: bool
    decide: Decide
    rouse: Callable[[float], None]
    _tiers: list[Tier] = field(init=False)
    _through: list[int] = field(init=False)
    _weighs: bool = field(init=False)
    _leaving: list[tuple[Node, int, int]] = field(init=False, default_factory=list)
    _awaited: dict[Request, float] = field(init=False, default_factory=dict)
    _copied_s: float = field(init=False, default=0.0)  # until then, copies beside the step being made

    def __post_init__(self) -> None:
        self._tiers = [level.store.tier for level in self.levels]
        self._through = [number for number, level in enumerate(self.levels) if level.store.through]
        self._weighs = any(tier.eviction.weighs for tier in self._tiers)
        if not self.levels[0].store.through:
            cast(KvPool, self.scheduler.pool).evicting = self._note_evicted
        self.scheduler.source = self

    # What the scheduler asks.

    def offer(self, request: Request, cached: int, now: float) -> Offer | None:
        """See ``KvSource.offer``."""
        content, size = request.content, self.block_size
        limit = (request.tokens - 1) // size * size
        if content is None or limit <= cached or self.decide == "never":
            return None
        parts = find(self._tiers, content, cached, limit, request.tokens)
        if parts and self.decide == "faster":
            parts = self._those_that_pay(request, cached, parts, now)
        if not parts:
            return None
        stop = parts[-1].stop // size * size
        if stop <= cached:
            return None
        parts = [self._up_to(part, stop) for part in parts if part.first < stop]
        overlap_s = None
        if self.overlap:  # the copies of a step follow each other, and the step adds them up
            overlap_s = max(0.0, end_of(self._copies(parts), now, book=False) - max(now, self._copied_s))
        return Offer(stop - cached, overlap_s, parts)

    def load(self, request: Request, offer: Offer, now: float) -> None:
        """See ``KvSource.load``."""
        parts: list[Part] = offer.source
        content = request.content
        assert content is not None
        worth = self._worth(parts[-1].stop)
        first_time = not request.preemptions
        last_s = now
        for part in parts:
            store = self.levels[part.tier].store
            end_s = end_of(self._copies([part]), now, book=True)
            last_s = max(last_s, end_s)
            self.recorder.loads.extend(
                PACK_LOAD(
                    request.index,
                    store.number,
                    (part.stop - part.first) if first_time else 0,
                    part.stop - part.first,
                    part.blocks * store.block_bytes,
                    now,
                    end_s,
                )
            )
        for tier in self._tiers:
            tier.use(content, parts[-1].stop // tier.block_tokens, worth)
        if offer.overlap_s is None:
            self._awaited[request] = last_s
            self.agenda.action(last_s, lambda now: self._come(request, content, parts, now))
            return
        self._copied_s = max(self._copied_s, last_s)
        if any(part.tier for part in parts):
            self.agenda.action(last_s, lambda now: self._promote(content, parts, now))

    # What the instance tells.

    def identify(self, request: Request) -> None:
        """``request`` arrives: even if nobody shares its tokens, they take room in the tiers."""
        if request.content is None:
            request.content = Content.unique(request.index)

    def scheduled(self, step: Step, now: float) -> None:
        """``step`` has been decided at ``now``: who lost its blocks for it, and what was evicted."""
        for request, _ in step.preempted:
            assert request.content is not None
            self._store(request.content, 0, request.lost_tokens, now)
        if self._leaving:
            leaving, self._leaving = self._leaving, []
            size = self.block_size
            for content, first, stop in merged(leaving, size):
                self._take_in(0, content, first * size, stop * size, now)

    def computed(self, step: Step, end_s: float) -> None:
        """The prefill chunks of ``step`` are computed at ``end_s``, now or later."""
        new = []
        for request, (tokens, before) in zip(step.chunk_requests, step.chunks, strict=True):
            # What lies before a chunk counts as used, and is made up for, when the prompt is whole.
            whole = before + tokens >= request.tokens
            new.append((request.content, 0 if whole else before, before + tokens))
        self._store_later(new, end_s)

    def ended(self, done: Sequence[Request], end_s: float) -> None:
        """``done`` finish at ``end_s``, now or later; the KV of a last token is never computed."""
        self._store_later([(request.content, 0, request.length - 1) for request in done], end_s)

    # Loading.

    def _copies(self, parts: Sequence[Part]) -> list[Copy]:
        return [self.levels[part.tier].copy(self.levels[part.tier].read, part.blocks) for part in parts]

    def _up_to(self, part: Part, stop: int) -> Part:
        if part.stop <= stop:
            return part
        size = self._tiers[part.tier].block_tokens
        return part._replace(stop=stop, blocks=-(-stop // size) - part.first // size)

    def _those_that_pay(self, request: Request, cached: int, parts: list[Part], now: float) -> list[Part]:
        """The first of ``parts`` that together save the most time: compute that is not needed, less the wait
        for the copies. Each prefill is priced as one chunk in a step of its own."""
        best, best_s = 0, 0.0
        all_s = self._prefill_s(request.tokens, cached)
        for count in range(1, len(parts) + 1):
            saved_s = all_s - self._prefill_s(request.tokens, parts[count - 1].stop)
            gain_s = saved_s - (end_of(self._copies(parts[:count]), now, book=False) - now)
            if gain_s > best_s:
                best, best_s = count, gain_s
        return parts[:best]

    def _prefill_s(self, tokens: int, before: int) -> float:
        """Seconds to compute a prompt of ``tokens`` of which ``before`` are there."""
        return self.cost.step_time(0, 0, 0, 0, [(tokens - before, before)], 1)

    def _worth(self, tokens: int) -> float:
        """Seconds to compute ``tokens`` again, for each byte of their KV."""
        if not (self._weighs and tokens):
            return 0.0
        return self._prefill_s(tokens, 0) / (tokens * self.token_bytes)

    def _come(self, request: Request, content: Content, parts: list[Part], now: float) -> None:
        """A load that ``request`` waited for has come."""
        self._promote(content, parts, now)
        if self._awaited.get(request) != now:
            return
        del self._awaited[request]
        if request in self.scheduler.loading:  # else it was given up meanwhile
            self.rouse(now)
            self.scheduler.loaded(request)

    def _promote(self, content: Content, parts: list[Part], now: float) -> None:
        """What was read from a lower tier has passed through those above."""
        for number in range(max(part.tier for part in parts)):
            store = self.levels[number].store
            size = store.tier.block_tokens
            below = [part for part in parts if part.tier > number]
            first, stop = -(-below[0].first // size), below[-1].stop // size
            came, gone = store.tier.put(content, first, stop, self._worth(parts[-1].stop))
            store.promoted_bytes += came * store.block_bytes
            self._demote(number, gone, now)

    # Storing.

    def _store_later(self, new: list[tuple[Content | None, int, int]], end_s: float) -> None:
        def store(now: float) -> None:
            for content, first, stop in new:
                assert content is not None
                self._store(content, first, stop, now)

        if self._through:
            self.agenda.action(end_s, store)

    def _store(self, content: Content, first: int, stop: int, now: float) -> None:
        """The device has the tokens before ``stop`` of ``content``: copy what tiers that are written through
        lack of them from ``first`` on."""
        for number in self._through:
            level = self.levels[number]
            size = self._tiers[number].block_tokens
            first = first // size * size  # a block that an earlier chunk has begun
            level.store.stored_bytes += self._put(
                number, level.write, content, first, stop, now, begin=first // size
            )

    def _take_in(self, number: int, content: Content, first: int, stop: int, now: float) -> None:
        """Tokens ``first … stop − 1`` of ``content`` were evicted above the level ``number``."""
        level = self.levels[number]
        level.store.demoted_bytes += self._put(number, level.demote, content, first, stop, now)

    def _put(
        self,
        number: int,
        lanes: tuple[Lane, ...],
        content: Content,
        first: int,
        stop: int,
        now: float,
        begin: int = 0,
    ) -> float:
        """Copy tokens ``first … stop − 1`` of ``content``, in full blocks, to a level; the bytes that came
        in. Blocks from ``begin`` on count as used."""
        level = self.levels[number]
        store = level.store
        size = store.tier.block_tokens
        start, end = -(-first // size), stop // size
        if start >= end:
            return 0.0
        if lanes[0].backlog_bytes(now) >= store.most_in_flight_bytes * (1 - SLACK):
            store.dropped_bytes += (end - start) * store.block_bytes
            return 0.0
        flight = Flight()
        came, gone = store.tier.put(content, start, end, self._worth(end * size), flight, begin=begin)
        if came:
            end_s = end_of([level.copy(lanes, came)], now, book=True)
            self.agenda.action(end_s, flight.land)
            self._demote(number, gone, now)
        return came * store.block_bytes

    def _demote(self, number: int, gone: list[tuple[Content, int, int]], now: float) -> None:
        """What a level has evicted goes to the next one, if that is written back to."""
        if number + 1 < len(self.levels) and not self.levels[number + 1].store.through:
            size = self._tiers[number].block_tokens
            for content, first, stop in gone:
                self._take_in(number + 1, content, first * size, stop * size, now)

    def _note_evicted(self, node: Node, first: int, count: int) -> None:
        self._leaving.append((node, first, count))
