"""Named links, and what the network of a scenario makes of the links of its devices."""

from __future__ import annotations

from typing import Any

import pytest

from tokensim.errors import InputError
from tokensim.hardware import load_device
from tokensim.hardware.base import Device
from tokensim.hardware.links import link_presets, with_network
from tokensim.scenario.network import NodeNetwork

H100 = load_device("h100-sxm-80gb")
L4 = load_device("l4-24gb")


def changed(device: Device, **links: Any) -> Device:
    return with_network(device, NodeNetwork.model_validate(links), "cluster.network")


@pytest.mark.parametrize("name", link_presets())
def test_every_named_link_is_plausible_and_has_a_source(name: str) -> None:
    preset = link_presets()[name]
    assert len(preset.source) > 30
    assert 1e9 < preset.link.bandwidth_bytes_per_s < 1e12
    assert 0.1e-6 < preset.link.latency_s < 100e-6
    assert preset.link.shared == name.startswith("ethernet")


@pytest.mark.parametrize(
    ("preset", "device"),
    [
        ("nvlink-2", "v100-sxm-16gb"),
        ("nvlink-3", "a100-sxm-80gb"),
        ("nvlink-4", "h100-sxm-80gb"),
        ("nvlink-5", "b200-sxm-180gb"),
        ("infinity-fabric-4", "mi300x-192gb"),
        ("pcie-4x16", "l4-24gb"),
        ("pcie-5x16", "h100-pcie-80gb"),
    ],
)
def test_named_links_and_devices_of_the_catalog_agree(preset: str, device: str) -> None:
    assert link_presets()[preset].link == load_device(device).intra_node


def test_nothing_given_changes_nothing() -> None:
    assert changed(H100) is H100


def test_a_name_stands_for_a_whole_link() -> None:
    device = changed(H100, intra_node="pcie-4x16", inter_node="infiniband-hdr-200", host="pcie-4x16")
    assert (device.intra_node.bandwidth_bytes_per_s, device.intra_node.direct) == (31.5e9, False)
    assert (device.inter_node.bandwidth_bytes_per_s, device.inter_node.shared) == (25e9, False)
    assert device.host_link.name == "PCIe 4.0 x16"


def test_a_port_of_a_node_is_divided_among_its_devices() -> None:
    device = changed(H100, inter_node="ethernet-100")
    assert (device.inter_node.bandwidth_bytes_per_s, device.inter_node.shared) == (12.5e9 / 8, True)
    one_each = changed(H100, inter_node={"preset": "ethernet-100", "per": "device"})
    assert (one_each.inter_node.bandwidth_bytes_per_s, one_each.inter_node.shared) == (12.5e9, False)


def test_what_is_not_given_stays_as_the_hardware_has_it() -> None:
    device = changed(H100, inter_node={"bandwidth": "200Gb/s"}, intra_node={"latency": "2us"})
    assert device.inter_node.bandwidth_bytes_per_s == 25e9
    assert device.inter_node.latency_s == H100.inter_node.latency_s
    assert device.intra_node.latency_s == 2e-6
    assert (device.intra_node.bandwidth_bytes_per_s, device.intra_node.direct) == (450e9, True)
    faster = changed(L4, inter_node={"bandwidth": "200Gb/s"})
    assert (faster.inter_node.bandwidth_bytes_per_s, faster.inter_node.shared) == (25e9 / 8, True)
    nearer = changed(L4, inter_node={"latency": "5us"})
    assert nearer.inter_node.bandwidth_bytes_per_s == pytest.approx(L4.inter_node.bandwidth_bytes_per_s)


def test_a_port_of_a_node_is_no_link_between_its_devices() -> None:
    with pytest.raises(InputError, match="a port that the devices of a node share"):
        changed(H100, intra_node="ethernet-100")


def test_an_unknown_name_gets_the_nearest_one() -> None:
    with pytest.raises(InputError, match="did you mean 'infiniband-ndr-400'") as error:
        changed(H100, inter_node="infiniband-ndr-40")
    assert error.value.where == "cluster.network.inter_node.preset"
