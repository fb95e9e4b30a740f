"""Reads the fields of a device, as YAML or a mapping has them, and refuses what they cannot be."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from tokensim.errors import InputError, nearest
from tokensim.hardware.base import Efficiency, Link
from tokensim.hardware.draw import DRAW, Draw
from tokensim.scenario.units import parse_bandwidth, parse_duration, parse_flops

COMPUTE_DTYPES = ("float32", "tf32", "bfloat16", "float16", "fp8", "fp4", "int8")

PROFILE_SOURCES = ("aiconfigurator", "llmservingsim", "vidur", "tokensim")
"""Sources of measured operator times that name devices (``tokensim``: our own format)."""

Parser = Callable[[Any], float]


def plain_number(value: Any) -> float:
    """A plain number ≥ 0."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise ValueError(f"{value!r} is not a number of 0 or more")
    return float(value)


class Reader:
    """Reads the fields of one device and refuses what they cannot be."""

    def __init__(self, fields: Mapping[str, Any], where: str) -> None:
        self.fields = fields
        self.where = where

    def text(self, key: str) -> str:
        """A text that is not empty."""
        return self._text(self.fields[key], key)

    def quantity(self, key: str, parse: Parser) -> float:
        """A quantity of 0 or more."""
        return self._quantity(self.fields[key], key, parse)

    def positive(self, key: str, parse: Parser) -> float:
        """A quantity above 0."""
        return self._positive(self.fields[key], key, parse)

    def count(self, key: str) -> int:
        """A whole number of at least 1."""
        value = self.fields[key]
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise self._refuse(key, f"{value!r} is not a whole number of at least 1")
        return value

    def mapping(
        self, key: str, known: tuple[str, ...] = (), optional: tuple[str, ...] = ()
    ) -> Mapping[str, Any]:
        """A nested mapping with all ``known`` keys, some ``optional`` ones and no others (any, if none are
        given)."""
        value = self.fields[key]
        if not isinstance(value, Mapping):
            raise self._refuse(key, f"{value!r} is not a mapping")
        allowed = (*known, *optional)
        for name in value if known else ():
            if name not in allowed:
                raise InputError(
                    f"unknown key '{key}.{name}'", where=self.where, hint=nearest(str(name), allowed)
                )
        missing = [name for name in known if name not in value]
        if missing:
            raise self._refuse(key, "missing " + ", ".join(f"'{key}.{name}'" for name in missing))
        return value

    def flops(self) -> dict[str, float]:
        """Peak rates by compute dtype, at least one."""
        rates = self.mapping("flops")
        for dtype in rates:
            if dtype not in COMPUTE_DTYPES:
                hint = nearest(str(dtype), COMPUTE_DTYPES)
                raise InputError(f"unknown dtype 'flops.{dtype}'", where=self.where, hint=hint)
        if not rates:
            raise self._refuse("flops", "no dtype is given; known: " + ", ".join(COMPUTE_DTYPES))
        return {dtype: self._positive(rate, f"flops.{dtype}", parse_flops) for dtype, rate in rates.items()}

    def profiles(self) -> dict[str, str]:
        """The device's names in sources of measured times; none if the key is absent."""
        if "profiles" not in self.fields:
            return {}
        names = self.mapping("profiles")
        for source in names:
            if source not in PROFILE_SOURCES:
                raise InputError(
                    f"unknown key 'profiles.{source}'",
                    where=self.where,
                    hint=nearest(str(source), PROFILE_SOURCES),
                )
        return {source: self._text(name, f"profiles.{source}") for source, name in names.items()}

    def link(self, key: str) -> Link:
        """A link with bandwidth and latency."""
        known = ("direct", "shared") if key == "inter_node" else ("direct",)
        fields = self.mapping(key, ("name", "bandwidth", "latency"), (*known, "efficiency"))
        flags = {name: fields.get(name, False) for name in known}
        for name, flag in flags.items():
            if not isinstance(flag, bool):
                raise self._refuse(f"{key}.{name}", f"{flag!r} is not true or false")
        share = fields.get("efficiency")
        return Link(
            name=self._text(fields["name"], f"{key}.name"),
            bandwidth_bytes_per_s=self._positive(fields["bandwidth"], f"{key}.bandwidth", parse_bandwidth),
            latency_s=self._quantity(fields["latency"], f"{key}.latency", parse_duration),
            efficiency=None if share is None else self._share(share, f"{key}.efficiency"),
            **flags,
        )

    def efficiency(self) -> Efficiency:
        """Shares between 0 (excluded) and 1."""
        shares: tuple[str, ...] = ("gemm", "attention", "memory")
        low = "gemm_low_precision"
        fields = self.mapping("efficiency", (*shares, "kernel_overhead", "source"), (low,))
        if low in fields:
            shares = (*shares, low)
        values = {share: self._share(fields[share], f"efficiency.{share}") for share in shares}
        return Efficiency(
            **values,
            kernel_overhead_s=self._quantity(
                fields["kernel_overhead"], "efficiency.kernel_overhead", parse_duration
            ),
            source=self._text(fields["source"], "efficiency.source"),
        )

    def draw(self) -> Draw:
        """Shares of the power above idle; those of ``DRAW`` where the device has none of its own."""
        if "draw" not in self.fields:
            return DRAW
        shares = ("busy", "compute", "memory", "network")
        fields = self.mapping("draw", (*shares, "source"))
        return Draw(
            **{name: self._quantity(fields[name], f"draw.{name}", plain_number) for name in shares},
            source=self._text(fields["source"], "draw.source"),
        )

    def _text(self, value: Any, key: str) -> str:
        if not isinstance(value, str) or not value.strip():
            raise self._refuse(key, f"{value!r} is not a text")
        return value

    def _quantity(self, value: Any, key: str, parse: Parser) -> float:
        try:
            return parse(value)
        except ValueError as error:
            raise self._refuse(key, str(error)) from None

    def _positive(self, value: Any, key: str, parse: Parser) -> float:
        number = self._quantity(value, key, parse)
        if number <= 0:
            raise self._refuse(key, f"{value!r} must be above 0")
        return number

    def _share(self, value: Any, key: str) -> float:
        number = self._positive(value, key, plain_number)
        if number > 1:
            raise self._refuse(key, f"{number} is above 1")
        return number

    def _refuse(self, key: str, problem: str) -> InputError:
        return InputError(f"{key}: {problem}", where=self.where)
