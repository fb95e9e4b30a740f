"""A hook that listens: the time of each kind of operator, printed at the end.

    tokensim run examples/quickstart.yaml --plugin examples/plugins/operator_time.py \
        --num-requests 100 --set 'hooks=[operator-time]'

Whoever listens to operators hears of every single step, so that there are no step runs: slower, never
different.
"""

from __future__ import annotations

from tokensim import register
from tokensim.cost.base import OperatorTime
from tokensim.engine import Instance
from tokensim.engine.hooks import Hook
from tokensim.scheduling.local import Step


@register.hook("operator-time")
class OperatorClock(Hook):
    """``hooks: [operator-time]``."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def on_operator(self, instance: Instance, step: Step, operator: OperatorTime) -> None:
        """All layers of one operator in one step."""
        kind = operator.kind
        self.seconds[kind] = self.seconds.get(kind, 0.0) + operator.seconds

    def on_end(self) -> None:
        """Show the account."""
        for kind, seconds in sorted(self.seconds.items()):
            print(f"{kind:12} {seconds:10.3f} s")
