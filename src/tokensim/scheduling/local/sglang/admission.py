"""One pass over the waiting queue: which requests make up the next prefill batch.

The chunk that goes on comes first, then waiting requests in order until one does not fit: nobody is skipped.
Sections 4 and 4b of the scheduler's rules (``PrefillAdder``, ``add_one_req``, ``add_one_req_ignore_eos``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tokensim.memory.radix import RadixNode
from tokensim.scheduling.local.sglang.budget import NO_TOKEN, OK, OTHER, Budget
from tokensim.scheduling.local.sglang.row import Row

if TYPE_CHECKING:
    from tokensim.scheduling.local.sglang.policy import Sglang


class Admission:
    """The pass. ``rows`` are what runs, the chunk that goes on first; ``admitted`` of them come from the
    queue; ``chunked`` is the one whose prompt does not end in this batch."""

    def __init__(self, policy: Sglang, budget: Budget) -> None:
        self.policy = policy
        self.budget = budget
        self.clip = policy.options.clip_max_new_tokens
        self.rows: list[Row] = []
        self.admitted = 0
        self.chunked: Row | None = None
        self._futures: Futures | None = None

    def go_on(self, row: Row) -> None:
        """The next chunk of ``row``: it must go on, whatever is left."""
        budget = self.budget
        chunk = budget.chunk
        assert chunk is not None
        most = min(chunk, int(budget.total))
        if most <= 0:
            most = chunk
        rest = row.length - row.prefix
        take = min(rest, most)
        row.end = row.prefix + take
        self.rows.append(row)
        if take < rest:
            self.chunked = row
            budget.charge(take, 0)
        else:
            budget.charge(take, min(row.max_new, self.clip))

    def admit_waiting(self, most: int) -> None:
        """Admit requests in the order of the queue, until the batch has ``most`` rows or one does not fit."""
        policy, batch, budget, rows = self.policy, self.policy.batch, self.budget, self.rows
        for request in policy.prompts:
            if budget.state() == OTHER:
                return
            if len(rows) >= most:
                batch.full = True
            if batch.full:
                return
            result = self._add(policy.rows[request])
            if result != OK:
                if result == NO_TOKEN:
                    batch.full = bool(rows or batch.rows)
                return

    def _add(self, row: Row) -> int:
        """Admit ``row`` if it fits; what is left then, or why it does not."""
        policy, budget, page = self.policy, self.budget, self.budget.page
        length = row.length
        node, hit = policy.kv.match(row, length - 1)
        limit = policy.options.prefill_max_requests
        if limit is not None and len(self.rows) >= limit:
            return OTHER
        if row.ignore_eos and not policy.pool.caching:
            return self._add_to_the_end(row)
        candidate = length - hit
        need = candidate + min(max(row.max_new - row.outs, 0), self.clip) + page
        policy.pool.lock(node)
        take = self._share(candidate) if need < budget.total else -1
        if take <= 0:
            policy.pool.unlock(node)
            return NO_TOKEN if take < 0 else OTHER
        return self._take(row, node, hit, take)

    def _share(self, candidate: int) -> int:
        """How much of a prompt of ``candidate`` tokens runs in this batch; 0: nothing."""
        budget = self.budget
        if budget.chunk is None:
            return 0 if self.rows and budget.ceil(candidate) >= budget.prompt else candidate
        if budget.ceil(candidate) <= budget.chunk:
            return candidate
        return max(0, budget.chunk - budget.chunk % budget.page)

    def _take(self, row: Row, node: RadixNode, hit: int, take: int) -> int:
        """``row`` runs ``take`` tokens behind a hit that is locked; what is left then."""
        row.node, row.owned, row.prefix = node, hit, hit
        row.end = hit + take
        if row.completes:
            self.budget.charge(take, min(row.max_new, self.clip))
        else:
            self.chunked = row
            self.budget.charge(take, 0)
        self.rows.append(row)
        self.admitted += 1
        return self.budget.state()

    def _add_to_the_end(self, row: Row) -> int:
        """Without a cache, requests that ignore EOS: whether memory suffices at the end of each of those that
        run."""
        budget, length = self.budget, row.length
        paged = budget.ceil(length) + budget.page
        if paged > min(budget.now, budget.total):
            return NO_TOKEN
        if self._futures is None:
            self._futures = Futures(self.policy, self.rows, budget.ratio)
        if not self._futures.fits(row, budget.now - paged):
            return NO_TOKEN
        take = length
        if budget.chunk is not None and length > budget.chunk:
            take = budget.chunk
            if take <= 0:
                return OTHER
        root = self.policy.pool.root
        self.policy.pool.lock(root)
        return self._take(row, root, 0, take)


class Futures:
    """When each running request ends, and what that frees: (outputs left, tokens held) in order of the end.

    A candidate that memory would hold even if all ended last needs no look at them; the list is made when one
    does not pass so easily.
    """

    def __init__(self, policy: Sglang, admitted: list[Row], ratio: float) -> None:
        self._policy = policy
        self._admitted = list(admitted)
        self._ratio = ratio
        self._late: list[Row] = []  # candidates that are not in the list yet
        self._states: list[tuple[float, int]] | None = None
        batch = policy.batch
        self._most = max([batch.most_remaining(), *(row.max_new - row.outs for row in admitted)])
        self._count = len(batch) + len(admitted)

    def fits(self, row: Row, left: int) -> bool:
        """Whether ``row`` can run to its end with all others while ``left`` tokens are free beside its
        prompt."""
        self._late.append(row)
        self._count += 1
        self._most = max(self._most, row.max_new - row.outs)
        if left > (max(self._most, 0) + 1) * self._count:
            return True
        states = self._listed()
        freed = 0
        for place, (outputs, held) in enumerate(states):
            others = len(states) - place
            if left + freed - outputs * others <= others:
                return False
            freed += held
        return True

    def _listed(self) -> list[tuple[float, int]]:
        if self._states is None:
            first, *self._late = self._late
            rows = [first, *self._policy.batch.in_order(), *self._admitted]
            states = [self._state(row) for row in rows]
            self._states = sorted((state for state in states if state[0] > 0), key=_outputs_left)
        states = self._states
        for row in self._late:
            state = self._state(row)
            if state[0] > 0:
                place = next((i for i, other in enumerate(states) if other[0] >= state[0]), len(states) - 1)
                states.insert(place, state)  # the longest one is put before the last, as SGLang does
        self._late = []
        return states

    def _state(self, row: Row) -> tuple[float, int]:
        batch = self._policy.batch
        outs = batch.outs(row) if row.request in batch.rows else row.outs
        return row.max_new * (1.0 if row.ignore_eos else self._ratio) - outs, row.prompt + outs


def _outputs_left(state: tuple[float, int]) -> float:
    return state[0]
