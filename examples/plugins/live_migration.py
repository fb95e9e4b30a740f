"""A hook that acts: every period, requests move from the busiest replica to the idlest, with their KV.

    tokensim run examples/quickstart.yaml --plugin examples/plugins/live_migration.py --rate 30 \
        --num-requests 500 --replicas 2 --set cluster.router=random \
        --set 'hooks=[{hook: live-migration, options: {gap: 4}}]'

After Llumnix (Sun et al., OSDI 2024), which pairs the most with the least loaded instance and moves requests
while they run. Here the last one admitted goes; it stops decoding until its KV has come.
"""

from __future__ import annotations

from tokensim import register
from tokensim.engine.hooks import Hook
from tokensim.engine.replica import Replica, State


@register.hook("live-migration")
class LiveMigration(Hook):
    """Every ``period`` seconds one request moves, if the replicas differ by more than ``gap`` requests."""

    def __init__(self, period: float = 1.0, gap: int = 2) -> None:
        self.period, self.gap = period, gap

    def on_start(self) -> None:
        """Begin to look."""
        self.control.every(self.period, self.balance)

    def balance(self) -> None:
        """Look at who has how many, and move one."""
        up = [replica for replica in self.control.replicas if replica.state is State.UP]
        busy, *_, idle = sorted(up, key=_requests, reverse=True) * 2
        running = list(busy.scheduler.running)
        if running and _requests(busy) - _requests(idle) > self.gap:
            self.control.migrate(running[-1], busy, idle)


def _requests(replica: Replica) -> int:
    return len(replica.scheduler.running) + len(replica.scheduler.waiting)
