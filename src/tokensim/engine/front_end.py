"""The API process in front of one instance: it tokenises, detokenises and streams, all in one thread.

A queue with one server, first come first served: each request costs ``request_s`` before the engine gets it,
each output of a request in a step ``chunk_s`` before the client gets it. Outputs of one step come together at
its end and leave together. Below a few hundred streams the queue is short; beyond what the thread can do it
grows, and with it what the client waits.

Steps cost nothing here: a run of equal steps is taken in at once. After ``j`` of them, which end at
``E_1 … E_j`` and bring ``w`` of work each, the thread is free at
``max(free + j·w, max_i E_i + (j − i + 1)·w)``; as ``E_i − i·w`` is a parabola in ``i``, the inner maximum is
at an end or at the vertex.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tokensim.scheduling.local import Request

REQUEST_S = 1.0e-3
"""Time of the API process for a request (HTTP, chat template, tokenizer of a thousand tokens): an estimate,
for a calibration or ``performance.front_end`` to replace."""

CHUNK_S = 30e-6
"""Time of the API process for one output of one request (detokenise, serialise, write): an estimate."""

CLIENT_S = 2.0e-3
"""Constant time of connection, HTTP and network that the client's clock adds: an estimate for one machine."""

Deliver = Callable[[Request, float, bool], None]
"""Called with a request, when the client gets the token, and whether it is its last one (else its first)."""


@dataclass(slots=True)
class Outputs:
    """``steps`` steps that bring ``requests`` outputs each; the first one ends at ``end_s``, after
    ``first_s``.

    Each later step lasts ``growth_s`` longer. ``firsts`` get their first token with it (a single step),
    ``done`` their last one with its last step. ``dropped`` steps came before and are done with. ``last_s``
    is when the last step ends, as the engine has it, once that is settled (the sums here may differ in the
    last bit).
    """

    end_s: float
    first_s: float
    growth_s: float
    steps: int
    requests: int
    firsts: list[Request] = field(default_factory=list)
    done: Sequence[Request] = ()
    dropped: int = 0
    last_s: float | None = None

    def end_of(self, step: int) -> float:
        """When step ``step`` (from 1) ends."""
        if step == self.steps and self.last_s is not None:
            return self.last_s
        later = step - 1
        return self.end_s + later * self.first_s + self.growth_s * (later * (later + 1) / 2)

    def drop(self, steps: int) -> None:
        """The first ``steps`` are done with."""
        self.end_s = self.end_of(steps + 1)
        self.first_s += self.growth_s * steps
        self.steps -= steps
        self.dropped += steps

    def ended(self, now: float) -> int:
        """How many steps have ended before ``now``."""
        low, high = 0, self.steps + 1  # steps that have ended, and one that has not
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.end_of(middle) < now else (low, middle)
        return low


class FrontEnd:
    """One thread; ``free_s`` is when it is done with all that it was given up to now."""

    def __init__(
        self,
        deliver: Deliver,
        request_s: float = REQUEST_S,
        chunk_s: float = CHUNK_S,
        client_s: float = CLIENT_S,
    ) -> None:
        self.request_s = request_s
        self.chunk_s = chunk_s
        self.client_s = client_s
        self.free_s = 0.0
        self.on_step: Callable[[float, float], None] | None = None
        """Called with the end of each step, or of the last one of a run, and when the client gets it."""
        self._deliver = deliver
        self._pending: deque[Outputs] = deque()

    def put(self, outputs: Outputs) -> None:
        """Steps that have been scheduled for good; they count once they end."""
        self._pending.append(outputs)

    def take_in(self, now: float, running: Outputs | None) -> float:
        """A request arrives at ``now``; returns when the engine gets it.

        ``running`` are the steps that run, which may still become fewer; its last one has not ended.
        """
        self.catch_up(now)
        if running is not None:
            ended = min(running.ended(now), running.steps - 1)
            if ended:
                self.absorb(running, ended)
        self.free_s = max(self.free_s, now) + self.request_s
        return self.free_s

    def catch_up(self, now: float) -> None:
        """Take in all outputs that came before ``now``."""
        pending = self._pending
        while pending:
            outputs = pending[0]
            ended = outputs.ended(now)
            if ended:
                self.absorb(outputs, ended)
            if outputs.steps:
                return
            pending.popleft()

    def absorb(self, outputs: Outputs, steps: int) -> None:
        """Take in the first ``steps`` ≥ 1 of ``outputs``, and tell whom they concern."""
        work = self.chunk_s * outputs.requests
        latest = self.free_s + steps * work
        peaks = {1, steps}
        if outputs.growth_s < 0.0:
            vertex = int(min(max((work - outputs.first_s) / outputs.growth_s, 0.0), float(steps)))
            peaks.update(min(max(i, 1), steps) for i in (vertex - 1, vertex, vertex + 1, vertex + 2))
        for i in peaks:
            latest = max(latest, outputs.end_of(i) + (steps - i + 1) * work)
        self.free_s = latest
        if self.on_step is not None:
            self.on_step(outputs.end_of(steps), latest + self.client_s)
        outputs.drop(steps)
        for request in outputs.firsts:
            self._deliver(request, latest + self.client_s, False)
        if not outputs.steps:
            for request in outputs.done:
                self._deliver(request, latest + self.client_s, True)
