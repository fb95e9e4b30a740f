"""Engine versions: which are modelled, and since when an option exists.

Decisions of vLLM 0.19.0, 0.23.0 and 0.33.0 were recorded from the real scheduler. The first two decide alike,
and what lies between them is taken to; where between 0.23 and 0.33 each rule changed is not known, so those
versions are refused rather than guessed.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from tokensim.scenario.section import refused


class Version(NamedTuple):
    """``major.minor.patch``, ordered."""

    major: int
    minor: int
    patch: int

    def __str__(self) -> str:
        return ".".join(map(str, self))


MODELLED: tuple[tuple[Version, Version], ...] = (
    (Version(0, 19, 0), Version(0, 24, 0)),
    (Version(0, 33, 0), Version(0, 34, 0)),
)
"""From (included) and to (excluded)."""

VERSIONED_OPTIONS: dict[str, Version] = {
    "watermark": Version(0, 33, 0),
    "prefill_schedule_interval": Version(0, 33, 0),
    "max_num_active_seqs": Version(0, 33, 0),
    "long_prefill_token_threshold_adaptive": Version(0, 33, 0),
}
"""The first modelled version that has the option (vLLM's config/scheduler.py of the three versions)."""


def parse_version(text: str) -> Version:
    """``"0.33.0"`` → ``Version(0, 33, 0)``; refuses what is no version, or not a modelled one."""
    match = re.fullmatch(r"v?(\d+)\.(\d+)(?:\.(\d+))?", text)
    if match is None:
        raise refused(f"{text!r} is not a version", 'e.g. "0.33.0"')
    version = Version(int(match[1]), int(match[2]), int(match[3] or 0))
    if not any(start <= version < end for start, end in MODELLED):
        raise refused(
            f"the scheduling rules of vLLM {version} are not modelled",
            "modelled: 0.19 to 0.23, and 0.33; take the nearest",
        )
    return version
