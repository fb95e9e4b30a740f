"""Devices with round numbers, so that tests can be worked out by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tokensim.cost import CompiledStepCost, Host, OperatorCost, Roofline, Setting, build_cost
from tokensim.cost.calibration import Calibration
from tokensim.hardware import Device, Efficiency, Link
from tokensim.model.operators import Operator

NO_HOST = Host(0.0, 0.0, 0.0, asynchronous=False)

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


def compiled(
    operators: Sequence[Operator],
    device: Device = ROUND,
    *,
    host: Host = NO_HOST,
    sources: Sequence[OperatorCost] | None = None,
    calibration: Calibration | None = None,
    graph_sizes: Sequence[int] = (),
) -> CompiledStepCost:
    """The cost of a step of ``operators`` on ``device``, by the roofline unless ``sources`` are given."""
    setting = Setting(device, "a model")
    chosen = [Roofline(setting)] if sources is None else sources
    return build_cost(operators, setting, chosen, host, calibration=calibration, graph_sizes=graph_sizes)
