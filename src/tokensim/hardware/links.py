"""Links by name (``links.yaml``), and what ``cluster.network`` of a scenario makes of those of a device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from tokensim import fast_yaml
from tokensim.errors import InputError, nearest
from tokensim.hardware.base import Device, Link
from tokensim.scenario.network import GivenLink, GivenPort, NodeNetwork
from tokensim.scenario.units import parse_bandwidth, parse_duration

FILE = Path(__file__).parent / "links.yaml"


@dataclass(frozen=True, slots=True)
class LinkPreset:
    """A named link: ``link.shared`` marks the whole port of a server here, not a device's part of it."""

    link: Link
    source: str


@cache
def link_presets() -> Mapping[str, LinkPreset]:
    """All named links."""
    data: dict[str, Any] = fast_yaml.load(FILE.read_text(encoding="utf-8"))
    sources = data.pop("sources")
    return {
        key: LinkPreset(
            Link(
                fields["name"],
                parse_bandwidth(fields["bandwidth"]),
                parse_duration(fields["latency"]),
                direct=fields.get("direct", False),
                shared=fields.get("per") == "node",
            ),
            sources[fields["source"]],
        )
        for key, fields in data.items()
    }


def with_network(device: Device, network: NodeNetwork, where: str) -> Device:
    """``device`` with the links that ``network`` gives in place of its own.

    Raises ``InputError`` for a preset that is not known; ``where`` is the section's place.
    """
    changed: dict[str, Any] = {
        field: _changed(getattr(device, field), given, device.devices_per_node, f"{where}.{key}")
        for key, field in (("intra_node", "intra_node"), ("inter_node", "inter_node"), ("host", "host_link"))
        if (given := getattr(network, key)) is not None
    }
    return replace(device, **changed) if changed else device


def _changed(own: Link, given: GivenLink, devices_per_node: int, where: str) -> Link:
    """``own`` with what is ``given`` in its place; a port that a node shares is given whole."""
    part = devices_per_node if own.shared else 1
    base = replace(own, bandwidth_bytes_per_s=own.bandwidth_bytes_per_s * part)
    if given.preset is not None:
        presets = link_presets()
        if given.preset not in presets:
            raise InputError(
                f"unknown link '{given.preset}'",
                where=f"{where}.preset",
                hint=nearest(given.preset, presets) + "; or give bandwidth and latency",
            )
        base = presets[given.preset].link
    shared = base.shared
    if isinstance(given, GivenPort):
        shared = base.shared if given.per is None else given.per == "node"
    elif shared:
        raise InputError(
            f"'{given.preset}' is a port that the devices of a node share",
            where=f"{where}.preset",
            hint="it leads to other nodes: give it as inter_node",
        )
    bandwidth = base.bandwidth_bytes_per_s if given.bandwidth is None else given.bandwidth
    return Link(
        base.name if given.bandwidth is None else f"{bandwidth * 8 / 1e9:g} Gb/s",
        bandwidth / (devices_per_node if shared else 1),
        base.latency_s if given.latency is None else given.latency,
        direct=base.direct,
        shared=shared,
        efficiency=base.efficiency if given.efficiency is None else given.efficiency,
    )
