"""KV that goes from one instance to another: prefill and decode apart, and requests that migrate.

Apart, a request computes its prompt in one instance and decodes in another.

The prefill instance gets the request with an output of one token and keeps its KV (``Request.held``). The
decode instance gets it as a request whose KV lies elsewhere: its scheduler gives it blocks when memory is
there, the KV comes over the network, and only then it runs. So a full decode side backs up as in the real
systems: pulling (vLLM's NixlConnector, DistServe), the KV waits in the prefill instance, whose own pool fills
up; pushing (SGLang, Mooncake), a request does not start to prefill before the decode side has memory for it.

``layerwise``: the KV of a chunk leaves as its layers are computed, all but the last layer while the chunk
runs; else everything leaves when the prefill is over. Where the decode instance has a part of the prompt in
its prefix cache, that part is not sent.

A migration is the same from the moment when the prefill is over: the request stops, its KV waits until the
new instance has taken it over, and it goes on there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from tokensim.engine.passage import Mover, Passage, Source, Terms, stay
from tokensim.memory import Content
from tokensim.metrics.recorder import PACK_HANDOVER
from tokensim.scheduling.cluster import GlobalScheduler
from tokensim.scheduling.local import Offer, Request, Step

if TYPE_CHECKING:
    from tokensim.engine.cluster import Cluster
    from tokensim.engine.instance import Instance
    from tokensim.engine.replica import Replica


class Handover:
    """The second stage of a cluster with prefill and decode apart. ``router`` chooses among ``decoders``."""

    def __init__(self, simulation: Cluster, router: GlobalScheduler, terms: Terms, mover: Mover) -> None:
        self.simulation = simulation
        self.router = router
        self.terms = terms
        self.mover = mover
        self.decoders: Sequence[Replica] = ()
        self.passages: dict[int, Passage] = {}  # by index of the request
        self._parked: dict[Passage, None] = {}  # nobody decodes just now
        simulation.handover = self
        simulation.loads.serve(router)

    def connect(self, rank: Instance) -> None:
        """``rank`` may give or take KV."""
        scheduler = rank.scheduler
        if not scheduler.can_load:
            return
        scheduler.source = Source(self, rank, scheduler.source)
        if self.terms.layerwise:
            rank.on_chunks = self._chunks

    def refresh(self, decoders: Sequence[Replica]) -> None:
        """These serve the second stage from now on."""
        self.decoders = decoders
        if decoders and self._parked:
            parked, self._parked = self._parked, {}
            for passage in parked:
                if not passage.over:
                    self._choose(passage, self.simulation.now)

    @property
    def parked(self) -> int:
        """Requests that nobody can decode just now."""
        return len(self._parked)

    def give_up_parked(self, now: float) -> list[Request]:
        """Nobody will ever decode what waits for it: these end, and their KV goes."""
        parked, self._parked = self._parked, {}
        lost = [passage for passage in parked if not passage.over]
        for passage in lost:
            self._abandon(passage, now)
        return [passage.first for passage in lost]

    def untangle(self, now: float) -> bool:
        """Nothing moves any more. Who holds KV for somebody who has no room, and lacks that room itself,
        gives it up; it will be computed again. What waits for room to prefill, and holds that room in its
        decode instance, decodes where it prefills. Returns whether there was any.

        Only clusters whose instances serve both stages, or change roles, come to this.
        """
        stuck = [p for p in self.passages.values() if not p.in_flight and p.second is not None]
        for passage in stuck:
            self._close(passage)
            if passage.source is None:
                self._withdraw(passage)
                stay(self.simulation, passage, now)
            else:
                self._let_go(passage, now)
        for rank in self.simulation.all_ranks() if stuck else ():
            if rank.scheduler.waiting:
                self.simulation.rouse(rank.axis, now)
        return bool(stuck)

    # The prefill side.

    def begin(self, request: Request, replica: Replica, now: float, follows: bool) -> None:
        """``request`` was routed to ``replica``, which only prefills."""
        if self.terms.streams_first and request.length == request.tokens + 1:
            self.simulation.deliver(request, replica.take(), now, follows)
            return
        if request.index in self.passages:  # it was moved before its prompt was computed
            self.simulation.loads.gone(self.passages[request.index].first)
        passage = self.passages[request.index] = Passage(request, replica, request.tokens)
        request.held = True
        request.length = request.tokens + 1
        if request.content is None:  # its decode instance may be the same one, and look for these blocks
            request.content = Content.unique(request.index)
        if self.terms.early:
            self._choose(passage, now, follows)
        if not (self.terms.push or passage.over):
            self._prefill(passage, now, follows)

    def _prefill(self, passage: Passage, now: float, follows: bool) -> None:
        if passage.started or passage.over:
            return
        passage.started = True
        if passage.prefill.axes[0].down:
            self.astray(passage.first, now)
        elif not self.simulation.deliver(passage.first, passage.prefill.take(), now, follows):
            self._close(passage)
            self._withdraw(passage)

    def prefilled(self, rank: Instance, request: Request, end_s: float) -> None:
        """The prompt of ``request`` is computed in ``rank`` at ``end_s``, which keeps its KV."""
        passage = self.passages.get(request.index)
        if passage is None or passage.first is not request:  # it was given up in the meantime
            self.simulation.at(end_s, lambda now: self._drop(rank, request, now))
            return
        passage.source = rank
        passage.stopped_s = end_s
        if rank.axis.front_end is None:
            self.announce(request, end_s)

    def announce(self, request: Request, time: float) -> None:
        """At ``time`` the prefill instance says that the prompt of ``request`` is computed."""
        passage = self.passages.get(request.index)
        if passage is not None:
            self.simulation.at(time + self.terms.latency_s, lambda now: self._announced(passage, now))

    def _chunks(self, rank: Instance, step: Step, start_s: float, seconds: float) -> None:
        """``step`` of ``rank`` runs from ``start_s`` for ``seconds``: the KV of its chunks leaves by
        layers."""
        at, rest = self.simulation.at, 1 / self.terms.layers
        for request, (tokens, before) in zip(step.chunk_requests, step.chunks, strict=True):
            passage = self.passages.get(request.index)
            if passage is None or passage.first is not request:
                continue
            cached = passage.plan(before)  # found in the prefix cache
            piece = passage.plan(before + tokens)
            passage.leaving += 2
            most = [(*cached, 1.0), (*piece, 1 - rest)]
            at(start_s + seconds * rest, self._leave(passage, most))
            at(start_s + seconds, self._leave(passage, [(*piece, rest)]))

    def _leave(self, passage: Passage, pieces: list[tuple[int, int, float]]) -> Callable[[float], None]:
        def leave(now: float) -> None:
            passage.leaving -= 1
            passage.pieces += pieces
            self._send(passage, now)

        return leave

    def _announced(self, passage: Passage, now: float) -> None:
        """The decode side learns that all KV of ``passage`` is there."""
        if passage.over:
            return
        passage.announced = True
        passage.pieces.append((*passage.plan(passage.tokens), 1.0))
        if passage.second is None:
            self._choose(passage, now)
        else:
            passage.inform()
        self._send(passage, now)

    # The decode side.

    def _choose(self, passage: Passage, now: float, follows: bool = False) -> None:
        """Find the decode instance of ``passage`` and put the request into its queue."""
        if not self.decoders:
            self._parked[passage] = None
            return
        second = passage.succeed(streams_first=self.terms.streams_first)
        if passage.announced:
            passage.inform()
        self.simulation.loads.lies(second, passage.prefill)
        replica = self.simulation.choose(self.router, second, self.decoders, now, follows)
        if not self.simulation.deliver(second, replica.take(), now, follows):
            self._abandon(passage, now)

    def migrate(self, rank: Instance, request: Request, target: Replica, now: float) -> None:
        """``request``, which ``rank`` has stopped at ``now`` and holds, goes on in ``target``."""
        if request not in rank.scheduler.holding:  # its replica has died since
            return
        passage = Passage(request, rank.replica, request.computed)
        request.held = True
        passage.migrates = passage.announced = True
        passage.source, passage.stopped_s = rank, now
        passage.pieces.append((*passage.plan(passage.tokens), 1.0))
        second = passage.succeed(streams_first=self.terms.streams_first)
        passage.inform()
        second.preemptions, second.recomputed_tokens = request.preemptions, request.recomputed_tokens
        if not target.up:  # it has gone since that was ordered
            self._drop(rank, request, now)
            self.simulation.dispatch(second, now, False)
            return
        self.passages[request.index] = passage
        if not self.simulation.deliver(second, target.take(), now, False):
            self._abandon(passage, now)

    def offer(self, request: Request, cached: int) -> Offer | None:
        """The KV of ``request`` beyond its first ``cached`` tokens, if it is handed over."""
        passage = self.passages.get(request.index)
        if passage is None or passage.second is not request:
            return None
        return Offer(max(0, passage.tokens - cached), source=passage)

    def load(self, rank: Instance, passage: Passage, offer: Offer, now: float) -> None:
        """The second request of ``passage`` has got its blocks in ``rank``."""
        passage.target = rank
        passage.skip = passage.tokens - offer.tokens
        passage.granted_s = now
        if self.terms.push and not passage.started and passage.source is None:
            self.simulation.at(now, lambda now: self._prefill(passage, now, False))
        else:
            self.simulation.at(now, lambda now: self._send(passage, now))

    # Between them.

    def _send(self, passage: Passage, now: float) -> None:
        """Send what is computed, if the decode side has memory for it."""
        if passage.skip < 0 or passage.over or passage.breaks_off:
            return
        assert passage.target is not None
        pieces, passage.pieces, skip = passage.pieces, [], passage.skip
        passage.gone += pieces
        tokens = sum(max(0, end - max(begin, skip)) * share for begin, end, share in pieces)
        if tokens > 0:
            passage.sent_bytes += tokens * self.terms.kv_bytes_per_token
            sent, follows = list[Any](), self.simulation.follows

            def done(time: float) -> None:
                del passage.in_flight[sent[0]]
                if time > now or not follows:
                    self._settle(passage, time)
                else:
                    self.simulation.follow(partial(self._settle, passage), time)

            sent.append(
                self.mover.move(
                    passage.prefill,
                    passage.target.replica,
                    tokens * self.terms.kv_bytes_per_token,
                    now,
                    done,
                )
            )
            passage.in_flight[sent[0]] = None
        else:
            self._settle(passage, now)

    def _settle(self, passage: Passage, now: float) -> None:
        """End ``passage`` if everything has come."""
        if passage.over or passage.in_flight or passage.pieces or passage.leaving or not passage.announced:
            return
        source, target, second = passage.source, passage.target, passage.second
        assert source is not None and target is not None and second is not None
        self._close(passage)
        if self.simulation.hooks.on_transfer is not None:
            self.simulation.hooks.on_transfer(second, passage.prefill, target.replica, passage.sent_bytes)
        self.simulation.recorder.handovers.extend(
            PACK_HANDOVER(
                second.index,
                source.index,
                0 if passage.migrates else passage.first.preemptions,
                passage.migrates,
                passage.stopped_s,
                passage.granted_s,
                now,
                passage.sent_bytes,
            )
        )
        self._let_go(passage, now)

        def loaded(now: float) -> None:
            if second in target.scheduler.loading:
                target.scheduler.loaded(second)

        self.simulation.notify(target.axis, loaded, now)

    def _let_go(self, passage: Passage, now: float) -> None:
        """The prefill instance need not keep the KV any longer."""
        source = passage.source
        if source is None:
            return

        def release(now: float) -> None:
            if passage.first in source.scheduler.holding:
                source.scheduler.release(passage.first)

        self.simulation.notify(source.axis, release, now)

    def _drop(self, rank: Instance, request: Request, now: float) -> None:
        """Nobody wants the KV of ``request``, which ``rank`` holds."""
        self.simulation.notify(rank.axis, lambda now: rank.scheduler.release(request), now)

    def _abandon(self, passage: Passage, now: float) -> None:
        """The decode side refuses the request."""
        self._close(passage)
        self._let_go(passage, now)

    def cancel(self, passage: Passage, now: float) -> None:
        """Nobody wants the request of ``passage`` any more: the decode side gives up its place and memory for
        it, and the prefill side the KV that it keeps; a prompt that is being computed is the caller's."""
        for transfer in passage.in_flight:
            self.mover.cancel(transfer, now)
        passage.in_flight.clear()
        self._parked.pop(passage, None)
        self._close(passage)
        self._withdraw(passage)
        self._let_go(passage, now)

    # When an instance dies.

    def lost_taker(self, passage: Passage, now: float) -> None:
        """The decode instance of ``passage`` is gone, with all that has come to it: find another one."""
        for transfer in passage.in_flight:
            self.mover.cancel(transfer, now)
        passage.in_flight.clear()
        passage.pieces, passage.gone = passage.gone + passage.pieces, []
        if passage.second is not None:
            self.simulation.loads.gone(passage.second)
        passage.skip, passage.target, passage.second = -1, None, None
        if passage.announced or self.terms.early:
            self._choose(passage, now)

    def lost_giver(self, passage: Passage, now: float) -> Request:
        """The prefill instance of ``passage`` is gone, with its KV: returns the request as it can be
        retried."""
        for transfer in passage.in_flight:
            self.mover.cancel(transfer, now)
        self._close(passage)
        self._withdraw(passage)
        first = passage.first
        if passage.source is None:
            return first
        second = passage.succeed(streams_first=self.terms.streams_first)
        passage.inform()
        return second

    def astray(self, request: Request, now: float) -> None:
        """``request`` was on its way into an instance that is down now."""
        passage = self.passages.get(request.index)
        if passage is None:
            self.simulation.dispatch(request, now, False)
        elif passage.second is request:
            self.lost_taker(passage, now)
        else:
            first = self.lost_giver(passage, now)
            first.held, first.length = False, passage.length
            self.simulation.dispatch(first, now, False)

    def _withdraw(self, passage: Passage) -> None:
        """Take the second request, if there is one, out of the queue that it stands in."""
        second, taker = passage.second, passage.target
        if second is None:
            return
        self.simulation.loads.gone(second)

        def withdraw(now: float, rank: Instance) -> None:
            if second in rank.scheduler.loading or second in rank.scheduler.waiting:
                rank.scheduler.remove(second)

        for rank in (taker,) if taker is not None else self.simulation.all_ranks():
            scheduler = rank.scheduler
            if second in scheduler.loading or second in scheduler.waiting:
                self.simulation.notify(rank.axis, partial(withdraw, rank=rank), self.simulation.now)
                return
        second.finished = True  # it is on its way through a front end, if anywhere

    def _close(self, passage: Passage) -> None:
        passage.over = True
        if passage.source is None:
            self.simulation.loads.gone(passage.first)
        del self.passages[passage.first.index]
