"""Number formats: bytes of one weight or one cached number, and which weights a format applies to.

Weights are stored in one of three parts: *routed experts*, the other *linear* layers of the blocks, and *the
rest* (embeddings, norms, biases, router, LM head). As in vLLM, a quantised format applies to the linear
layers and the experts and leaves the rest in 16 bits; ``mxfp4`` applies to the experts alone, as GPT-OSS
ships it.
"""

from __future__ import annotations

from typing import Literal

from tokensim.errors import InputError, nearest

Part = Literal["expert", "linear", "rest"]

BYTES: dict[str, float] = {
    "float32": 4.0,
    "bfloat16": 2.0,
    "float16": 2.0,
    "fp8": 1.0,  # scales by tensor, channel or 128 x 128 block: below 0.1 %, left out
    "int8": 1.0,  # one scale a channel: left out
    "int4": 0.5
    + 2 / 128,  # GPTQ, AWQ: a 16-bit scale for their usual group of 128 (zero points: 0.4 % more, left out)
    "fp4": 0.5 + 1 / 16,  # NVFP4: an 8-bit scale for 16 weights (NVIDIA, "Introducing NVFP4")
    "mxfp4": 0.5 + 1 / 32,  # an 8-bit scale for 32 weights (OCP Microscaling Formats 1.0, section 5.1)
}
"""Bytes of one weight, with its share of the scales."""

FULL_PRECISION = ("float32", "bfloat16", "float16")

_ALIASES = {
    "bf16": "bfloat16",
    "fp16": "float16",
    "half": "float16",
    "fp32": "float32",
    "float": "float32",
    "float8_e4m3fn": "fp8",
    "fp8_e4m3": "fp8",
    "nvfp4": "fp4",
    "awq": "int4",
    "gptq": "int4",
}

_KV_BYTES = {
    "auto": 2.0,  # the activations' own 16 bits
    "bfloat16": 2.0,
    "float16": 2.0,
    "float32": 4.0,
    "fp8": 1.0,
    "fp8_e4m3": 1.0,
    "fp8_e5m2": 1.0,
    "int8": 1.0,
}


def weight_dtype(name: str, where: str = "weights") -> str:
    """The canonical name of a weight format (``bf16`` → ``bfloat16``); raises ``InputError`` if unknown."""
    key = name.lower()
    key = _ALIASES.get(key, key)
    if key not in BYTES:
        raise InputError(
            f"unknown weight format '{name}'", where=where, hint=nearest(name, [*BYTES, *_ALIASES])
        )
    return key


def stored_as(dtype: str, part: Part) -> str:
    """The format in which ``part`` of a model is stored when its weights are ``dtype`` (canonical)."""
    if dtype in FULL_PRECISION:
        return dtype
    if part == "rest" or (dtype == "mxfp4" and part == "linear"):
        return "bfloat16"
    return dtype


def kv_bytes(name: str, where: str = "engine.kv_cache_dtype") -> float:
    """Bytes of one number in the KV cache; raises ``InputError`` for an unknown format."""
    try:
        return _KV_BYTES[name.lower()]
    except KeyError:
        raise InputError(
            f"unknown KV cache format '{name}'", where=where, hint=nearest(name, _KV_BYTES)
        ) from None
