"""Weight formats and the names that measured tables have for the kernels that run them."""

from __future__ import annotations

_FORMATS: dict[str, tuple[str, ...]] = {
    "float32": ("float32",),
    "bfloat16": ("bfloat16", "float16"),
    "float16": ("float16", "bfloat16"),
    "fp8": ("fp8", "fp8_block"),
    "int8": ("int8_wo",),
    "int4": ("int4_wo",),
    "fp4": ("nvfp4",),
    "mxfp4": ("w4a16_mxfp4", "w4a8_mxfp4_mxfp8"),
}
# The two 16-bit formats run at one rate (tensor cores' peaks are equal in every data sheet of the catalog).


def table_formats(dtype: str) -> tuple[str, ...]:
    """The tables' names for weights stored as ``dtype`` (``model.dtypes``), the usual one first."""
    return _FORMATS.get(dtype, ())


def expert_formats(dtype: str) -> tuple[str, ...]:
    """The same for routed experts. Published fp8 checkpoints of MoE models (DeepSeek, Qwen3) scale blocks of
    weights; the kernel for one scale a tensor is another, 4 to 6 times slower in vLLM 0.24's tables."""
    return ("fp8_block", "fp8") if dtype == "fp8" else table_formats(dtype)
