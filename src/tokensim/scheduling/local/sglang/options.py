"""SGLang's own options, beyond those that every engine has: names, defaults and checks.

What has a counterpart among the general options keeps that name: ``max_num_batched_tokens`` is
``--chunked-prefill-size``, ``max_num_seqs`` is ``--max-running-requests``, and so on (``ELSEWHERE``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from tokensim.errors import InputError, nearest
from tokensim.scenario.sglang import MAX_PREFILL_TOKENS

ORDERS = ("fcfs", "lpm", "lof", "dfs-weight")

ELSEWHERE = {
    "chunked_prefill_size": "engine.max_num_batched_tokens (-1: enable_chunked_prefill: false)",
    "max_running_requests": "engine.max_num_seqs",
    "page_size": "engine.block_size",
    "max_total_tokens": "engine.num_gpu_blocks, in pages of engine.block_size",
    "context_length": "engine.max_model_len",
    "mem_fraction_static": "engine.gpu_memory_utilization",
    "disable_radix_cache": "engine.enable_prefix_caching: false",
    "disable_overlap_schedule": "engine.async_scheduling: false",
}
"""SGLang's names for what the general options say."""


@dataclass(frozen=True, slots=True)
class Options:
    """``engine.policy_options`` of ``policy: sglang``; defaults are SGLang's (0.5.23).

    ``schedule_policy``: order of the waiting queue. ``max_prefill_tokens``: prompt tokens after which a
    prefill batch takes nobody else. ``schedule_conservativeness`` scales the share of the declared output
    that admission reserves; that share starts at ``init_new_token_ratio`` and falls to
    ``min_new_token_ratio_factor`` of it in ``new_token_ratio_decay_steps`` decode steps; a request counts
    with ``clip_max_new_tokens`` outputs at most. ``retract_decode_steps``: for how many steps a retraction
    makes room. ``enable_mixed_chunk``: decodes join prefill batches. ``prefill_max_requests``: requests in a
    prefill batch at most. ``prefill_decode_interval``: iterations without prefill after each one.
    ``num_reserved_decode_tokens``: kept free for each request here before KV of another one is taken in from
    elsewhere.

    What the requests declare: ``max_new_tokens`` outputs (None: as many as they produce, times
    ``max_new_tokens_factor``), and whether they run to that end (``ignore_eos``; None: yes if they declare
    what they produce).
    """

    schedule_policy: str = "fcfs"
    max_prefill_tokens: int = MAX_PREFILL_TOKENS
    schedule_conservativeness: float = 1.0
    enable_mixed_chunk: bool = False
    num_reserved_decode_tokens: int = 512
    prefill_max_requests: int | None = None
    prefill_decode_interval: int | None = None
    clip_max_new_tokens: int = 4096
    init_new_token_ratio: float = 0.7
    min_new_token_ratio_factor: float = 0.14
    new_token_ratio_decay_steps: int = 600
    retract_decode_steps: int = 20
    max_new_tokens: int | None = None
    max_new_tokens_factor: float = 1.0
    ignore_eos: bool | None = None

    @property
    def runs_to_the_end(self) -> bool:
        """Whether requests ignore the end-of-sequence token."""
        exact = self.max_new_tokens is None and self.max_new_tokens_factor == 1.0
        return exact if self.ignore_eos is None else self.ignore_eos

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Options:
        """The options in ``given``; raises ``InputError`` for one that is unknown, impossible or moot."""
        known = {field.name: str(field.type) for field in fields(cls)}
        for name, value in given.items():
            if name in ELSEWHERE:
                raise _refused(name, "is a general option", f"it is {ELSEWHERE[name]}")
            if name not in known:
                raise _refused(name, "is no option of SGLang's scheduler", nearest(name, known))
            _check_type(name, value, known[name])
        options = cls(**given)
        options._check()
        return options

    def _check(self) -> None:
        if self.schedule_policy not in ORDERS:
            raise _refused(
                "schedule_policy", f"is {self.schedule_policy!r}", nearest(self.schedule_policy, ORDERS)
            )
        least = {
            "max_prefill_tokens": 1,
            "prefill_max_requests": 1,
            "prefill_decode_interval": 1,
            "clip_max_new_tokens": 1,
            "new_token_ratio_decay_steps": 1,
            "retract_decode_steps": 0,
            "num_reserved_decode_tokens": 0,
            "max_new_tokens": 1,
        }
        for name, bound in least.items():
            value = getattr(self, name)
            if value is not None and value < bound:
                raise _refused(name, f"is {value}", f"at least {bound}")
        for name in ("schedule_conservativeness", "init_new_token_ratio", "min_new_token_ratio_factor"):
            if not getattr(self, name) >= 0:
                raise _refused(name, f"is {getattr(self, name)}", "at least 0")
        if not self.max_new_tokens_factor >= 1:
            raise _refused("max_new_tokens_factor", f"is {self.max_new_tokens_factor}", "at least 1")
        if self.max_new_tokens is not None and self.max_new_tokens_factor != 1.0:
            raise _refused(
                "max_new_tokens_factor", "is given together with max_new_tokens", "leave out one of the two"
            )
        if self.ignore_eos and (self.max_new_tokens is not None or self.max_new_tokens_factor != 1.0):
            raise _refused(
                "ignore_eos",
                "makes every request run to the length that it declares",
                "leave out max_new_tokens and max_new_tokens_factor, or set ignore_eos: false",
            )


def _check_type(name: str, value: object, kind: str) -> None:
    if value is None and "None" in kind:
        return
    number = isinstance(value, int | float) and not isinstance(value, bool)
    fits = {
        "str": isinstance(value, str),
        "bool": isinstance(value, bool),
        "int": number and isinstance(value, int),
        "float": number,
    }
    wanted = kind.removesuffix(" | None")
    if not fits[wanted]:
        word = {"str": "a text", "bool": "true or false", "int": "a whole number", "float": "a number"}[
            wanted
        ]
        raise _refused(name, f"is {value!r}", f"it is {word}")


def _refused(name: str, message: str, hint: str) -> InputError:
    return InputError(f"{name} {message}", where=f"policy_options.{name}", hint=hint)
