"""GEMMs in every format that PyTorch multiplies on the device, and experts' layers made of them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F

from tokensim.profiling.kernels.arena import Arena, random_numbers
from tokensim.profiling.kernels.runner import Call, first_line
from tokensim.profiling.shapes import Shape

TORCH_DTYPES: dict[str, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "fp8": torch.float8_e4m3fn,
    "int8_wo": torch.int8,
    "int8": torch.int8,
}
"""What weights in the tables' formats are to PyTorch."""


def torch_dtype(name: str, device: torch.device) -> torch.dtype:
    """What the format ``name`` of the tables is on ``device``: the matrix cores of AMD's CDNA 3 (gfx94*) take
    fp8 without negative zero (hipBLASLt's table of data types), all others OCP's."""
    if name == "fp8" and device.type != "cpu" and torch.version.hip:
        architecture = str(torch.cuda.get_device_properties(device).gcnArchName)
        return torch.float8_e4m3fnuz if architecture.startswith("gfx94") else torch.float8_e4m3fn
    return TORCH_DTYPES[name]


KERNELS = {
    "float32": "torch.nn.functional.linear",
    "bfloat16": "torch.nn.functional.linear",
    "float16": "torch.nn.functional.linear",
    "fp8": "torch._scaled_mm, one scale a tensor, fast accumulation",
    "int8_wo": "torch._weight_int8pack_mm",
    "int8": "torch._int_mm",
}

FORMATS = ("float32", "bfloat16", "float16", "fp8", "int8_wo")
"""Formats whose times the tables hold; ``int8`` times int8 is measured for its peak alone."""


EMULATED = 100.0
"""A GEMM that takes so many times as long as in the fastest format does not run on units for it (fp8 of
PyTorch 2.13 on a CPU: 1,000 times)."""

TRIED = {"cpu": 64, "cuda": 2048}
"""Rows and columns of that GEMM: large enough to tell units from emulation on the kind of device."""


def gemm_calls(shape: Shape, arena: Arena, device: torch.device) -> list[Call]:
    """Calls of one GEMM, each with weights of its own."""
    weights = arena.slices((shape["n"], shape["k"]), torch_dtype(shape["dtype"], device))
    return linear_calls(weights, shape["m"], shape["dtype"], device)


def linear_calls(weights: Sequence[torch.Tensor], m: int, dtype: str, device: torch.device) -> list[Call]:
    """``x[m, k]`` times each of ``weights`` [n, k]."""
    n, k = weights[0].shape
    kept = weights[0].dtype if dtype != "int8_wo" else torch.bfloat16
    x = random_numbers(m * k, kept, device).view(m, k)
    if dtype == "fp8":
        one = torch.ones((), device=device)
        scaled: Any = torch._scaled_mm
        options = {"use_fast_accum": True} if device.type != "cpu" else {}  # as engines' kernels on Hopper

        def of_fp8(w: torch.Tensor) -> Call:
            return lambda: scaled(x, w.t(), scale_a=one, scale_b=one, out_dtype=torch.bfloat16, **options)

        return [of_fp8(w) for w in weights]
    if dtype == "int8_wo":
        scales = random_numbers(n, torch.bfloat16, device)
        packed: Any = torch._weight_int8pack_mm

        def of_int8(w: torch.Tensor) -> Call:
            return lambda: packed(x, w, scales)

        return [of_int8(w) for w in weights]
    if dtype == "int8":
        multiply: Any = torch._int_mm

        def of_integers(w: torch.Tensor) -> Call:
            return lambda: multiply(x, w.t())

        return [of_integers(w) for w in weights]

    def of_floats(w: torch.Tensor) -> Call:
        return lambda: F.linear(x, w)

    return [of_floats(w) for w in weights]


def formats_of(device: torch.device) -> tuple[tuple[str, ...], dict[str, str]]:
    """The formats that ``device`` multiplies, and for the others what PyTorch says; found out by trying."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # so that other processes on the cores do not hold this up
    try:
        return _tried(device)
    finally:
        torch.set_num_threads(threads)


def _tried(device: torch.device) -> tuple[tuple[str, ...], dict[str, str]]:
    known: list[str] = []
    took: dict[str, float] = {}
    lacking: dict[str, str] = {}
    size = TRIED[device.type]
    for dtype in (*FORMATS, "int8"):
        try:
            w = random_numbers(size * size, torch_dtype(dtype, device), device).view(size, size)
            (call,) = linear_calls([w], size, dtype, device)
            _once(call, device)
            known.append(dtype)
            took[dtype] = min(_once(call, device) for _ in range(5))
        except Exception as error:  # whatever a library that lacks the format raises
            lacking[dtype] = first_line(error)
    for dtype in [name for name in known if took[name] > EMULATED * min(took.values())]:
        known.remove(dtype)
        lacking[dtype] = (
            f"it is emulated, {took[dtype] / min(took.values()):,.0f} times as slow as the fastest"
        )
    return tuple(known), lacking


def _once(call: Call, device: torch.device) -> float:
    """Seconds of one call, waited for."""
    began = time.perf_counter()
    call()
    if device.type != "cpu":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began
