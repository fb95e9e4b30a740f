"""TokenSim: a faithful and fast simulator of LLM serving.

from tokensim import Scenario, simulate

result = simulate(Scenario.from_yaml("examples/quickstart.yaml"))
result.summary      # throughput, latency percentiles, goodput, memory, cost, where the time went
result.requests     # one row a request
result.save("run")  # what ``tokensim run --output run`` leaves
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tokensim.errors import InputError, SimulationError
from tokensim.registry import register

if TYPE_CHECKING:
    from tokensim.assemble import Result, simulate
    from tokensim.explore.capacities import capacities
    from tokensim.explore.capacity import capacity
    from tokensim.explore.compare import compare
    from tokensim.explore.optimize import optimize
    from tokensim.explore.question import Question
    from tokensim.explore.sensitivity import sensitivity
    from tokensim.explore.study import Study
    from tokensim.explore.sweep import sweep
    from tokensim.scenario import Scenario

__version__ = "0.1.0"
__all__ = [
    "InputError",
    "Question",
    "Result",
    "Scenario",
    "SimulationError",
    "Study",
    "__version__",
    "capacities",
    "capacity",
    "compare",
    "optimize",
    "register",
    "sensitivity",
    "simulate",
    "sweep",
]

_LAZY = {
    "Result": "tokensim.assemble",
    "simulate": "tokensim.assemble",
    "Scenario": "tokensim.scenario",
    "optimize": "tokensim.explore.optimize",
    "Question": "tokensim.explore.question",
    "Study": "tokensim.explore.study",
    "capacities": "tokensim.explore.capacities",
    "capacity": "tokensim.explore.capacity",
    "compare": "tokensim.explore.compare",
    "sensitivity": "tokensim.explore.sensitivity",
    "sweep": "tokensim.explore.sweep",
}


def __getattr__(name: str) -> Any:
    """Import the heavy parts on first use, so that ``tokensim --help`` answers at once."""
    if name in _LAZY:
        import importlib

        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'tokensim' has no attribute '{name}'")
