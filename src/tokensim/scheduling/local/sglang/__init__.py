"""SGLang's scheduler: ``policy.py`` has the loop, each other module one part of its rules."""

from tokensim.scheduling.local.sglang.policy import Sglang

__all__ = ["Sglang"]
