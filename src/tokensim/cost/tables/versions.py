"""Versions of engines and libraries: which of the measured ones is nearest to the wanted one."""

from __future__ import annotations

import re
from collections.abc import Iterable

_PARTS = re.compile(r"\d+|[a-z]+")
_RELEASE = 3  # major, minor, patch
_BEFORE = {"rc": -1000, "b": -10_000, "beta": -10_000, "a": -100_000, "alpha": -100_000, "dev": -1_000_000}
"""Pre-releases come before their release: 1.3.0rc20 is just before 1.3.0 (PEP 440)."""


def version_key(version: str) -> tuple[int, ...]:
    """(major, minor, patch, steps after it; negative for a pre-release) of ``1.3.0rc20`` or ``0.5.6.post2``.

    What follows a ``+`` (a local build) is left out.
    """
    parts = _PARTS.findall(version.lower().split("+")[0].removeprefix("v"))
    release: list[int] = []
    after = 0
    for place, part in enumerate(parts):
        if part.isdigit():
            release.append(int(part))
            continue
        number = next((int(p) for p in parts[place + 1 : place + 2] if p.isdigit()), 0)
        after = _BEFORE.get(part, 0) + number
        break
    release = (release + [0] * _RELEASE)[:_RELEASE]
    return (*release, after)


def by_nearness(wanted: str, known: Iterable[str]) -> list[str]:
    """``known`` versions, the nearest to ``wanted`` first; the newest first if ``wanted`` is empty.

    Near is judged by the major version, then the minor, and so on; of two equally near, the newer is first.
    """
    newest = sorted(known, key=version_key, reverse=True)
    if not wanted:
        return newest
    target = version_key(wanted)
    return sorted(
        newest, key=lambda v: tuple(abs(a - b) for a, b in zip(version_key(v), target, strict=True))
    )
