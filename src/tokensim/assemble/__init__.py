"""The one place that turns a scenario into objects: devices, costs, schedulers, instances, requests."""

from tokensim.assemble.cluster import build_simulation
from tokensim.assemble.run import Result, simulate

__all__ = ["Result", "build_simulation", "simulate"]
