"""Quantities with units: what they mean, and what is refused."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokensim.scenario.units import (
    parse_bandwidth,
    parse_bytes,
    parse_duration,
    parse_flops,
    parse_power,
)

Parser = Callable[[float | int | str], float]
PARSERS = [parse_duration, parse_bytes, parse_bandwidth, parse_flops, parse_power]


@pytest.mark.parametrize(
    ("parse", "text", "value"),
    [
        (parse_duration, "500ms", 0.5),
        (parse_duration, "20 us", 20e-6),
        (parse_duration, "20µs", 20e-6),
        (parse_duration, "1.5 s", 1.5),
        (parse_duration, "10min", 600.0),
        (parse_duration, "1 h", 3600.0),
        (parse_duration, "1d", 86400.0),
        (parse_duration, "2", 2.0),
        (parse_duration, 600, 600.0),
        (parse_bytes, "80GB", 80e9),
        (parse_bytes, "80 GiB", 80 * 2**30),
        (parse_bytes, "1 KiB", 1024.0),
        (parse_bytes, "1_000 B", 1000.0),
        (parse_bandwidth, "900 GB/s", 900e9),
        (parse_bandwidth, "3.35TB/s", 3.35e12),
        (parse_bandwidth, "400 Gb/s", 50e9),
        (parse_bandwidth, "400Gbps", 50e9),
        (parse_flops, "989 TFLOP/s", 989e12),
        (parse_flops, "989 TFLOPS", 989e12),
        (parse_flops, "1.98 PFLOP/s", 1.98e15),
        (parse_flops, "3958 TOPS", 3958e12),
        (parse_power, "700 W", 700.0),
        (parse_power, "1.2 kW", 1200.0),
        (parse_power, "1e3", 1000.0),
    ],
)
def test_a_quantity_is_read_in_si(parse: Parser, text: float | int | str, value: float) -> None:
    assert parse(text) == pytest.approx(value, rel=1e-15)


@pytest.mark.parametrize(
    ("parse", "text", "said"),
    [
        (parse_duration, "5 lightyears", "unknown unit 'lightyears'; write e.g. 500ms"),
        (parse_duration, "-1s", "'-1s' is negative; write e.g. 500ms"),
        (parse_duration, "soon", "'soon' is not a duration; write e.g. 500ms"),
        (parse_duration, "", "is not a duration"),
        (parse_duration, "1 2", "unknown unit '2'"),
        (parse_bytes, "80 gb", "unknown unit 'gb'; write e.g. 80GB, 80GiB"),
        (parse_bytes, "80 GB/s", "unknown unit 'GB/s'"),
        (parse_bandwidth, "900 GB", "unknown unit 'GB'; write e.g. 900GB/s"),
        (parse_flops, "989 TB", "write e.g. 989TFLOP/s"),
        (parse_power, "700 kg", "write e.g. 700W"),
    ],
)
def test_a_wrong_quantity_is_refused_and_told_what_is_right(parse: Parser, text: str, said: str) -> None:
    with pytest.raises(ValueError) as refusal:
        parse(text)
    assert said in str(refusal.value)


@pytest.mark.parametrize("parse", PARSERS)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -1, True, None, [1], "1e999 s"])
def test_nothing_but_a_finite_quantity_of_zero_or_more_is_taken(parse: Parser, value: object) -> None:
    with pytest.raises(ValueError, match="write e\\.g\\."):
        parse(value)  # type: ignore[arg-type]


@given(st.floats(min_value=0, max_value=1e300))
def test_a_number_is_si_already(value: float) -> None:
    for parse in PARSERS:
        assert parse(value) == value
        assert parse(repr(value)) == value
