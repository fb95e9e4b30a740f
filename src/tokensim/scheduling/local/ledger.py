"""What a guard knows of the requests of a local scheduler, from what went in and came out of it."""

from __future__ import annotations

from math import inf
from numbers import Integral
from typing import Any

from tokensim.errors import SimulationError
from tokensim.scheduling.local.base import Step
from tokensim.scheduling.local.request import Request

COUNTS = ("decode", "context", "window_context", "window_growth", "longest", "paused", "idle")
"""The numbers of a step."""


class Ledger:
    """The account of the policy called ``name``.

    ``here``: requests that were added and have neither finished nor been removed, and whether each has got a
    token; ``ends``: where the prefill of those of them that began to be computed stands. ``owed``: more
    decodes than this the requests cannot need. ``now`` is the time of the last decision, ``decisions`` their
    number, ``futile`` those in a row that gave nobody a token.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.now = 0.0
        self.decisions = 0
        self.futile = 0
        self.here: dict[Request, bool] = {}
        self.ends: dict[Request, int] = {}
        self.owed = 0
        self._longest = 0  # of all requests that ever were here, in tokens
        self._index = 0  # of the last step
        self._rows = 0  # that give a token in the last step

    def blame(self, method: str, did: str) -> SimulationError:
        """The error that says what ``method`` did."""
        return SimulationError(
            f"the local scheduler {self.name} was stopped at {self.now:.6g} s: {method} {did}"
        )

    def must_be_here(self, method: str, request: object, does: str) -> None:
        """Raises unless ``request`` is one that the policy has; it ``does`` something with it."""
        if not isinstance(request, Request):
            raise self.blame(method, f"{does} {request!r}, which is no request")
        if request not in self.here:
            raise self.blame(
                method,
                f"{does} {request}, which "
                + ("has finished" if request.finished else "was never added, or is gone"),
            )

    def enter(self, request: Request) -> None:
        """``request`` is added."""
        self.here[request] = False
        most = request.length + 2  # an engine that overlaps computes more before it knows of the end
        self.owed += most - request.tokens
        self._longest = max(self._longest, most)

    def leave(self, request: Request) -> None:
        """``request`` was removed; one whose KV was kept for somebody had left before."""
        self.here.pop(request, None)
        self.ends.pop(request, None)

    def finish(self, request: Request) -> None:
        """``update`` says that ``request`` has finished."""
        self.must_be_here("update", request, "finished")
        if not self.here[request]:
            raise self.blame("update", f"finished {request}, whose prompt has not been computed")
        self.leave(request)

    def repeat(self, steps: int) -> None:
        """``steps`` more steps equal to the last one."""
        self._index += steps
        self._spend("advance", self._rows * steps)

    def take_down(self, step: Step, running: int) -> None:
        """``step`` was scheduled, ``running`` requests run. Raises if it is impossible."""
        self._check_numbers(step, running)
        for request, _ in step.preempted:
            self.must_be_here("schedule", request, "preempted")
            self.ends.pop(request, None)
            self.owed += request.length + 2 - request.tokens  # what it was given may be lost
        self._check_admitted(step)
        for request in (*step.sat_out, *step.came_back):
            self.must_be_here("schedule", request, "left out")
        if step.chunks or step.chunk_requests or step.firsts:
            self._check_chunks(step)
        self._rows = step.decode - step.idle
        self._spend("schedule", self._rows)

    def _spend(self, method: str, decodes: int) -> None:
        self.owed -= decodes
        if self.owed < 0:
            raise self.blame(
                method, f"decodes tokens that nobody asked for: {-self.owed} more than its requests lack"
            )

    def _check_numbers(self, step: Step, running: int) -> None:
        idle = not (step.decode or step.chunks)  # a policy may not count it as a step
        if not isinstance(step.index, Integral) or step.index < self._index + (not idle):
            raise self.blame("schedule", f"numbered its step {step.index!r} after step {self._index}")
        if not idle:
            self._index = step.index
        for name in COUNTS:
            value: Any = getattr(step, name)
            if not isinstance(value, Integral) or value < 0:
                raise self.blame(
                    "schedule", f"returned a step with {name} = {value!r}, not a whole number ≥ 0"
                )
        for name in ("stall_s", "overlap_s"):
            seconds = getattr(step, name)
            if not isinstance(seconds, (int, float)) or not 0 <= seconds < inf:
                raise self.blame("schedule", f"returned a step with {name} = {seconds!r}, not seconds ≥ 0")
        if step.idle > step.decode:
            raise self.blame("schedule", f"returned a step with {step.idle} of {step.decode} rows idle")
        if step.decode - step.idle + len(step.chunk_requests) > running:
            raise self.blame(
                "schedule",
                f"lets {step.decode - step.idle} requests decode and {len(step.chunk_requests)} prefill,"
                f" though {running} run",
            )
        # Twice: an engine that overlaps decodes some rows beyond their end.
        if step.window_context > step.context or (
            not step.idle and step.context > 2 * step.decode * self._longest
        ):
            raise self.blame(
                "schedule",
                f"returned a step of {step.decode} decodes with a context of {step.context} tokens"
                f" ({step.window_context} in the window), though no request is longer than {self._longest}",
            )

    def _check_admitted(self, step: Step) -> None:
        seen: set[Request] = set()
        for request, hit in step.admitted:
            self.must_be_here("schedule", request, "admitted")
            if request in seen:
                raise self.blame("schedule", f"admitted {request} twice in one step")
            if not isinstance(hit, Integral) or not 0 <= hit <= request.tokens:
                raise self.blame(
                    "schedule", f"found {hit!r} of the {request.tokens} tokens of {request} cached"
                )
            seen.add(request)

    def _check_chunks(self, step: Step) -> None:
        chunks, requests, ends = step.chunks, step.chunk_requests, self.ends
        if len(chunks) != len(requests):
            raise self.blame(
                "schedule", f"returned a step of {len(chunks)} chunks for {len(requests)} chunk_requests"
            )
        chunked: dict[Request, int] = {}
        for (tokens, before), request in zip(chunks, requests, strict=True):
            self.must_be_here("schedule", request, "schedules")
            if request in chunked:
                raise self.blame("schedule", f"schedules {request} twice in one step")
            if (
                not (isinstance(tokens, Integral) and isinstance(before, Integral))
                or tokens < 1
                or before < 0
            ):
                raise self.blame(
                    "schedule", f"schedules {tokens!r} tokens after {before!r} of {request}; not a chunk"
                )
            if before + tokens > request.tokens:
                raise self.blame(
                    "schedule",
                    f"schedules {tokens} tokens after {before} of {request}, which has {request.tokens}",
                )
            if ends.get(request, before) != before:
                raise self.blame(
                    "schedule",
                    f"schedules {request} from token {before} on, of which {ends[request]} are computed",
                )
            chunked[request] = ends[request] = before + tokens
        firsts = step.firsts
        if len(set(firsts)) != len(firsts):
            raise self.blame("schedule", "names a request twice in firsts")
        for request in firsts:
            self.must_be_here("schedule", request, "completes the prefill of")
            end = chunked.get(request, 0)
            if end != request.tokens:
                raise self.blame(
                    "schedule",
                    f"completes the prefill of {request} with a chunk that ends at {end} of"
                    f" {request.tokens} tokens",
                )
            self.here[request] = True
