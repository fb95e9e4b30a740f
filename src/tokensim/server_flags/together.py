"""Flags that lead to one key together, whatever the engine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tokensim.errors import InputError
from tokensim.server_flags.base import PARALLEL, Translation

FORMATS = {
    "half": "float16",
    "float16": "float16",
    "bfloat16": "bfloat16",
    "float": "float32",
    "float32": "float32",
}
"""``--dtype`` → ``weights``, for a model that was published in 16 or 32 bits."""

CONVERTED = {"fp8": "fp8", "mxfp4": "mxfp4"}
"""``--quantization`` → ``weights``, where the engine converts weights as it loads them."""

AS_PUBLISHED = frozenset(
    {"awq", "awq_marlin", "gptq", "gptq_marlin", "compressed-tensors", "w8a8_fp8", "w8a8_int8", "quark"}
    | {"modelopt", "modelopt_fp8", "modelopt_fp4"}
)
"""``--quantization`` that names the format of the published weights: ``weights: auto``."""


def take_weights(found: Translation, special: Mapping[str, Any]) -> None:
    """``weights`` from ``--quantization``, or else from ``--dtype`` where the model is not quantised.

    ``--dtype`` is the format of activations, and of the weights that nothing else says a format of.
    """
    method, dtype = special.get("quantization"), special.get("dtype")
    if method in CONVERTED:
        found.take(f"--quantization {method}", ("weights",), CONVERTED[method])
    elif method in AS_PUBLISHED:
        found.take(f"--quantization {method}", ("weights",), "auto")
    elif method is not None:
        found.leave(f"--quantization {method}", "say how weights are stored with weights: int8, int4, …")
    if dtype is None or dtype == "auto":
        return
    if method is None and dtype in FORMATS and not _is_quantised(found.model):
        found.take(f"--dtype {dtype}", ("weights",), FORMATS[dtype])
    else:
        found.leave(f"--dtype {dtype}", "the model's weights have a format of their own")


def take_experts(found: Translation, given: str) -> None:
    """Experts over all ranks, as ``given`` says: tensor × data of them."""
    ranks = {taken.path[-1]: taken.value for taken in found.taken if taken.path[:-1] == PARALLEL}
    tensor, data = ranks.get("tensor", 1), ranks.get("data", 1)
    if isinstance(tensor, int) and isinstance(data, int):
        found.take(given, (*PARALLEL, "expert"), tensor * data)


def _is_quantised(model: str | None) -> bool:
    """Whether ``model`` was published in less than 16 bits; False of one that is not known (it is refused
    later)."""
    from tokensim.model import load_model
    from tokensim.model.dtypes import FULL_PRECISION

    try:
        return model is not None and load_model(model).native_dtype not in FULL_PRECISION
    except InputError:
        return False
