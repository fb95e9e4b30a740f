"""The ``engine.lora`` section: LoRA adapters on top of the model, named as vLLM's flags are.

See ``tokensim.scheduling.local.adapters`` (slots), ``tokensim.model.lora`` (bytes) and ``tokensim.cost.lora``
(time).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from tokensim.scenario.section import Count, Name, Section, refused
from tokensim.scenario.units import parse_bandwidth

Bandwidth = Annotated[
    float,
    BeforeValidator(parse_bandwidth),
    Field(gt=0),
    WithJsonSchema({"anyOf": [{"type": "number", "minimum": 0}, {"type": "string"}], "examples": ["25GB/s"]}),
]

DISK_BANDWIDTH = 3.5e9
"""Bytes/s from disk to host memory: sequential reads by the data sheets of NVMe SSDs on PCIe 3.0 x4."""


class Lora(Section):
    """How many adapters an engine serves together, how large they are, and how they come to the device."""

    max_loras: Count = 1
    """Different adapters in one batch at most: slots on the device."""
    max_lora_rank: Literal[1, 8, 16, 32, 64, 128, 256, 320, 512] = 16
    """Rank that a slot has room for."""
    max_cpu_loras: Count | None = None
    """Adapters kept in host memory; null: max_loras. Others are read from disk."""
    rank: Count | None = None
    """Rank of the adapters, which says how long they take to load; null: max_lora_rank."""
    target_modules: Annotated[list[Name], Field(min_length=1)] | None = None
    """Modules with an adapter: qkv_proj, o_proj, gate_up_proj, down_proj, …; null: all that the model has."""
    host_bandwidth: Bandwidth | None = None
    """From host memory to each device; null: what transfers reach on the device's link to its host."""
    disk_bandwidth: Bandwidth = DISK_BANDWIDTH
    """From disk to host memory."""

    @model_validator(mode="after")
    def _options_agree(self) -> Lora:
        if self.max_cpu_loras is not None and self.max_cpu_loras < self.max_loras:
            raise refused(
                f"max_cpu_loras ({self.max_cpu_loras}) is less than max_loras ({self.max_loras})",
                "every adapter on the device is kept in host memory too",
            )
        if self.rank is not None and self.rank > self.max_lora_rank:
            raise refused(
                f"adapters of rank {self.rank} do not fit into slots of rank {self.max_lora_rank}",
                "raise max_lora_rank",
            )
        return self
