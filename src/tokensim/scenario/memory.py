"""The ``memory`` section: the granularity of the device's KV pool, and the tiers of memory behind it.

Defaults of bandwidth and latency stand here with their sources; what depends on the device or on the engine
is worked out, or refused, where an instance's tiers are made (``engine/tier_setup.py``).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tokensim.scenario.section import Count, Flag, Name, Section, refused
from tokensim.scenario.units import Bandwidth, Duration, Size

TierKind = Literal["host", "ssd", "remote", "cxl"]

OWN_BANDWIDTH: dict[str, tuple[float, float]] = {
    "ssd": (13e9, 6.6e9),
    "cxl": (17.8e9, 17.8e9),
}
"""Bytes/s that are read from and written to a tier, whatever lies between it and the device; kinds that are
not here have no limit of their own by default. ``ssd``: sequential read and write of a Samsung PM1743 (PCIe
5.0; Samsung's announcement of 23 December 2021). ``cxl``: reads from a CXL 2.0 expander on PCIe 5.0 x8, as
measured for CacheLib (wiki of intel/CacheLib, "OCP demo configuration", 2023)."""

LATENCY_S: dict[str, float] = {"ssd": 82e-6, "cxl": 250e-9}
"""Seconds that a copy takes beside its bytes; kinds that are not here take the latency of their link.
``ssd``: of a read from a D7-P5510 (Intel's specification); ``cxl``: as above."""


class MemoryTier(Section):
    """One tier of memory behind the device."""

    kind: TierKind
    """What it is: memory of the host, an SSD, a pool over the network, or CXL memory."""
    name: Name | None = None
    """For reports; pools of the cluster that give a shared tier one name share it. null: its kind."""
    capacity: Annotated[Size, Field(gt=0)]
    """How much KV it holds: of each instance, or in all if it is shared."""
    shared: Flag = False
    """One store for all instances, in place of one each."""
    bandwidth: Annotated[Bandwidth, Field(gt=0)] | None = None
    """What can be read from it, by all who share it together; null: as an SSD, a CXL module, or no limit."""
    write_bandwidth: Annotated[Bandwidth, Field(gt=0)] | None = None
    """Likewise, writing; null: as `bandwidth`, if that is given."""
    latency: Duration | None = None
    """Of one copy; null: an SSD's, a CXL module's, else that of the device's link to host or network."""
    latency_per_block: Duration = 0.0
    """What each block adds to it."""
    direct: Flag = False
    """Whether copies bypass the link between device and host (GPUDirect)."""
    policy: Name = "lru"
    """What goes first when it is full: lru, lfu, fifo, cost-aware, or a plug-in's."""
    write: Literal["through", "back"] = "through"
    """Whether KV is copied there when it is computed, or when the tier above evicts it."""
    block_tokens: Count | None = None
    """Tokens in one of its blocks; null: engine.block_size."""
    granularity: Literal["block", "token", "contiguous"] = "block"
    """What goes as one: a block, a token, or all that was last used together (a whole request)."""
    max_in_flight: Annotated[Size, Field(gt=0)] | None = None
    """Copies to it that would wait behind as much as this are not made; null: all are made."""

    @property
    def label(self) -> str:
        """Its name, or else its kind."""
        return self.name or self.kind

    @model_validator(mode="after")
    def _parts_agree(self) -> MemoryTier:
        if self.granularity == "token" and self.block_tokens not in (None, 1):
            raise refused(
                f"granularity is token, but block_tokens is {self.block_tokens}",
                "leave out one of the two",
            )
        own = self.bandwidth is not None or self.kind in OWN_BANDWIDTH
        if self.write_bandwidth is not None and not own:
            raise refused("write_bandwidth is given without a bandwidth", "give bandwidth too")
        if self.direct and self.kind in ("host", "cxl") and not own:
            raise refused(
                f"a {self.kind} tier that bypasses the link to the host has no link at all",
                "give its bandwidth, or leave out direct",
            )
        return self


class Memory(Section):
    """Memory of each instance for KV, beside what `engine` says of it."""

    granularity: Literal["block", "token", "contiguous"] = "block"
    """What the device gives a request: blocks of engine.block_size, single tokens, or max_model_len."""
    tiers: list[MemoryTier] = Field(default_factory=list)
    """Tiers behind the device, the fastest first."""
    load: Literal["async", "overlap"] = "async"
    """Whether a request waits until its KV has come, or runs at once, layer by layer as it comes."""
    decide: Literal["always", "faster", "never"] = "always"
    """When KV in a tier is loaded: always, where computing it is predicted to take longer, or never."""

    @model_validator(mode="after")
    def _tiers_agree(self) -> Memory:
        names = [tier.label for tier in self.tiers]
        for index, tier in enumerate(self.tiers):
            if tier.label in names[:index]:
                raise refused(
                    f"tiers {names.index(tier.label)} and {index} are both named {tier.label!r}",
                    "give each tier a name of its own",
                )
            if index and self.tiers[index - 1].shared and not tier.shared:
                raise refused(
                    f"tier {tier.label!r} is not shared, but stands below {names[index - 1]!r}, which is",
                    "put shared tiers last, or share both",
                )
        if self.tiers and self.granularity == "contiguous":
            raise refused(
                "tiers need KV in blocks, but granularity is contiguous",
                "granularity block or token, or no tiers",
            )
        return self
