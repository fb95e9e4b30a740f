"""What measures: the interface between a session and a device, and what a device says of itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from tokensim.profiling.shapes import Shape


class Unmeasurable(Exception):
    """A shape cannot be measured on this device; the text says why."""


class DeviceLost(Exception):
    """The device measures nothing any more, until the process is started anew; the text says why. What was
    measured before holds."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """The time of one call: the median of ``samples`` after ``rejected`` outliers.

    ``spread``: the samples' relative standard deviation (from their median absolute deviation); ``noise``:
    the relative standard error of the median. ``hot_seconds``: with all operands in the device's cache, where
    that was measured. ``clock_mhz``: the device's clock just after, where it says so. ``cost_s``: what the
    measurement took.
    """

    seconds: float
    spread: float
    noise: float
    samples: int
    rejected: int = 0
    hot_seconds: float | None = None
    clock_mhz: float | None = None
    cost_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Facts:
    """A device: ``slug`` names it in files, ``memory_bytes`` is its own, ``cache_bytes`` its last-level
    cache.

    ``dtypes`` are the tables' names of the formats that it multiplies, with the reason why for those that it
    does not in ``lacking``. ``kernels`` names what runs each kind of operator; ``provenance`` is everything
    else that a reader of the tables may want to know. ``identity`` changes when measurements would not be
    comparable any more: device, driver, libraries.
    """

    slug: str
    name: str
    vendor: str
    kind: str  # gpu | cpu
    architecture: str
    memory_bytes: float
    cache_bytes: float
    devices: int
    tdp_w: float
    tdp_source: str
    dtypes: tuple[str, ...]
    lacking: Mapping[str, str] = field(default_factory=dict)
    kernels: Mapping[str, str] = field(default_factory=dict)
    provenance: Mapping[str, str] = field(default_factory=dict)
    identity: str = ""
    version: str = ""


@dataclass(frozen=True, slots=True)
class Rates:
    """What the device reaches, measured: FLOP/s by compute dtype, bytes/s of its memory, seconds of the
    shortest kernel in a row of kernels, seconds that the host takes to launch one, and links as (name,
    bytes/s, seconds of the smallest transfer). None: there is no such link, or it was not measured.
    ``failed``: what could not be measured, and why."""

    flops: Mapping[str, float]
    memory_bytes_per_s: float
    kernel_s: float
    launch_s: float
    host_link: tuple[str, float, float] | None = None
    peer_link: tuple[str, float, float] | None = None
    failed: Mapping[str, str] = field(default_factory=dict)


class Bench(Protocol):
    """A device that measures."""

    facts: Facts

    def rates(self) -> Rates:
        """What the device reaches; measured in a few seconds at the first call."""
        ...

    def measure(self, shape: Shape) -> Measurement:
        """Time one shape; raises ``Unmeasurable``, and ``DeviceLost``."""
        ...

    def throttled(self) -> Mapping[str, int]:
        """Reasons for which clocks were held down so far, and how often they were seen."""
        ...
