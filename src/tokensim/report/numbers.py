"""Numbers as a person reads them in a narrow table: three significant digits and a unit that fits."""

from __future__ import annotations

from math import floor, log10

NOTHING = "-"
"""What stands where there is no number."""


def duration(seconds: float | None) -> str:
    """``0.0123`` → ``12.3 ms``; None → ``-``."""
    if seconds is None:
        return NOTHING
    size = abs(seconds)
    if size == 0:
        return "0 s"
    if size < 0.9995e-3:
        return f"{_three(seconds * 1e6)} us"
    if size < 0.9995:
        return f"{_three(seconds * 1e3)} ms"
    return f"{_three(seconds)} s"


def setting(seconds: float) -> str:
    """A duration that somebody has set, with no more digits than it has: ``0.05`` → ``50 ms``."""
    number, unit = duration(seconds).split()
    return f"{number.rstrip('0').rstrip('.') if '.' in number else number} {unit}"


def count(value: float | None) -> str:
    """``1234567`` → ``1,234,567``; a small number that is not whole keeps three digits: ``19.8``."""
    if value is None:
        return NOTHING
    return f"{value:,.0f}" if abs(value - round(value)) < 1e-9 * max(abs(value), 1) else _three(value)


def share(value: float | None) -> str:
    """``0.1234`` → ``12.3 %``."""
    if value is None:
        return NOTHING
    return f"{value * 100:.1f} %"


def money(usd: float | None) -> str:
    """``0.04213`` → ``$0.0421``; from a dollar on, cents: ``$1,234.50``."""
    if usd is None:
        return NOTHING
    return f"${usd:,.2f}" if abs(usd) >= 0.995 or usd == 0 else f"${_three(usd)}"


def energy(kwh: float | None) -> str:
    """``0.0455`` → ``45.5 Wh``; from a kilowatt-hour on: ``1.23 kWh``."""
    if kwh is None:
        return NOTHING
    if kwh == 0:
        return "0 Wh"
    return f"{_three(kwh)} kWh" if abs(kwh) >= 0.9995 else f"{_three(kwh * 1e3)} Wh"


def volume(bytes_: float) -> str:
    """``bytes_`` with a decimal unit: ``512 B``, ``3.21 GB``."""
    for unit, scale in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if bytes_ >= scale:
            return f"{count(bytes_ / scale)} {unit}"
    return f"{bytes_:.0f} B"


def _three(value: float) -> str:
    """At least three significant digits, all digits before the point, thousands apart."""
    if abs(value) >= 99.95:
        return f"{value:,.0f}"
    after = 2 - floor(log10(abs(float(f"{value:.2e}")))) if value else 0
    return f"{value:.{after}f}"
