"""The requests of one instance that decode, one token each a step, as arithmetic instead of a list to walk.

A request that decodes in every step has ``base + k`` computed tokens after step ``k``. So the sum of
contexts, the requests that need a new block in a given step and the requests that finish in it follow from a
sum, a count a residue and a bucket a step; a step costs nothing, joining and leaving a few operations.
"""

from __future__ import annotations

from heapq import heappop, heappush

from tokensim.scheduling.local.request import Request

FAR = 1 << 60


class LongestBase:
    """The largest of some numbers that come and go: a heap from which those gone are removed when they come
    up."""

    def __init__(self) -> None:
        self._count: dict[int, int] = {}
        self._heap: list[int] = []

    def add(self, base: int) -> None:
        """``base`` comes."""
        count = self._count.get(base)
        if count is None:
            heappush(self._heap, -base)
            count = 0
        self._count[base] = count + 1

    def remove(self, base: int) -> None:
        """One of ``base`` goes."""
        self._count[base] -= 1

    def value(self) -> int:
        """The largest; there must be one."""
        heap, count = self._heap, self._count
        while not count[-heap[0]]:
            del count[-heappop(heap)]
        return -heap[0]


class DecodeSet:
    """``n`` decoding requests whose bases sum to ``base_sum``, and the steps of their last tokens to
    ``finish_sum``; ``block_size`` tokens fit in a block.

    ``phase[i]`` of them need a new block at every step k with (k − 1) % block_size == i. ``finishing`` holds
    a bucket for each step in which some produce their last token.
    """

    def __init__(self, block_size: int, longest: bool = False) -> None:
        self.block_size = block_size
        self.longest = LongestBase() if longest else None
        self.n = 0
        self.base_sum = 0
        self.finish_sum = 0
        self.finishing: dict[int, list[Request]] = {}
        self.phase = [0] * block_size
        self._finish_steps = [0]  # a heap; entries without a bucket are stale

    def join(self, request: Request, step: int) -> None:
        """``request`` finishes its prefill in ``step`` and decodes from the next one on."""
        bucket = self.finishing.get(request.finish_step)
        if bucket is None:
            self.finishing[request.finish_step] = [request]
            heappush(self._finish_steps, request.finish_step)
        else:
            bucket.append(request)
        self.n += 1
        self.base_sum += request.base
        self.finish_sum += request.finish_step
        if self.longest is not None:
            self.longest.add(request.base)
        self.phase[-request.base % self.block_size] += 1

    def leave(self, request: Request, step: int) -> None:
        """``request`` does not decode after ``step`` (but stays in its bucket of ``finishing``)."""
        self.n -= 1
        self.base_sum -= request.base
        self.finish_sum -= request.finish_step
        if self.longest is not None:
            self.longest.remove(request.base)
        self.phase[-request.base % self.block_size] -= 1

    def withdraw(self, request: Request) -> None:
        """Take ``request`` out of its bucket of ``finishing``."""
        bucket = self.finishing[request.finish_step]
        bucket.remove(request)
        if not bucket:
            del self.finishing[request.finish_step]

    def next_finish(self) -> int:
        """The next step in which some request produces its last token."""
        steps, finishing = self._finish_steps, self.finishing
        while steps[0] not in finishing:
            if len(steps) == 1:
                return FAR
            heappop(steps)
        return steps[0]

    def context(self, step: int) -> int:
        """Sum of contexts in ``step``: tokens each attends to, the one it decodes included."""
        return self.base_sum + self.n * step

    def longest_context(self, step: int) -> int:
        """The longest context in ``step``; 0 if nobody decodes or nobody wants to know."""
        return self.longest.value() + step if self.longest is not None and self.n else 0

    def blocks_at(self, step: int) -> int:
        """New blocks needed in ``step``."""
        return self.phase[(step - 1) % self.block_size]

    def blocks_over(self, step: int, steps: int) -> int:
        """New blocks needed in the ``steps`` steps from ``step`` on."""
        size, phase = self.block_size, self.phase
        rounds, rest = divmod(steps, size)
        at = (step - 1) % size
        end = at + rest
        if end <= size:
            return rounds * self.n + sum(phase[at:end])
        return rounds * self.n + sum(phase[at:]) + sum(phase[: end - size])

    def steps_within(self, step: int, steps: int, free: int) -> int:
        """How many of the ``steps`` steps from ``step`` on fit into ``free`` blocks."""
        size, n = self.block_size, self.n
        if n * (steps // size + 1) <= free or self.blocks_over(step, steps) <= free:
            return steps
        possible = free // n * size
        while possible < steps and self.blocks_over(step, possible + 1) <= free:
            possible += 1
        return min(possible, steps)

    # A sliding window needs the sum of capped contexts too; without one there is nothing to keep.

    def window_context(self, step: int) -> tuple[int, int]:
        """(sum of contexts capped at the window, how much it grows a step) in ``step``."""
        return 0, 0

    def next_crossing(self, step: int) -> int:
        """The first step after ``step`` whose capped sum no longer grows as before."""
        return FAR


class WindowedDecodeSet(DecodeSet):
    """The same, with the sum of contexts capped at a sliding ``window``.

    A request's capped context grows until the step at which it reaches the window (its crossing).
    """

    def __init__(self, block_size: int, window: int, longest: bool = False) -> None:
        super().__init__(block_size, longest)
        self.window = window
        self._growing = 0
        self._growing_base = 0
        self._crossings: dict[int, list[int]] = {}  # step → [requests, sum of bases]
        self._crossing_steps: list[int] = []

    def join(self, request: Request, step: int) -> None:
        """See ``DecodeSet.join``."""
        super().join(request, step)
        self._pass(step)
        crossing = self.window - request.base
        if crossing > step:
            self._growing += 1
            self._growing_base += request.base
            entry = self._crossings.get(crossing)
            if entry is None:
                self._crossings[crossing] = [1, request.base]
                heappush(self._crossing_steps, crossing)
            else:
                entry[0] += 1
                entry[1] += request.base

    def leave(self, request: Request, step: int) -> None:
        """See ``DecodeSet.leave``."""
        super().leave(request, step)
        crossing = self.window - request.base
        if crossing in self._crossings:
            entry = self._crossings[crossing]
            entry[0] -= 1
            entry[1] -= request.base
            self._growing -= 1
            self._growing_base -= request.base

    def window_context(self, step: int) -> tuple[int, int]:
        """See ``DecodeSet.window_context``."""
        self._pass(step - 1)
        growing = self._growing
        total = self._growing_base + growing * step + (self.n - growing) * self.window
        self._pass(step)
        return total, self._growing

    def next_crossing(self, step: int) -> int:
        """See ``DecodeSet.next_crossing``."""
        self._pass(step)
        return self._crossing_steps[0] if self._crossing_steps else FAR

    def _pass(self, step: int) -> None:
        while self._crossing_steps and self._crossing_steps[0] <= step:
            requests, bases = self._crossings.pop(heappop(self._crossing_steps))
            self._growing -= requests
            self._growing_base -= bases
