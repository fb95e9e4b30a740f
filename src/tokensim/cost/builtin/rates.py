"""The dtypes that were fitted: the peak they compute at, what a weight takes, which fit stands in for which.

The names are those of the measured tables (``tokensim.cost.tables.base``).
"""

from __future__ import annotations

from tokensim.hardware.base import Device
from tokensim.model.dtypes import BYTES, weight_dtype

_FITTED: dict[str, tuple[tuple[str, ...], str]] = {
    "bfloat16": (("bfloat16", "float16"), "bfloat16"),
    "fp8": (("fp8", "bfloat16", "float16"), "fp8"),
    "fp8_block": (("fp8", "bfloat16", "float16"), "fp8"),
    "nvfp4": (("fp4", "fp8", "bfloat16"), "fp4"),
    "w4a8_mxfp4_mxfp8": (("fp8", "bfloat16"), "mxfp4"),
    "w4a16_mxfp4": (("bfloat16", "float16"), "mxfp4"),
    "int8_wo": (("bfloat16", "float16"), "int8"),
    "int4_wo": (("bfloat16", "float16"), "int4"),
}
"""Fitted dtype → the peaks that it computes at, the first that the device has, and what weights are stored
as. ``_wo`` and ``w4a16``: weights alone are quantised, arithmetic is in 16 bits."""

_STAND_IN: dict[str, tuple[str, ...]] = {
    "float16": ("bfloat16",),
    "bfloat16": ("bfloat16",),
    "fp8": ("fp8", "fp8_block"),
    "fp8_block": ("fp8_block", "fp8"),
    "fp4": ("nvfp4",),
    "mxfp4": ("w4a16_mxfp4",),
    "int8": ("int8_wo",),
    "int4": ("int4_wo",),
}
"""What weights are stored as → the fits that know it, the best first."""

LOW_PRECISION = ("fp8", "fp4")
"""Peaks whose share the catalog gives as ``gemm_low_precision``."""


def fitted_dtypes() -> tuple[str, ...]:
    """The dtypes that a fit may have."""
    return tuple(_FITTED)


def peak_dtype(fitted: str, device: Device) -> str | None:
    """The dtype of the peak at which ``device`` computes what was ``fitted``; None if it has none of them."""
    return next((dtype for dtype in _FITTED[fitted][0] if dtype in device.flops), None)


def weight_bytes(fitted: str) -> float:
    """Bytes of one weight."""
    return BYTES[_FITTED[fitted][1]]


def stand_ins(weights: str, device: Device) -> list[str]:
    """The fits that may price weights stored as ``weights``, the best first.

    A device without units for the weights' format expands them to 16 bits (weight-only, as vLLM's Marlin
    kernels do): such fits first, then those for 16-bit weights, whose time for fewer bytes it is then.
    """
    name = weights if weights == "fp8_block" else weight_dtype(weights)
    native = [one for one in _STAND_IN.get(name, ()) if _FITTED[one][0][0] in device.flops]
    return [*native, *(one for one in ("bfloat16",) if one not in native)]


def stored_bytes(weights: str) -> float:
    """Bytes of one weight stored as ``weights``."""
    return BYTES["fp8" if weights == "fp8_block" else weight_dtype(weights)]
