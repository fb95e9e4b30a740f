"""Local schedulers: who runs in the next step of one instance. One module a policy; ``base.py`` has the
interface."""

from tokensim.scheduling.local.base import KvSource, Limits, LocalScheduler, Offer, Step
from tokensim.scheduling.local.continuous import ContinuousBatching
from tokensim.scheduling.local.in_flight import InFlightBatching, form_for
from tokensim.scheduling.local.request import Request, Traits
from tokensim.scheduling.local.vllm import Vllm

__all__ = [
    "ContinuousBatching",
    "InFlightBatching",
    "KvSource",
    "Limits",
    "LocalScheduler",
    "Offer",
    "Request",
    "Step",
    "Traits",
    "Vllm",
    "form_for",
]
