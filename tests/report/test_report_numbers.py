from __future__ import annotations

import pytest

from tokensim.report.numbers import count, duration, energy, money, share, volume


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (0.0, "0 s"),
        (4.2e-6, "4.20 us"),
        (0.0123, "12.3 ms"),
        (0.05, "50.0 ms"),
        (0.99949, "999 ms"),
        (0.9996, "1.00 s"),
        (12.345, "12.3 s"),
        (99.96, "100 s"),
        (86400.0, "86,400 s"),
    ],
)
def test_durations_keep_three_digits_in_a_unit_that_fits(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (0, "0"),
        (19.84, "19.8"),
        (0.457, "0.457"),
        (9.996, "10.0"),
        (3.0000000001, "3"),
        (0.0123, "0.0123"),
        (1234567.8, "1,234,568"),
    ],
)
def test_counts_keep_whole_numbers_whole(value: float | None, text: str) -> None:
    assert count(value) == text


def test_shares_and_money_read_as_people_write_them() -> None:
    assert (share(0.12345), share(None)) == ("12.3 %", "-")
    assert [money(v) for v in (None, 0.0, 0.04213, 0.2, 0.996, 1234.5)] == [
        "-",
        "$0.00",
        "$0.0421",
        "$0.200",
        "$1.00",
        "$1,234.50",
    ]


def test_energy_is_in_watt_hours_below_a_kilowatt_hour() -> None:
    told = [energy(kwh) for kwh in (None, 0.0, 0.000556, 0.0455, 0.9996, 12.0)]
    assert told == ["-", "0 Wh", "0.556 Wh", "45.5 Wh", "1.00 kWh", "12.0 kWh"]


@pytest.mark.parametrize(
    ("bytes_", "text"),
    [(0.0, "0 B"), (512.0, "512 B"), (1.5e3, "1.50 kB"), (3.214e9, "3.21 GB"), (2e12, "2 TB")],
)
def test_volumes_have_a_decimal_unit(bytes_: float, text: str) -> None:
    assert volume(bytes_) == text
