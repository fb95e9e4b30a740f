"""``vllm serve``: its flags, as of 0.19 to 0.33.

Sources: ``vllm/engine/arg_utils.py`` and ``vllm/entrypoints/openai/cli_args.py``; what each key means is said
where the scenario has it (``tokensim/scenario/engine.py``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tokensim.server_flags.base import PARALLEL, Dialect, Flag, Translation, because, flags
from tokensim.server_flags.numbers import gibibytes, number, tree, whole, wholes
from tokensim.server_flags.together import take_experts, take_weights

ENGINE = ("engine",)

KEYS = {
    "tensor-parallel-size": Flag((*PARALLEL, "tensor"), read=whole),
    "pipeline-parallel-size": Flag((*PARALLEL, "pipeline"), read=whole),
    "data-parallel-size": Flag((*PARALLEL, "data"), read=whole),
    "max-num-seqs": Flag((*ENGINE, "max_num_seqs"), read=whole),
    "max-num-active-seqs": Flag((*ENGINE, "max_num_active_seqs"), read=whole),
    "max-num-batched-tokens": Flag((*ENGINE, "max_num_batched_tokens"), read=whole),
    "max-num-scheduled-tokens": Flag((*ENGINE, "max_num_scheduled_tokens"), read=whole),
    "enable-chunked-prefill": Flag((*ENGINE, "enable_chunked_prefill"), "switch"),
    "long-prefill-token-threshold": Flag((*ENGINE, "long_prefill_token_threshold"), read=whole),
    "long-prefill-token-threshold-adaptive": Flag(
        (*ENGINE, "long_prefill_token_threshold_adaptive"), "switch"
    ),
    "scheduling-policy": Flag((*ENGINE, "scheduling_policy")),
    "scheduler-reserve-full-isl": Flag((*ENGINE, "scheduler_reserve_full_isl"), "switch"),
    "prefill-schedule-interval": Flag((*ENGINE, "prefill_schedule_interval"), read=whole),
    "watermark": Flag((*ENGINE, "watermark"), read=number),
    "async-scheduling": Flag((*ENGINE, "async_scheduling"), "switch"),
    "enable-prefix-caching": Flag((*ENGINE, "enable_prefix_caching"), "switch"),
    "block-size": Flag((*ENGINE, "block_size"), read=whole),
    "num-gpu-blocks-override": Flag((*ENGINE, "num_gpu_blocks"), read=whole),
    "gpu-memory-utilization": Flag((*ENGINE, "gpu_memory_utilization"), read=number),
    "kv-cache-dtype": Flag((*ENGINE, "kv_cache_dtype")),
    "enforce-eager": Flag((*ENGINE, "enforce_eager"), "switch"),
    "cudagraph-capture-sizes": Flag((*ENGINE, "cudagraph_capture_sizes"), "values", wholes),
}

SPECIAL = {
    "max-model-len": Flag((*ENGINE, "max_model_len"), read=whole),
    "dtype": Flag(("weights",)),
    "quantization": Flag(("weights",)),
    "enable-expert-parallel": Flag((*PARALLEL, "expert"), "switch"),
    "speculative-config": Flag((*ENGINE, "speculative"), read=tree),
    "enable-lora": Flag((*ENGINE, "lora"), "switch"),
    "max-loras": Flag((*ENGINE, "lora", "max_loras"), read=whole),
    "max-lora-rank": Flag((*ENGINE, "lora", "max_lora_rank"), read=whole),
    "max-cpu-loras": Flag((*ENGINE, "lora", "max_cpu_loras"), read=whole),
    "lora-target-modules": Flag((*ENGINE, "lora", "target_modules"), "values", list),
    "kv-offloading-size": Flag(("memory", "tiers"), read=gibibytes),
}

INERT = flags(
    """
    host= port= uds= root-path= headless api-key=* served-model-name=* chat-template= response-role=
    chat-template-content-format= default-chat-template-kwargs= trust-request-chat-template
    tool-call-parser= tool-parser-plugin= tool-server= enable-auto-tool-choice
    exclude-tools-when-tool-choice-none reasoning-parser= reasoning-parser-plugin=
    structured-outputs-config= reasoning-config= ssl-keyfile= ssl-certfile= ssl-ca-certs= ssl-cert-reqs=
    ssl-ciphers= enable-ssl-refresh allowed-origins= allowed-methods= allowed-headers= allow-credentials
    middleware= uvicorn-log-level= disable-uvicorn-access-log disable-access-log-for-endpoints=
    disable-fastapi-docs enable-offline-docs log-config-file= log-error-stack max-log-len=
    enable-log-requests disable-log-requests enable-log-outputs enable-log-deltas disable-log-stats
    aggregate-engine-logging enable-request-id-headers enable-prompt-tokens-details
    enable-force-include-usage enable-server-load-tracking enable-tokenizer-info-endpoint
    return-tokens-as-token-ids tokens-only h11-max-header-count= h11-max-incomplete-event-size=
    otlp-traces-endpoint= show-hidden-metrics-for-version= kv-cache-metrics kv-cache-metrics-sample=
    cudagraph-metrics enable-mfu-metrics enable-logging-iteration-details kv-events-config=
    shutdown-timeout= seed= trust-remote-code tokenizer= tokenizer-mode= tokenizer-revision= revision=
    code-revision= hf-token= config-format= download-dir= load-format= safetensors-load-strategy=
    model-loader-extra-config= ignore-patterns=* use-tqdm-on-load pt-load-map-location=
    max-parallel-loading-workers= generation-config= override-generation-config= logprobs-mode=
    max-logprobs= allowed-local-media-path= allowed-media-domains=* prefix-caching-hash-algo=
    distributed-executor-backend= distributed-timeout-seconds= worker-cls= worker-extension-cls=
    master-addr= master-port= nnodes= node-rank= data-parallel-address= data-parallel-rpc-port=
    data-parallel-backend= data-parallel-rank= data-parallel-size-local= data-parallel-start-rank=
    enable-sleep-mode allow-deprecated-quantization ray-workers-use-nsight skip-mm-profiling swap-space=
    """
)
"""``swap-space`` among them: the V1 engine does not swap."""

APART = {
    **because(
        "times are those of the kernels and settings that the engine takes by itself",
        """
        attention-backend= attention-config= moe-backend= all2all-backend= disable-custom-all-reduce
        compilation-config= optimization-level= kernel-config= max-cudagraph-capture-size= model-impl=
        override-attention-dtype= disable-cascade-attn kv-sharing-fast-prefill enable-flashinfer-autotune
        ubatch-size= enable-dbo dbo-decode-token-threshold= dbo-prefill-token-threshold=
        disable-nccl-for-dp-synchronization calculate-kv-scales kv-cache-dtype-skip-layers=*
        fully-sharded-loras lora-dtype= specialize-active-lora enable-layerwise-nvtx-tracing
        collect-detailed-traces=* profiler-config= additional-config=
        """,
    ),
    **because(
        "it is not simulated",
        """
        decode-context-parallel-size= prefill-context-parallel-size= dcp-kv-cache-interleave-size=
        dcp-comm-backend= cp-kv-cache-interleave-size= cpu-offload-gb= cpu-offload-params=* offload-backend=
        offload-group-size= offload-num-in-group= offload-params=* offload-prefetch-step= scheduler-cls=
        max-num-partial-prefills= max-long-partial-prefills= stream-interval= logits-processors=*
        enable-elastic-ep enable-ep-weight-filter expert-placement-strategy= disable-hybrid-kv-cache-manager
        mamba-block-size= mamba-cache-dtype= mamba-cache-mode= mamba-ssm-cache-dtype= disable-sliding-window
        enable-prompt-embeds enable-return-routed-experts io-processor-plugin= weight-transfer-config=
        data-parallel-hybrid-lb data-parallel-external-lb
        """,
    ),
    **because(
        "images are a part of the workload: workload.images",
        """
        limit-mm-per-prompt= mm-processor-kwargs= mm-processor-cache-gb= mm-processor-cache-type=
        mm-shm-cache-max-object-size-mb= mm-encoder-tp-mode= mm-encoder-attn-backend= mm-encoder-only
        mm-tensor-ipc= media-io-kwargs= enable-mm-embeds interleave-mm-strings language-model-only
        disable-chunked-mm-input video-pruning-rate= ec-transfer-config= default-mm-loras=
        enable-tower-connector-lora
        """,
    ),
    **because(
        "say it with cluster.pools[].role, or memory.tiers", "kv-transfer-config= kv-offloading-backend="
    ),
    **because("say it with performance.experts", "enable-eplb eplb-config="),
    **because("give engine.num_gpu_blocks, which the server's log tells", "kv-cache-memory-bytes="),
    **because("say it with workload.task", "runner= convert= task= pooler-config="),
    **because("adapters are asked for in the workload: workload.adapters", "lora-modules=*"),
    **because(
        "say what differs with model: {base: …, …}",
        "hf-overrides= hf-config-path= rope-scaling= rope-theta= skip-tokenizer-init",
    ),
    **because(
        "the API process is performance.front_end",
        "api-server-count= renderer-num-workers= disable-frontend-multiprocessing",
    ),
    **because(
        "where it raises defaults, give engine.max_num_seqs and engine.max_num_batched_tokens",
        "performance-mode=",
    ),
    **because("say what it holds as flags", "config="),
}

SHORT = {
    "tp": "tensor-parallel-size",
    "pp": "pipeline-parallel-size",
    "dp": "data-parallel-size",
    "dpl": "data-parallel-size-local",
    "dpr": "data-parallel-start-rank",
    "dpn": "data-parallel-rank",
    "dpa": "data-parallel-address",
    "dpp": "data-parallel-rpc-port",
    "dpb": "data-parallel-backend",
    "dph": "data-parallel-hybrid-lb",
    "dpe": "data-parallel-external-lb",
    "ep": "enable-expert-parallel",
    "dcp": "decode-context-parallel-size",
    "pcp": "prefill-context-parallel-size",
    "asc": "api-server-count",
    "q": "quantization",
    "O": "optimization-level",
    "cc": "compilation-config",
    "ac": "attention-config",
    "sc": "speculative-config",
    "n": "nnodes",
    "r": "node-rank",
}


def settle(found: Translation, special: Mapping[str, Any]) -> None:
    """The flags that lead to a key together with others."""
    take_weights(found, special)
    length = special.get("max-model-len")
    if length in ("auto", -1):
        found.leave(f"--max-model-len {length}", "give the length that the server's log tells")
    elif length is not None:
        found.take(f"--max-model-len {length}", SPECIAL["max-model-len"].path, length)
    if special.get("enable-expert-parallel"):
        take_experts(found, "--enable-expert-parallel")
    if "speculative-config" in special:
        _speculative(found, special["speculative-config"])
    _adapters(found, special)
    if "kv-offloading-size" in special:
        tier = {"kind": "host", "capacity": special["kv-offloading-size"]}
        found.take("--kv-offloading-size", SPECIAL["kv-offloading-size"].path, [tier])


def _speculative(found: Translation, config: Any) -> None:
    """The keys of ``--speculative-config`` that there are; the rest stands apart."""
    path, given = SPECIAL["speculative-config"].path, "--speculative-config"
    if not isinstance(config, dict):
        found.take(given, path, config)  # refused with the scenario
        return
    method = config.get("method", "draft_model" if "model" in config else None)
    kept = {"num_speculative_tokens"} | ({"model"} if method == "draft_model" else set())
    section = {name: config[name] for name in sorted(kept & config.keys())}
    found.take(given, path, {"method": method, **section})
    implied = {"method", "model"} if method in ("eagle", "eagle3", "mtp") else {"method"}
    for name in sorted(config.keys() - kept - implied):
        found.leave(f"{given} {name}", "it is not simulated")


def _adapters(found: Translation, special: Mapping[str, Any]) -> None:
    """LoRA's flags, which mean nothing without ``--enable-lora``."""
    given = [name for name in SPECIAL if "lora" in name and name != "enable-lora" and name in special]
    if special.get("enable-lora"):
        found.take("--enable-lora", SPECIAL["enable-lora"].path, {})
        for name in given:
            found.take(f"--{name} {special[name]}", SPECIAL[name].path, special[name])
        return
    for name in given:
        found.leave(f"--{name} {special[name]}", "it has no effect without --enable-lora")


VLLM = Dialect(
    name="vllm",
    openings=(("vllm", "serve"), ("-m", "vllm.entrypoints.openai.api_server")),
    model="model",
    keys=KEYS,
    special=SPECIAL,
    inert=INERT,
    apart=APART,
    settle=settle,
    short=SHORT,
)
