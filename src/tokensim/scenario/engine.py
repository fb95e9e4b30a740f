"""The ``engine`` section: one instance's scheduler and KV pool, named and checked as vLLM's flags are.

``null`` means what the engine itself would choose; ``resolved_engine`` fills it in once device and model are
known.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from tokensim.errors import InputError
from tokensim.scenario import sglang
from tokensim.scenario.lora import Lora
from tokensim.scenario.section import Count, CountOrZero, Flag, Name, Number, Section, refused
from tokensim.scenario.speculative import Speculative
from tokensim.scenario.units import Size
from tokensim.scenario.versions import VERSIONED_OPTIONS, Version, parse_version

KvCacheDtype = Literal["auto", "bfloat16", "float16", "fp8", "fp8_e4m3", "fp8_e5m2"]

GIB = 2**30


class Engine(Section):
    """One instance's local scheduler and memory."""

    policy: Name = "vllm"
    """The local scheduler, by its registered name."""
    policy_options: dict[str, Any] = Field(default_factory=dict)
    """Parameters of the policy itself: SGLang's own flags, or what a plug-in takes."""
    version: str = "0.33.0"
    """Engine version, whose rules the scheduler follows: of vLLM, or under `policy: sglang` of SGLang."""
    scheduling_policy: Literal["fcfs", "priority"] = "fcfs"
    """Order of the queue: first come first served, or smallest priority number first."""
    max_num_seqs: Count | None = None
    """Requests in one step at most; null: the engine's default for the device."""
    max_num_active_seqs: Count | None = None
    """Requests admitted into running at most; null: max_num_seqs."""
    max_num_batched_tokens: Count | None = None
    """Tokens in one step at most; null: the engine's default for the device."""
    max_num_scheduled_tokens: Count | None = None
    """Tokens that the scheduler gives out in one step; null: max_num_batched_tokens."""
    enable_chunked_prefill: Flag = True
    """Whether a prompt may be spread over several steps."""
    long_prefill_token_threshold: CountOrZero = 0
    """Tokens that one request gets in a step at most; 0: no such cap."""
    long_prefill_token_threshold_adaptive: Flag = False
    """Whether the cap rises to a fair share of max_num_batched_tokens when few requests are there."""
    scheduler_reserve_full_isl: Flag = True
    """Whether a request is admitted only when its whole prompt fits into the free blocks."""
    watermark: Annotated[Number, Field(ge=0, lt=1)] = 0.0
    """Share of the pool that admissions leave free while anything runs."""
    prefill_schedule_interval: Count = 1
    """Steps from one prefill to the next at least, while others decode; 1: prefill in any step."""
    enable_prefix_caching: Flag = True
    """Whether KV blocks of equal prefixes are shared and kept for reuse."""
    block_size: Count = 16
    """Tokens in one KV block."""
    num_gpu_blocks: Annotated[int, Field(strict=True, ge=2)] | None = None
    """KV blocks of the pool, with the one that vLLM never hands out; null: derived from device memory."""
    gpu_memory_utilization: Annotated[Number, Field(gt=0, le=1)] = 0.9
    """Share of device memory that the engine may use."""
    max_model_len: Count | None = None
    """Prompt and output tokens of one request at most; null: the model's own limit."""
    kv_cache_dtype: KvCacheDtype = "auto"
    """How the KV cache is stored; auto: as the activations."""
    async_scheduling: Flag = True
    """Whether step k+1 is scheduled while step k runs."""
    enforce_eager: Flag = False
    """No CUDA graphs: no step is padded to a captured size."""
    cudagraph_capture_sizes: list[Count] | None = None
    """Token counts of a step for which CUDA graphs are captured; null: the engine's default."""
    lora: Lora | None = None
    """LoRA adapters; null: none can be asked for."""
    preemption: Literal["recompute", "swap"] = "recompute"
    """What happens to the KV of a preempted request; vLLM's V1 engine only recomputes."""
    swap_space: Size | None = None
    """Host memory of each device for swapped KV; null: 4 GiB, if the engine swaps."""
    speculative: Speculative | None = None
    """Speculative decoding; null: none."""

    @field_validator("version", mode="before")
    @classmethod
    def _version_is_modelled(cls, value: object, info: ValidationInfo) -> str:
        if isinstance(value, float):
            raise refused("a version is a text", f'write it in quotes and whole: "{value}.0"')
        if not isinstance(value, str):
            raise refused("a version is a text", 'e.g. "0.33.0"')
        if info.data.get("policy") != sglang.POLICY:
            parse_version(value)
        return value

    @field_validator("cudagraph_capture_sizes")
    @classmethod
    def _sizes_ascend(cls, value: list[int] | None) -> list[int] | None:
        return None if value is None else sorted(set(value))

    @model_validator(mode="after")
    def _options_agree(self) -> Engine:
        if self.enforce_eager and self.cudagraph_capture_sizes:
            raise refused(
                "cudagraph_capture_sizes are given, but enforce_eager captures no CUDA graphs",
                "leave out one of the two",
            )
        if self.swap_space is not None and self.preemption != "swap":
            raise refused(
                "swap_space is given, but nothing is swapped", "set preemption: swap, or leave it out"
            )
        if self.policy == sglang.POLICY:
            sglang.settle(self)
            return self
        version = parse_version(self.version)
        for option, since in VERSIONED_OPTIONS.items():
            if version < since and getattr(self, option) != type(self).model_fields[option].default:
                raise refused(
                    f"{option} does not exist in vLLM {self.version}",
                    f"it needs version {since} or later; leave it out or set engine.version",
                )
        if self.long_prefill_token_threshold_adaptive and not self.long_prefill_token_threshold:
            raise refused(
                "long_prefill_token_threshold_adaptive needs a threshold to adapt",
                "set long_prefill_token_threshold, or leave the other out",
            )
        _check_budget(self, self.max_num_batched_tokens, self.max_num_seqs, self.max_model_len)
        return self


def _check_budget(engine: Engine, tokens: int | None, seqs: int | None, model_len: int | None) -> None:
    """vLLM's start-up checks (SchedulerConfig): the budget holds every request, or a whole prompt."""
    if tokens is None:
        return
    if seqs is not None and tokens < seqs:
        raise refused(
            f"max_num_batched_tokens ({tokens}) is less than max_num_seqs ({seqs})",
            f"every running request needs a token a step: at least {seqs}, or fewer requests",
        )
    if not engine.enable_chunked_prefill and model_len is not None and tokens < model_len:
        raise refused(
            f"with enable_chunked_prefill off, max_num_batched_tokens ({tokens}) is less than"
            f" max_model_len ({model_len})",
            f"a whole prompt must fit into one step: at least {model_len}, or a smaller max_model_len",
        )


def default_limits(version: Version, device_memory_bytes: float, is_a100: bool) -> tuple[int, int]:
    """(max_num_batched_tokens, max_num_seqs) that vLLM's API server takes when neither is given.

    Source: vLLM ``EngineArgs.get_batch_defaults`` (0.19.0, 0.23.0 and 0.33.0): by device memory, with the
    A100 kept at the smaller pair whatever its memory; the tier at 160 GiB is new in 0.33.0.
    """
    if is_a100 or device_memory_bytes < 70 * GIB:
        return 2048, 256
    if device_memory_bytes >= 160 * GIB and version >= Version(0, 33, 0):
        return 16384, 1024
    return 8192, 1024


def resolved_engine(
    engine: Engine,
    *,
    device_memory_bytes: float,
    is_a100: bool,
    model_max_len: int,
    where: str = "engine",
) -> Engine:
    """``engine`` with the limits that depend on device and model filled in as vLLM fills them in.

    These are ``max_num_seqs``, ``max_num_batched_tokens`` and ``max_model_len``. What is left ``null``:
    ``max_num_active_seqs`` (max_num_seqs), ``max_num_scheduled_tokens`` (max_num_batched_tokens) and
    ``num_gpu_blocks`` (for the memory model to derive).

    ``device_memory_bytes`` is what the driver reports for one device; ``model_max_len`` the model's longest
    context (tokens). The order of the adjustments is that of vLLM's
    ``EngineArgs._set_default_max_num_seqs_and_batched_tokens_args``. Raises ``InputError`` at ``where`` when
    the limits contradict each other or ``max_model_len`` exceeds the model's.
    """
    model_len = engine.max_model_len or model_max_len
    if model_len > model_max_len:
        raise InputError(
            f"max_model_len is {model_len}, but the model's context ends at {model_max_len} tokens",
            where=f"{where}.max_model_len",
            hint=f"at most {model_max_len}, or leave it out",
        )
    default_tokens, default_seqs = default_limits(parse_version(engine.version), device_memory_bytes, is_a100)
    seqs = engine.max_num_seqs or default_seqs
    tokens = engine.max_num_batched_tokens
    if tokens is None:
        tokens = default_tokens if engine.enable_chunked_prefill else max(model_len, default_tokens)
        tokens = min(seqs * model_len, tokens)
    if engine.max_num_seqs is None:
        seqs = min(seqs, tokens)
    try:
        _check_budget(engine, tokens, seqs, model_len)
    except ValueError as error:
        context = getattr(error, "context", None) or {}
        raise InputError(str(context.get("message", error)), where=where, hint=context.get("hint")) from None
    return engine.model_copy(
        update={
            "max_num_seqs": seqs,
            "max_num_batched_tokens": tokens,
            "max_model_len": model_len,
        }
    )
