"""A device times the factors of a pool's ``scale``."""

from __future__ import annotations

from dataclasses import replace

from tokensim.hardware.base import Device, Link
from tokensim.scenario.scale import Scale


def with_scale(device: Device, scale: Scale) -> Device:
    """``device`` times ``scale``: the very same object if that changes nothing of it. Latencies, price,
    power and the shares of peaks that kernels reach stay."""
    changed = {name: value for name, value in scale.changed().items() if name != "host"}
    if not changed:
        return device
    return replace(
        device,
        name=f"{device.name} ({', '.join(f'{name} × {value:g}' for name, value in changed.items())})",
        flops={dtype: rate * scale.compute for dtype, rate in device.flops.items()},
        memory_bandwidth_bytes_per_s=device.memory_bandwidth_bytes_per_s * scale.bandwidth,
        memory_bytes=device.memory_bytes * scale.memory,
        intra_node=_faster(device.intra_node, scale.intra_node),
        inter_node=_faster(device.inter_node, scale.inter_node),
        host_link=_faster(device.host_link, scale.host_link),
        sources={**device.sources, **dict.fromkeys(changed, "scale of the pool")},
    )


def _faster(link: Link, by: float) -> Link:
    return replace(link, bandwidth_bytes_per_s=link.bandwidth_bytes_per_s * by)
