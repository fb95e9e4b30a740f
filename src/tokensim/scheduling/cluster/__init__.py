"""Global schedulers: which instance takes a request. One module a policy; ``base.py`` has the interface."""

from tokensim.scheduling.cluster.base import GlobalScheduler, Load, Loads, Target
from tokensim.scheduling.cluster.cost_aware import CostAware
from tokensim.scheduling.cluster.least_kv import LeastKv
from tokensim.scheduling.cluster.least_requests import LeastRequests
from tokensim.scheduling.cluster.least_tokens import LeastTokens
from tokensim.scheduling.cluster.lora_affinity import LoraAffinity
from tokensim.scheduling.cluster.pd_pair import PdPair
from tokensim.scheduling.cluster.power_of_two import PowerOfTwo
from tokensim.scheduling.cluster.prefix_aware import PrefixAware
from tokensim.scheduling.cluster.random import Random
from tokensim.scheduling.cluster.round_robin import RoundRobin
from tokensim.scheduling.cluster.session_affinity import SessionAffinity
from tokensim.scheduling.cluster.shortest_queue import ShortestQueue
from tokensim.scheduling.cluster.slo_aware import SloAware
from tokensim.scheduling.cluster.weighted import Weighted

__all__ = [
    "CostAware",
    "GlobalScheduler",
    "LeastKv",
    "LeastRequests",
    "LeastTokens",
    "Load",
    "Loads",
    "LoraAffinity",
    "PdPair",
    "PowerOfTwo",
    "PrefixAware",
    "Random",
    "RoundRobin",
    "SessionAffinity",
    "ShortestQueue",
    "SloAware",
    "Target",
    "Weighted",
]
