"""The order of the waiting queue: first come first served, or by what each request would find in the cache.

Section 5b of the scheduler's rules (``SchedulePolicy.calc_priority``). Orders that look at the cache need it;
without one, and for long queues, they are first come first served.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from tokensim.memory.radix import Key, RadixNode, key_at
from tokensim.scheduling.local.request import Request
from tokensim.scheduling.local.sglang.row import Row

if TYPE_CHECKING:
    from tokensim.scheduling.local.sglang.policy import Sglang

LONGEST_QUEUE = 128
"""Of more waiting requests ``lpm`` orders none, and no more are matched to refresh what they would hit."""
REFRESH_EVERY = 32
"""Passes over the queue between two refreshes."""
SHARED_TOKENS = 32
"""Requests that hit no more than this are compared with each other, in as many tokens."""


class WaitingOrder:
    """Puts the queue of ``policy`` into the order of its ``schedule_policy``."""

    def __init__(self, policy: Sglang) -> None:
        self._policy = policy
        self._name = policy.options.schedule_policy
        self._passes = 0

    def arrange(self) -> None:
        """One pass over the queue is about to begin."""
        policy, name = self._policy, self._name
        caching, waiting = policy.pool.caching, policy.prompts
        if name == "lpm" and caching and len(waiting) <= LONGEST_QUEUE:
            self._by_hit()
        elif name == "dfs-weight" and caching:
            self._by_subtree()
        else:
            if name == "lof":
                self._put(sorted(waiting, key=lambda r: -policy.rows[r].max_new))
            if caching and waiting:
                if self._passes % REFRESH_EVERY == 0:
                    self._refresh()
                self._passes += 1

    def _refresh(self) -> None:
        """Use what the first requests of the queue would hit, the last of them first."""
        policy = self._policy
        for request in reversed(list(islice(policy.prompts, LONGEST_QUEUE))):
            row = policy.rows[request]
            policy.kv.match(row, row.length)

    def _matches(self) -> tuple[dict[Request, tuple[RadixNode, int]], set[Request]]:
        """What each waiting request hits, and those that had better wait until a like one is in the cache."""
        policy = self._policy
        found: dict[Request, tuple[RadixNode, int]] = {}
        later: set[Request] = set()
        seen: set[Key] = set()
        for request in policy.prompts:
            row = policy.rows[request]
            found[request] = policy.kv.match(row, row.length)
            if found[request][1] <= SHARED_TOKENS <= row.length:
                key = key_at(row.content, 0, SHARED_TOKENS)
                if key in seen:
                    later.add(request)
                else:
                    seen.add(key)
        return found, later

    def _by_hit(self) -> None:
        """``lpm``: the longest hit first."""
        policy = self._policy
        found, later = self._matches()

        def place(request: Request) -> int:
            row: Row = policy.rows[request]
            return 1 if request in later else -min(found[request][1], row.length - 1)

        self._put(sorted(policy.prompts, key=place))

    def _by_subtree(self) -> None:
        """``dfs-weight``: depth first through the tree, the child with most requests first."""
        policy = self._policy
        found, _ = self._matches()
        here: dict[RadixNode, list[Request]] = {}
        weight: dict[RadixNode, int] = {}
        for request, (node, _) in found.items():
            here.setdefault(node, []).append(request)
            at: RadixNode | None = node
            while at is not None:
                weight[at] = weight.get(at, 0) + 1
                at = at.parent
        ordered: list[Request] = []
        stack: list[tuple[RadixNode, bool]] = [(policy.pool.root, False)]
        while stack:
            node, left = stack.pop()
            if left:
                ordered += here.get(node, ())
                continue
            stack.append((node, True))
            below = [child for child in node.children.values() if child in weight]
            below.sort(key=lambda child: -weight[child])
            stack.extend((child, False) for child in reversed(below))
        self._put(ordered)

    def _put(self, ordered: list[Request]) -> None:
        waiting = self._policy.prompts
        waiting.clear()
        waiting.extend(ordered)
