"""Local schedulers: who runs in the next step of one instance. One module a policy; ``base.py`` has the
interface."""

from tokensim.scheduling.local.base import Limits, LocalScheduler, Step
from tokensim.scheduling.local.continuous import ContinuousBatching
from tokensim.scheduling.local.request import Request
from tokensim.scheduling.local.vllm import Vllm

__all__ = ["ContinuousBatching", "Limits", "LocalScheduler", "Request", "Step", "Vllm"]
