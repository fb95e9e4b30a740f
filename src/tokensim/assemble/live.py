"""A scenario as a live cluster: assembled as for ``simulate``, driven by whoever holds it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tokensim.assemble.cluster import build_simulation
from tokensim.assemble.run import Result, result_of
from tokensim.engine.arriving import no_requests
from tokensim.engine.hooks import Hook
from tokensim.engine.live import LiveSimulation
from tokensim.model import load_model
from tokensim.plan import PoolPlan, plan_pool
from tokensim.scenario import Scenario


class LiveCluster:
    """``simulation`` of ``scenario``, whose pools were worked out as ``plans``. Its workload is not sent."""

    def __init__(self, scenario: Scenario, plans: Sequence[PoolPlan], simulation: LiveSimulation) -> None:
        self.scenario = scenario
        self.plans = plans
        self.simulation = simulation

    @property
    def max_model_len(self) -> int:
        """Tokens of prompt and answer that every instance has room for."""
        return min(instance.max_model_len for instance in self.simulation.instances)

    def result(self) -> Result:
        """What has happened up to now, as ``simulate`` returns it; the cluster must have been made to
        ``keep`` it, and have got a request."""
        return result_of(self.scenario, self.plans, self.simulation, self.simulation.log())


def live_cluster(
    scenario: Scenario, *, keep: bool = False, exact_steps: bool = False, hooks: Sequence[Hook] = ()
) -> LiveCluster:
    """The cluster of ``scenario``, at time zero. Raises ``InputError`` for what cannot be simulated.

    ``keep``: write everything down for ``LiveCluster.result``, else forget what is over.
    """
    model = load_model(scenario.model, "model")
    plans = [plan_pool(scenario, index, model) for index in range(len(scenario.cluster.pools))]

    def made(*parts: Any, **options: Any) -> LiveSimulation:
        return LiveSimulation(*parts, **options, keep=keep)

    simulation = build_simulation(
        scenario, model, plans, no_requests(), exact_steps=exact_steps, hooks=hooks, kind=made
    )
    assert isinstance(simulation, LiveSimulation)
    simulation.start()
    return LiveCluster(scenario, plans, simulation)
