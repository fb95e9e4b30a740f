"""vLLM's V1 scheduler: continuous batching with the rules of one version (0.19.0 to 0.33.0), decision by
decision.

The algorithm stands in ``continuous.py``; what changed between versions in ``versions.py``. Models
``vllm.v1.core.sched.scheduler.Scheduler`` and ``AsyncScheduler`` for a decoder with one full-attention KV
group.
"""

from __future__ import annotations

from tokensim.registry import register
from tokensim.scheduling.local.continuous import ContinuousBatching


@register.local_scheduler("vllm")
class Vllm(ContinuousBatching):
    """``policy: vllm``; ``engine.version`` chooses the rules."""
