"""The discrete-event core: the agenda, instances that run steps, the client that sends requests, the loop."""

from tokensim.engine.instance import Instance
from tokensim.engine.simulation import Progress, Simulation

__all__ = ["Instance", "Progress", "Simulation"]
