"""Every device of the catalog: complete, plausible, and with a source for each number."""

from __future__ import annotations

import pytest
import yaml

from tokensim.hardware import catalog_names, load_device
from tokensim.hardware.loading import ALIASES, CATALOG

SOURCED = {
    "flops",
    "memory",
    "memory_bandwidth",
    "intra_node",
    "inter_node",
    "host_link",
    "devices_per_node",
    "tdp",
    "idle_power",
    "price_per_hour_usd",
}
ALIAS_OF = yaml.safe_load((CATALOG / f"{ALIASES}.yaml").read_text(encoding="utf-8"))

ASKED_FOR = [
    "v100-sxm-16gb",
    "v100-sxm-32gb",
    "t4-16gb",
    "a10-24gb",
    "a40-48gb",
    "a100-sxm-40gb",
    "a100-sxm-80gb",
    "a100-pcie-40gb",
    "a100-pcie-80gb",
    "l4-24gb",
    "l40s-48gb",
    "rtx-3090-24gb",
    "rtx-4090-24gb",
    "rtx-5090-32gb",
    "rtx-pro-6000-96gb",
    "h100-sxm-80gb",
    "h100-pcie-80gb",
    "h100-nvl-94gb",
    "h200-sxm-141gb",
    "h20-96gb",
    "b200",
    "b300",
    "gb200",
    "gb300",
    "mi250x",
    "mi300x",
    "mi325x",
    "mi355x",
    "tpu-v4",
    "tpu-v5e",
    "tpu-v5p",
    "tpu-v6e",
    "trainium2",
    "gaudi2",
    "gaudi3",
    "sapphire-rapids",
    "gddr6-aim",
    "hbm-pim",
    "upmem",
]


@pytest.mark.parametrize("name", catalog_names())
def test_every_device_is_plausible_and_every_number_has_a_source(name: str) -> None:
    device = load_device(name)
    assert device.id == name
    assert set(device.sources) == SOURCED
    assert all(len(text) > 10 for text in (*device.sources.values(), device.efficiency.source))
    assert 10e9 < device.memory_bytes < 1e12
    assert 100e9 < device.memory_bandwidth_bytes_per_s < (20e12 if device.kind == "pim" else 10e12)
    assert 0 <= device.idle_w < device.tdp_w
    # outside processing-in-memory, a device does more than 10 operations for each byte that it reads
    balance = max(device.flops.values()) / device.memory_bandwidth_bytes_per_s
    assert balance > 10 or device.kind == "pim"
    # peaks are dense: halving the bits at most doubles the rate (fp4 of Blackwell Ultra and GeForce: more)
    sixteen = max((device.flops[d] for d in ("bfloat16", "float16") if d in device.flops), default=0.0)
    assert device.flops.get("fp8", 0.0) <= 2.05 * sixteen
    assert 10e9 < device.host_link.bandwidth_bytes_per_s < device.memory_bandwidth_bytes_per_s
    assert device.intra_node.bandwidth_bytes_per_s < device.memory_bandwidth_bytes_per_s


@pytest.mark.parametrize("name", ASKED_FOR)
def test_the_devices_that_people_ask_for_are_there(name: str) -> None:
    assert load_device(name).id in catalog_names()


def test_aliases_point_at_devices_and_hide_none() -> None:
    names = set(catalog_names())
    assert set(ALIAS_OF.values()) <= names
    assert not set(ALIAS_OF) & names


def test_the_catalog_has_at_least_36_devices() -> None:
    assert len(catalog_names()) >= 36


def test_h100_as_published() -> None:
    device = load_device("h100-sxm-80gb")
    assert device.flops["bfloat16"] == pytest.approx(989.4e12)
    assert device.memory_bandwidth_bytes_per_s == pytest.approx(3.35e12)
    assert device.memory_bytes == pytest.approx(79.18 * 2**30)
    assert device.intra_node.bandwidth_bytes_per_s == pytest.approx(450e9)
    assert device.tdp_w == 700
