"""Quantities as people write them: ``500ms``, ``80 GB``, ``3.35 TB/s``, ``989 TFLOP/s``, ``700 W``.

Every parser takes a number (SI already: seconds, bytes, bytes/s, FLOP/s, watts) or a text with a unit, and
returns a float in SI. Decimal prefixes are powers of 1000 and binary ones (``GiB``) powers of 1024
(IEC 80000-13).
``Gb/s`` with a small ``b`` is bits. Negative, infinite and NaN values are refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema

_QUANTITY = re.compile(r"\s*([+-]?(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(.*?)\s*")

_SECONDS: Mapping[str, float] = {
    "ns": 1e-9,
    "us": 1e-6,
    "µs": 1e-6,
    "μs": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "min": 60.0,
    "h": 3600.0,
    "d": 86400.0,
}
_DECIMAL: Mapping[str, float] = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15}
_BINARY: Mapping[str, float] = {f"{p}i": float(1024 ** (i + 1)) for i, p in enumerate("KMGTP")}
_BYTES: Mapping[str, float] = {f"{p}B": v for p, v in {**_DECIMAL, **_BINARY}.items()}
_BANDWIDTH: Mapping[str, float] = {
    **{f"{unit}/s": value for unit, value in _BYTES.items()},
    **{f"{p}b/s": v / 8 for p, v in {**_DECIMAL, **_BINARY}.items()},
    **{f"{p}bps": v / 8 for p, v in _DECIMAL.items()},
}
_FLOPS: Mapping[str, float] = {
    f"{p}{unit}": v
    for p, v in {**_DECIMAL, "E": 1e18}.items()
    for unit in ("FLOP/s", "FLOPS", "FLOPs", "OP/s", "OPS")
}
_POWER: Mapping[str, float] = {"mW": 1e-3, "W": 1.0, "kW": 1e3, "MW": 1e6}


def _parse(value: object, units: Mapping[str, float], what: str, right: str) -> float:
    """``value`` in SI; ``right`` shows what would have been accepted."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"{value!r} is not {what}; write {right}")
    if isinstance(value, str):
        match = _QUANTITY.fullmatch(value)
        if match is None:
            raise ValueError(f"{value!r} is not {what}; write {right}")
        number, unit = float(match[1].replace("_", "")), match[2]
        if unit and unit not in units:
            raise ValueError(f"{value!r} is not {what}: unknown unit '{unit}'; write {right}")
        result = number * units[unit] if unit else number
    else:
        result = float(value)
    if not math.isfinite(result):
        raise ValueError(f"{value!r} is not finite; write {right}")
    if result < 0:
        raise ValueError(f"{value!r} is negative; write {right}")
    return result


def parse_duration(value: float | int | str) -> float:
    """Seconds, from a number of seconds or ``500ms``, ``20 us``, ``2 s``, ``10min``, ``1 h``, ``1 d``.

    Raises ``ValueError`` that says what would be right.
    """
    return _parse(value, _SECONDS, "a duration", "e.g. 500ms, 1.5s, 10min, or a number of seconds")


def parse_bytes(value: float | int | str) -> float:
    """Bytes, from a number of bytes or ``80 GB`` (1e9), ``80 GiB`` (2**30); raises ``ValueError``."""
    return _parse(value, _BYTES, "a size", "e.g. 80GB, 80GiB, or a number of bytes")


def parse_bandwidth(value: float | int | str) -> float:
    """Bytes/s, from a number or ``900 GB/s``, ``400 Gb/s`` (bits), ``3.35 TB/s``; raises ``ValueError``."""
    return _parse(
        value, _BANDWIDTH, "a bandwidth", "e.g. 900GB/s, 400Gb/s (bits), 3.35TB/s, or a number of bytes/s"
    )


def parse_flops(value: float | int | str) -> float:
    """FLOP/s (or integer op/s), from a number or ``989 TFLOP/s``, ``1.98 PFLOPS``; raises ``ValueError``."""
    return _parse(value, _FLOPS, "an arithmetic rate", "e.g. 989TFLOP/s, 1.98PFLOPS, or a number of FLOP/s")


def parse_power(value: float | int | str) -> float:
    """Watts, from a number or ``700 W``, ``1.2 kW``; raises ``ValueError``."""
    return _parse(value, _POWER, "a power", "e.g. 700W, 1.2kW, or a number of watts")


def _schema(example: str) -> WithJsonSchema:
    quantity: dict[str, Any] = {
        "anyOf": [{"type": "number", "minimum": 0}, {"type": "string"}],
        "examples": [example],
    }
    return WithJsonSchema(quantity)


Duration = Annotated[float, BeforeValidator(parse_duration), _schema("500ms")]
"""A pydantic field in seconds that also takes ``500ms``."""

Bandwidth = Annotated[float, BeforeValidator(parse_bandwidth), _schema("400Gb/s")]
"""A pydantic field in bytes/s that also takes ``400Gb/s`` and ``50 GB/s``."""

Size = Annotated[float, BeforeValidator(parse_bytes), _schema("4GiB")]
"""A pydantic field in bytes that also takes ``4GiB``."""
