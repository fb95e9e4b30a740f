"""Prefix-aware: the instance whose cache holds most of the prompt, unless the load is out of balance.

The rule and its defaults are those of ``cache_aware`` in SGLang's gateway and vLLM's router: if the busiest
has more than ``balance_abs_threshold`` outstanding requests more than the idlest and more than
``balance_rel_threshold`` times as many, the least loaded; else the longest cached prefix, if it is more than
``cache_threshold`` of the prompt; else the least loaded (there: the one with the smallest tree). What is
cached is known exactly, as from the engines' KV events (llm-d's precise prefix cache, NVIDIA Dynamo).
"""

from __future__ import annotations

from collections.abc import Sequence

from tokensim.errors import InputError
from tokensim.registry import register
from tokensim.scheduling.cluster.base import GlobalScheduler, T
from tokensim.scheduling.local import Request


@register.global_scheduler("prefix-aware")
class PrefixAware(GlobalScheduler):
    """Options as above; ``cache_threshold`` is a share of the prompt, 0 to 1."""

    def __init__(
        self,
        seed: int = 0,
        *,
        cache_threshold: float = 0.3,
        balance_abs_threshold: int = 64,
        balance_rel_threshold: float = 1.5,
    ) -> None:
        super().__init__(seed)
        if not 0 <= cache_threshold <= 1:
            raise InputError(f"cache_threshold is {cache_threshold}", hint="a share of the prompt, 0 to 1")
        if balance_abs_threshold < 0 or balance_rel_threshold < 1:
            raise InputError(
                f"balance_abs_threshold is {balance_abs_threshold}, balance_rel_threshold"
                f" {balance_rel_threshold}",
                hint="at least 0, at least 1",
            )
        self.cache_threshold = cache_threshold
        self.balance_abs_threshold = balance_abs_threshold
        self.balance_rel_threshold = balance_rel_threshold

    def route(self, request: Request, instances: Sequence[T], now: float) -> T:
        """See ``GlobalScheduler.route``."""
        requests = self.loads.outstanding_requests(instances)
        idlest = int(requests.argmin())
        least, most = requests[idlest], requests.max()
        if most - least > self.balance_abs_threshold and most > self.balance_rel_threshold * least:
            return instances[idlest]
        best, tokens = self.loads.longest_prefix(request, instances)
        return instances[best if tokens > self.cache_threshold * request.input_tokens else idlest]
