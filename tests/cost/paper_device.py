"""Devices with round numbers, so that tests can be worked out by hand."""

from __future__ import annotations

from dataclasses import replace

from tokensim.hardware import Device, Efficiency, Link

ROUND = Device(
    id="round",
    name="Round numbers",
    vendor="nobody",
    kind="gpu",
    architecture="paper",
    memory_bytes=100e9,
    memory_bandwidth_bytes_per_s=1e12,
    flops={"bfloat16": 1e14, "fp8": 2e14},
    intra_node=Link("mesh", 100e9, 1e-6, direct=True),
    inter_node=Link("network", 10e9, 10e-6),
    devices_per_node=8,
    tdp_w=100.0,
    idle_w=10.0,
    price_per_hour_usd=1.0,
    efficiency=Efficiency(1.0, 1.0, 1.0, 0.0, "perfect"),
)


def round_device(**changes: object) -> Device:
    return replace(ROUND, **changes)  # type: ignore[arg-type]
