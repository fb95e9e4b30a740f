"""``sglang serve`` and ``python -m sglang.launch_server``: their flags, as of 0.5.23.

Sources: ``python/sglang/srt/server_args.py``; what each key means under ``policy: sglang`` is said in
``tokensim/scenario/sglang.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tokensim.errors import InputError
from tokensim.scenario.sglang import DEFAULTS
from tokensim.server_flags.base import PARALLEL, POOL, Dialect, Flag, Translation, because, flags
from tokensim.server_flags.numbers import number, whole, wholes
from tokensim.server_flags.together import take_weights

ENGINE = ("engine",)
OPTIONS = ("engine", "policy_options")

KEYS = {
    "tensor-parallel-size": Flag((*PARALLEL, "tensor"), read=whole),
    "pipeline-parallel-size": Flag((*PARALLEL, "pipeline"), read=whole),
    "expert-parallel-size": Flag((*PARALLEL, "expert"), read=whole),
    "data-parallel-size": Flag((*POOL, "replicas"), read=whole),
    "max-running-requests": Flag((*ENGINE, "max_num_seqs"), read=whole),
    "page-size": Flag((*ENGINE, "block_size"), read=whole),
    "context-length": Flag((*ENGINE, "max_model_len"), read=whole),
    "mem-fraction-static": Flag((*ENGINE, "gpu_memory_utilization"), read=number),
    "kv-cache-dtype": Flag((*ENGINE, "kv_cache_dtype")),
    "disable-radix-cache": Flag((*ENGINE, "enable_prefix_caching"), "switch", value=False),
    "disable-overlap-schedule": Flag((*ENGINE, "async_scheduling"), "switch", value=False),
    "disable-cuda-graph": Flag((*ENGINE, "enforce_eager"), "switch"),
    "cuda-graph-bs": Flag((*ENGINE, "cudagraph_capture_sizes"), "values", wholes),
    "schedule-policy": Flag((*OPTIONS, "schedule_policy")),
    "schedule-conservativeness": Flag((*OPTIONS, "schedule_conservativeness"), read=number),
    "max-prefill-tokens": Flag((*OPTIONS, "max_prefill_tokens"), read=whole),
    "prefill-max-requests": Flag((*OPTIONS, "prefill_max_requests"), read=whole),
    "enable-mixed-chunk": Flag((*OPTIONS, "enable_mixed_chunk"), "switch"),
    "num-reserved-decode-tokens": Flag((*OPTIONS, "num_reserved_decode_tokens"), read=whole),
}

SPECIAL = {
    "chunked-prefill-size": Flag((*ENGINE, "max_num_batched_tokens"), read=whole),
    "max-total-tokens": Flag((*ENGINE, "num_gpu_blocks"), read=whole),
    "dtype": Flag(("weights",)),
    "quantization": Flag(("weights",)),
    "enable-dp-attention": Flag((*PARALLEL, "data"), "switch"),
}

INERT = flags(
    """
    host= port= nccl-port= skip-server-warmup warmups= api-key= admin-api-key= served-model-name=
    chat-template= completion-template= file-storage-path= enable-cache-report reasoning-parser=
    tool-call-parser= grammar-backend= tokenizer-path= tokenizer-mode= trust-remote-code revision=
    load-format= model-loader-extra-config= download-dir= random-seed= log-level= log-level-http=
    log-requests log-requests-level= show-time-cost enable-metrics enable-metrics-for-all-schedulers
    decode-log-interval= enable-request-time-stats-logging kv-events-config= enable-trace
    otlp-traces-endpoint= crash-dump-folder= watchdog-timeout= dist-timeout= dist-init-addr= nnodes=
    node-rank= device= base-gpu-id= gpu-id-step= sleep-on-idle preferred-sampling-params=
    constrained-json-whitespace-pattern= weight-version= enable-memory-saver weight-loader-disable-mmap
    load-watch-interval= enable-p2p-check
    """
)

APART = {
    **because(
        "times are those of the kernels and settings that the engine takes by itself",
        """
        attention-backend= prefill-attention-backend= decode-attention-backend= sampling-backend=
        mm-attention-backend= moe-runner-backend= moe-a2a-backend= fp8-gemm-backend= enable-torch-compile
        torch-compile-max-bs= enable-piecewise-cuda-graph cuda-graph-max-bs= disable-cuda-graph-padding
        disable-custom-all-reduce enable-flashinfer-allreduce-fusion enable-mscclpp enable-symm-mem
        enable-two-batch-overlap enable-single-batch-overlap triton-attention-num-kv-splits=
        enable-nccl-nvls disable-outlines-disk-cache
        """,
    ),
    **because(
        "it is not simulated",
        """
        stream-interval= num-continuous-decode-steps= enable-dp-lm-head moe-dense-tp-size= attn-cp-size=
        cpu-offload-gb= enable-hierarchical-cache hicache-ratio= hicache-size= hicache-write-policy=
        hicache-io-backend= hicache-mem-layout= hicache-storage-backend= hicache-storage-prefetch-policy=
        enable-lmcache enable-priority-scheduling schedule-low-priority-values-first radix-eviction-policy=
        max-queued-requests= swa-full-tokens-ratio= disable-hybrid-swa-memory load-balance-method=
        enable-dynamic-batch-tokenizer tokenizer-worker-num= enable-tokenizer-batch-encode
        disable-chunked-prefix-cache
        """,
    ),
    **because(
        "speculative decoding is simulated under vLLM's scheduler alone",
        """
        speculative-algorithm= speculative-draft-model-path= speculative-num-steps= speculative-eagle-topk=
        speculative-num-draft-tokens= speculative-token-map= speculative-attention-mode=
        speculative-accept-threshold-single= speculative-accept-threshold-acc=
        """,
    ),
    **because(
        "adapters are simulated under vLLM's scheduler alone",
        """
        enable-lora max-lora-rank= lora-target-modules=* lora-paths=* max-loras-per-batch= max-loaded-loras=
        """,
    ),
    **because(
        "say it with cluster.pools[].role",
        """
        disaggregation-mode= disaggregation-transfer-backend= disaggregation-bootstrap-port=
        disaggregation-ib-device= disaggregation-decode-enable-radix-cache
        """,
    ),
    **because(
        "say it with performance.experts",
        "enable-eplb eplb-algorithm= ep-num-redundant-experts= init-expert-location= ep-dispatch-algorithm=",
    ),
    **because("say it with workload.task", "is-embedding"),
    **because("images are a part of the workload: workload.images", "enable-multimodal"),
    **because("say what differs with model: {base: …, …}", "json-model-override-args="),
    **because("say what it holds as flags", "config="),
}

ALIASES = {
    "model": "model-path",
    "tp-size": "tensor-parallel-size",
    "tp": "tensor-parallel-size",
    "pp-size": "pipeline-parallel-size",
    "pp": "pipeline-parallel-size",
    "dp-size": "data-parallel-size",
    "dp": "data-parallel-size",
    "ep-size": "expert-parallel-size",
    "ep": "expert-parallel-size",
}


def settle(found: Translation, special: Mapping[str, Any]) -> None:
    """The flags that lead to a key together with others, and what makes it SGLang."""
    if special.get("enable-dp-attention"):
        raise InputError(
            "data-parallel attention is not simulated under SGLang's scheduler",
            where="--enable-dp-attention",
            hint="leave it out; ranks that share experts are simulated as vllm serve -dp N -ep",
        )
    found.take("the engine", (*ENGINE, "policy"), "sglang")
    take_weights(found, special)
    chunk = special.get("chunked-prefill-size")
    if chunk == -1:
        found.take("--chunked-prefill-size -1", (*ENGINE, "enable_chunked_prefill"), False)
    elif chunk is not None:
        found.take(f"--chunked-prefill-size {chunk}", SPECIAL["chunked-prefill-size"].path, chunk)
    tokens = special.get("max-total-tokens")
    if tokens is not None:
        pages = {taken.path: taken.value for taken in found.taken}.get((*ENGINE, "block_size"))
        page = DEFAULTS["block_size"] if pages is None else pages
        whole_pages = tokens // page if isinstance(tokens, int) and isinstance(page, int) and page else tokens
        found.take(f"--max-total-tokens {tokens}", SPECIAL["max-total-tokens"].path, whole_pages)


SGLANG = Dialect(
    name="sglang",
    openings=(("sglang", "serve"), ("-m", "sglang.launch_server")),
    model="model-path",
    keys=KEYS,
    special=SPECIAL,
    inert=INERT,
    apart=APART,
    settle=settle,
    aliases=ALIASES,
)
