"""Numbers as a person reads them in a narrow table: three significant digits and a unit that fits."""

from __future__ import annotations

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
    return f"${usd:,.2f}" if abs(usd) >= 0.995 or usd == 0 else f"${usd:.3g}"


def volume(bytes_: float) -> str:
    """``bytes_`` with a decimal unit: ``512 B``, ``3.21 GB``."""
    for unit, scale in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if bytes_ >= scale:
            return f"{bytes_ / scale:.3g} {unit}"
    return f"{bytes_:.0f} B"


def _three(value: float) -> str:
    """At least three significant digits, all digits before the point, thousands apart."""
    size = abs(value)
    if size >= 99.95:
        return f"{value:,.0f}"
    return f"{value:.1f}" if size >= 9.995 else f"{value:.2f}" if size >= 0.1 else f"{value:.3g}"
