"""The gaps between tokens of requests that sit out whole steps, noted by groups instead of one by one.

Where prefills run alone, every decoding request waits. Those that decoded in the step before the first such
step had their last token at its end; those whose prefill is done in one of these steps, at the end of that.
So the waiting requests fall into as many groups as there were steps, and when they decode again, each group
is one correction of the gaps that the step implies: its requests waited for longer than the step lasted.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf, nan
from typing import Any

from tokensim.engine.front_end import Outputs
from tokensim.metrics.recorder import PACK_GAP
from tokensim.scheduling.local import Request


class Pauses:
    """Of one instance. ``note`` takes packed gaps. Empty (false) while nobody waits."""

    def __init__(self, note: Callable[[bytes], Any]) -> None:
        self._note = note
        self._groups: dict[float, int] = {}  # when the last token came → to how many; in order of time
        self._waiting = 0
        self._ended_s = -inf  # when the step ended in which they came back last
        self._since_s = -inf  # since when the first of them had waited then
        self._resumed_s = -inf
        self._resumed: dict[Request, float] = {}  # prefilled again in the step that ended then → last token

    def __bool__(self) -> bool:
        return bool(self._groups)

    def sit_out(self, paused: int, before_s: float) -> None:
        """``paused`` requests sit out a step; those that did not sit out the one before, too, had a token at
        its end, ``before_s``."""
        if paused > self._waiting:
            self._groups[before_s] = self._groups.get(before_s, 0) + paused - self._waiting
            self._waiting = paused

    def end(self, end_s: float, step_s: float) -> None:
        """All of them decode again, in a step that lasts ``step_s`` and ends at ``end_s``."""
        self._ended_s, self._since_s = end_s, next(iter(self._groups))
        for last_s, requests in self._groups.items():
            self._note(PACK_GAP(end_s - last_s, requests))
        self._note(PACK_GAP(step_s, -self._waiting))
        self._groups.clear()
        self._waiting = 0

    def drop_out(self, request: Request, before_s: float) -> float:
        """``request``, which waits, loses its place; returns when its last token came. ``last_token_s`` is
        when its prefill was done; ``before_s`` the end of the step before."""
        if not self._groups:
            return before_s
        last_s = max(request.last_token_s, next(iter(self._groups)))
        if last_s in self._groups:
            self._groups[last_s] -= 1
            self._waiting -= 1
        return last_s

    def resume(self, request: Request, end_s: float) -> None:
        """``request`` goes on after a preemption, with a prefill in the step that ends at ``end_s``."""
        if end_s != self._resumed_s:
            self._resumed_s = end_s
            self._resumed.clear()
        self._resumed[request] = request.last_token_s

    def lose(self, request: Request, before_s: float, start_s: float, outputs: Outputs | None) -> None:
        """``request`` loses its place, and the token that the step in flight makes for it.

        That step, whose ``outputs`` go to the front end, ends at ``before_s``; ``start_s`` is when it, or the
        last one of its run, starts. What was noted of the token is taken back.
        """
        if request.last_token_s == before_s:  # its prefill is in flight
            if request.first_token_s == before_s:
                request.first_token_s = nan
                if outputs is not None:
                    outputs.firsts.remove(request)
                return
            last_s = self._resumed[request]
        elif self._ended_s == before_s:
            last_s = max(request.last_token_s, self._since_s)
        else:
            last_s = start_s
        self._note(PACK_GAP(before_s - last_s, -1))
        request.last_token_s = last_s
