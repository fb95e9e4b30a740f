"""``trtllm-serve``: its flags, as of TensorRT-LLM 1.0.

Sources: ``tensorrt_llm/commands/serve.py``; the defaults of a step are those of ``BuildConfig``
(``tensorrt_llm/builder.py``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tokensim.server_flags.base import PARALLEL, Dialect, Flag, Translation, because, flags
from tokensim.server_flags.numbers import whole

ENGINE = ("engine",)

KEYS = {
    "tensor-parallel-size": Flag((*PARALLEL, "tensor"), read=whole),
    "pipeline-parallel-size": Flag((*PARALLEL, "pipeline"), read=whole),
    "moe-expert-parallel-size": Flag((*PARALLEL, "expert"), read=whole),
    "max-seq-len": Flag((*ENGINE, "max_model_len"), read=whole),
}

SPECIAL = {
    "max-batch-size": Flag((*ENGINE, "max_num_seqs"), read=whole),
    "max-num-tokens": Flag((*ENGINE, "max_num_batched_tokens"), read=whole),
}

DEFAULTS = {"max-batch-size": 2048, "max-num-tokens": 8192}
"""``BuildConfig``'s, which differ from vLLM's."""

INERT = flags(
    """
    tokenizer= custom-tokenizer= host= port= log-level= backend= custom-module-dirs=* trust-remote-code
    revision= reasoning-parser= tool-parser= otlp-traces-endpoint= fail-fast-on-attention-window-too-large
    chat-template= gpus-per-node= num-postprocess-workers=
    """
)

APART = {
    **because(
        "it is a share of what weights leave free: give engine.num_gpu_blocks, which the server's log tells",
        "free-gpu-memory-fraction=",
    ),
    **because(
        "say what it holds as flags; its capacity_scheduler_policy is engine.policy_options.capacity",
        "config=",
    ),
    **because("contexts run whole under TensorRT-LLM's scheduler here", "enable-chunked-prefill"),
    **because(
        "it is not simulated",
        "max-beam-width= context-parallel-size= moe-cluster-parallel-size= media-io-kwargs=",
    ),
    **because(
        "say it with cluster.pools[].role",
        "server-role= metadata-server-config-file= disagg-cluster-uri=",
    ),
}

ALIASES = {
    "tp-size": "tensor-parallel-size",
    "pp-size": "pipeline-parallel-size",
    "ep-size": "moe-expert-parallel-size",
    "cp-size": "context-parallel-size",
    "cluster-size": "moe-cluster-parallel-size",
    "kv-cache-free-gpu-memory-fraction": "free-gpu-memory-fraction",
    "extra-llm-api-options": "config",
}


def settle(found: Translation, special: Mapping[str, Any]) -> None:
    """What makes it TensorRT-LLM, and its own defaults of a step."""
    found.take("the engine", (*ENGINE, "policy"), "trtllm")
    for name, default in DEFAULTS.items():
        given = f"--{name} {special[name]}" if name in special else "the engine's default"
        found.take(given, SPECIAL[name].path, special.get(name, default))


TRTLLM = Dialect(
    name="trtllm",
    openings=(("trtllm-serve", "serve"), ("trtllm-serve",)),
    model="model",
    keys=KEYS,
    special=SPECIAL,
    inert=INERT,
    apart=APART,
    settle=settle,
    aliases=ALIASES,
)
