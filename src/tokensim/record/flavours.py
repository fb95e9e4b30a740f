"""What is known of each serving engine: how it is recognised, how it is asked, and what its metrics are
called.

Names of metrics are those of the engines' documentation and of dashboards that read them (November 2026);
fields of requests those of their OpenAI-compatible servers. Of llama.cpp's server they were tried, of vLLM's
as far as ``tokensim serve`` speaks like it. What a server does not know it ignores or refuses, and a trial
request finds out which (``record.trial``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

FORCED: Mapping[str, Any] = {"ignore_eos": True}
"""The answer goes on to its full length; vLLM, SGLang, TensorRT-LLM and llama.cpp take it."""


@dataclass(frozen=True, slots=True)
class Flavour:
    """One kind of server.

    ``extra`` goes into every request; ``length_fields`` get the number of output tokens. ``takes_ids``: a
    prompt may be token ids. ``usage_each``: ``stream_options`` may ask for usage with each chunk;
    ``returns_ids``: ``return_token_ids`` gives the ids of the answer. ``metrics`` maps our column to the
    names of the metric, the newest first.
    """

    name: str
    label: str
    extra: Mapping[str, Any] = field(default_factory=dict)
    length_fields: tuple[str, ...] = ("max_tokens",)
    takes_ids: bool = False
    usage_each: bool = False
    returns_ids: bool = False
    metrics: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


FLAVOURS: tuple[Flavour, ...] = (
    Flavour(
        "vllm",
        "vLLM",
        extra=FORCED,
        length_fields=("max_tokens", "min_tokens"),
        takes_ids=True,
        usage_each=True,
        returns_ids=True,
        metrics={
            "running": ("vllm:num_requests_running",),
            "waiting": ("vllm:num_requests_waiting",),
            "kv_usage": ("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"),
            "preemptions": ("vllm:num_preemptions_total", "vllm:num_preemptions"),
            "prompt_tokens": ("vllm:prompt_tokens_total", "vllm:prompt_tokens"),
            "output_tokens": ("vllm:generation_tokens_total", "vllm:generation_tokens"),
            "prefix_queries": ("vllm:prefix_cache_queries_total", "vllm:prefix_cache_queries"),
            "prefix_hits": ("vllm:prefix_cache_hits_total", "vllm:prefix_cache_hits"),
        },
    ),
    Flavour(
        "sglang",
        "SGLang",
        extra=FORCED,
        length_fields=("max_tokens", "min_tokens"),
        takes_ids=True,
        usage_each=True,
        metrics={
            "running": ("sglang:num_running_reqs",),
            "waiting": ("sglang:num_queue_reqs",),
            "kv_usage": ("sglang:token_usage",),
            "preemptions": ("sglang:num_retracted_requests_total", "sglang:num_retracted_reqs_total"),
            "prompt_tokens": ("sglang:prompt_tokens_total",),
            "output_tokens": ("sglang:generation_tokens_total",),
            "prefix_hits": ("sglang:cached_tokens_total",),
        },
    ),
    Flavour(
        "tensorrt-llm",
        "TensorRT-LLM",
        extra=FORCED,
        length_fields=("max_tokens", "min_tokens"),
        takes_ids=True,
        metrics={
            "running": ("trtllm_num_requests_running",),
            "waiting": ("trtllm_num_requests_waiting",),
            "kv_usage": ("trtllm_kv_cache_utilization",),
        },
    ),
    Flavour(
        "llama.cpp",
        "llama.cpp",
        extra={**FORCED, "timings_per_token": True},
        length_fields=("max_tokens", "n_predict"),
        takes_ids=True,
        metrics={
            "running": ("llamacpp:requests_processing",),
            "waiting": ("llamacpp:requests_deferred",),
            "kv_usage": ("llamacpp:kv_cache_usage_ratio",),
            "prompt_tokens": ("llamacpp:prompt_tokens_total",),
            "output_tokens": ("llamacpp:tokens_predicted_total",),
        },
    ),
    Flavour(
        "tgi",
        "Text Generation Inference",
        metrics={"running": ("tgi_batch_current_size",), "waiting": ("tgi_queue_size",)},
    ),
    Flavour("unknown", "unknown", extra=FORCED, length_fields=("max_tokens", "min_tokens"), takes_ids=True),
)
"""All of them; the last one is for servers that nothing else recognises: it asks for all and sees what
comes."""

BY_NAME = {flavour.name: flavour for flavour in FLAVOURS}

COLUMNS = (
    "running",
    "waiting",
    "kv_usage",
    "preemptions",
    "prompt_tokens",
    "output_tokens",
    "prefix_queries",
    "prefix_hits",
)
"""What a server's metrics may tell, over time: requests, the share of KV blocks in use, and counters."""

PREFIXES = {
    "vllm:": "vllm",
    "sglang:": "sglang",
    "trtllm_": "tensorrt-llm",
    "llamacpp:": "llama.cpp",
    "tgi_": "tgi",
}
"""How the metrics of each begin."""

OWNERS = {"vllm": "vllm", "sglang": "sglang", "tensorrt_llm": "tensorrt-llm", "llamacpp": "llama.cpp"}
"""What each says in ``/v1/models``, ``owned_by``."""
