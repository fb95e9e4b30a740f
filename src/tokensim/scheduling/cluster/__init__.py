"""Global schedulers: which instance takes a request. One module a policy; ``base.py`` has the interface."""

from tokensim.scheduling.cluster.base import GlobalScheduler, Target
from tokensim.scheduling.cluster.lora_affinity import LoraAffinity
from tokensim.scheduling.cluster.random import Random
from tokensim.scheduling.cluster.round_robin import RoundRobin

__all__ = ["GlobalScheduler", "LoraAffinity", "Random", "RoundRobin", "Target"]
