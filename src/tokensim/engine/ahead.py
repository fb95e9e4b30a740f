"""A pipeline's next steps, worked out ahead: which of them start when, on which stage.

The schedule is known (``scheduling/local/rotation.py``), and the times follow from it (``pace.py``) without a
look at any request. What has happened by some instant is then
*committed* all at once: rows of the log, gaps, the state of the scheduler. Whatever comes in between finds
the instance as single steps would have left it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right

import numpy as np

from tokensim.engine.pace import Pace
from tokensim.metrics.recorder import STEP_ROW, TIMES
from tokensim.scheduling.local.flight import FlightStep
from tokensim.scheduling.local.rotation import Rotation

ROW = np.dtype([(name, "f8" if name in TIMES else "i8") for name in STEP_ROW])
GAP = np.dtype([("seconds", "f8"), ("requests", "i8")])


class Ahead:
    """The steps of ``rotation`` in time, which ``pace`` works out.

    ``due_s[j]``: when step ``j`` is scheduled, after batch ``j`` has been received; one more than there are
    steps. ``blocks[j]``: how many KV blocks steps before ``j`` take. ``done`` steps have been committed.
    """

    __slots__ = ("blocks", "done", "due_s", "pace", "rotation", "stages")

    def __init__(self, rotation: Rotation, pace: Pace) -> None:
        self.rotation = rotation
        self.done = 0
        self.stages = pace.stages
        pace.run(rotation.steps)
        self.pace = pace
        self.due_s = [*pace.due_s, max(pace.ends_s[rotation.steps], pace.due_s[-1])]
        self.blocks = np.concatenate([[0], np.cumsum(rotation.blocks(rotation.steps))])

    def steps_by(self, now: float, follows: bool) -> int:
        """How many steps have been scheduled before ``now``; ``follows``: or at that very instant."""
        steps = (bisect_right if follows else bisect_left)(self.due_s, now, self.done)
        return min(steps, self.rotation.steps)

    def commit(self, steps: int) -> list[FlightStep]:
        """The first ``steps`` steps have been scheduled; returns what is in flight then."""
        blocks = int(self.blocks[steps] - self.blocks[self.done])
        flying = self.rotation.advance(self.done, steps, blocks)
        self.done = steps
        return flying

    def free_s(self, steps: int) -> list[float]:
        """When each stage is free after ``steps`` steps have been launched, at least one."""
        at = slice((steps - 1) * self.stages, steps * self.stages)
        return [a + b for a, b in zip(self.pace.starts_s[at], self.pace.lasts_s[at], strict=True)]

    def times(self, batch: int) -> list[tuple[float, float, float]]:
        """(start, seconds, 0) on each stage of batch number ``batch`` after those in flight before."""
        at = slice(batch * self.stages, (batch + 1) * self.stages)
        return [(a, b, 0.0) for a, b in zip(self.pace.starts_s[at], self.pace.lasts_s[at], strict=True)]


def rows_of(ahead: Ahead, first: int, steps: int, index: int, counts: tuple[int, int, int]) -> bytes:
    """Rows of the step log for the batches received with steps ``first`` to ``steps``, none of which was in
    flight before; ``index`` is the first stage's, ``counts`` are requests running and waiting, and blocks
    used when step 0 was scheduled."""
    rotation, stages, queue = ahead.rotation, ahead.stages, len(ahead.rotation.flying)
    rows = np.zeros((steps - first, stages), ROW)
    launched = slice((first - queue) * stages, (steps - queue) * stages)
    rows["start_s"] = np.reshape(ahead.pace.starts_s[launched], rows.shape)
    rows["first_step_s"] = np.reshape(ahead.pace.lasts_s[launched], rows.shape)
    rows["instance"] = index + np.arange(stages)
    rows["steps"] = 1
    running, waiting, used = counts
    rows["running"], rows["waiting"] = running, waiting
    rows["used_blocks"] = rows["first_blocks"] = (used + ahead.blocks[first:steps])[:, None]
    rows["waited_s"] = waiting * rows["first_step_s"]
    period = len(rotation.places)
    for at in range(min(period, len(rows))):
        own = rows[at::period]
        place = rotation.place_of(first + at)
        rounds = (first + at - queue) // period + np.arange(len(own))[:, None]
        own["decode"] = own["samples"] = place.decode
        own["context"] = place.context + rounds * place.decode
        own["window_context"] = place.window_context + rounds * place.window_growth
        own["longest"] = place.longest + rounds if place.longest else 0
    return rows.tobytes()


def gaps_of(ahead: Ahead, first: int, steps: int) -> bytes:
    """The gaps that end with the batches received with steps ``first`` to ``steps``, none of which was in
    flight before."""
    rotation, period = ahead.rotation, len(ahead.rotation.places)
    due = np.array(ahead.due_s[first - period : steps])
    gaps = np.zeros(steps - first, GAP)
    gaps["seconds"] = due[period:] - due[:-period]
    for at in range(min(period, len(gaps))):
        gaps["requests"][at::period] = rotation.place_of(first + at).decode
    for batch in range(max(first, steps - period), steps):
        rotation.place_of(batch).cohort.last_s = ahead.due_s[batch]
    return gaps.tobytes()
