"""Local schedulers: who runs in the next step of one instance. One module a policy; ``base.py`` has the
interface."""

from tokensim.scheduling.local.base import KvSource, Limits, LocalScheduler, Offer, Step
from tokensim.scheduling.local.continuous import ContinuousBatching
from tokensim.scheduling.local.edf import EarliestDeadlineFirst
from tokensim.scheduling.local.fair import Fair
from tokensim.scheduling.local.forms import form_for
from tokensim.scheduling.local.in_flight import InFlightBatching
from tokensim.scheduling.local.orca import Orca
from tokensim.scheduling.local.pipelined import PipelinedBatching
from tokensim.scheduling.local.priority import Priority
from tokensim.scheduling.local.request import Request, Traits
from tokensim.scheduling.local.sarathi import Sarathi
from tokensim.scheduling.local.sglang import Sglang
from tokensim.scheduling.local.sjf import ShortestJobFirst
from tokensim.scheduling.local.static import Static
from tokensim.scheduling.local.trtllm import TensorRtLlm
from tokensim.scheduling.local.vllm import Vllm
from tokensim.scheduling.local.vllm_v0 import VllmV0

__all__ = [
    "ContinuousBatching",
    "EarliestDeadlineFirst",
    "Fair",
    "InFlightBatching",
    "KvSource",
    "Limits",
    "LocalScheduler",
    "Offer",
    "Orca",
    "PipelinedBatching",
    "Priority",
    "Request",
    "Sarathi",
    "Sglang",
    "ShortestJobFirst",
    "Static",
    "Step",
    "TensorRtLlm",
    "Traits",
    "Vllm",
    "VllmV0",
    "form_for",
]
