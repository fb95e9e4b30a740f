"""From a name, a file or a mapping to a device; and what a user reads when it cannot be."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml

from tokensim.errors import InputError
from tokensim.hardware import Device, Draw, catalog_names, load_device
from tokensim.hardware.loading import CATALOG
from tokensim.registry import register

WHERE = "cluster.pools[0].hardware"


def refusal(ref: Any) -> str:
    with pytest.raises(InputError) as error:
        load_device(ref, WHERE)
    return str(error.value)


def test_names_work_in_any_case_and_by_alias() -> None:
    assert load_device("H100-SXM-80GB") is load_device("h100-sxm-80gb")
    assert load_device("rtx-4090").id == "rtx-4090-24gb"


def test_loading_one_device_opens_no_other_file(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    read = Path.read_text

    def spy(self: Path, *args: Any, **kwargs: Any) -> str:
        opened.append(self.name)
        return read(self, *args, **kwargs)

    monkeypatch.setattr(Path, "read_text", spy)
    from tokensim.hardware import loading

    loading._from_catalog.cache_clear()
    load_device("l4-24gb")
    assert opened == ["l4-24gb.yaml"]


def test_an_unknown_name_gets_the_nearest_one() -> None:
    message = refusal("h100-smx-80gb")
    assert message.startswith(f"{WHERE}: unknown device 'h100-smx-80gb'")
    assert "did you mean 'h100-sxm-80gb'" in message


@pytest.mark.parametrize("name", ["aliases", "", "../catalog/l4-24gb", "."])
def test_what_is_no_device_is_unknown(name: str) -> None:
    assert "unknown device" in refusal(name)


def test_a_mapping_on_a_base_changes_what_it_names_and_keeps_the_rest() -> None:
    base = load_device("h100-sxm-80gb")
    device = load_device(
        {"base": "h100-sxm-80gb", "memory_bandwidth": "5 TB/s", "flops": {"fp4": "4 PFLOP/s"}}, WHERE
    )
    assert device.memory_bandwidth_bytes_per_s == 5e12
    assert device.flops == {**base.flops, "fp4": 4e15}
    assert (device.memory_bytes, device.tdp_w, device.efficiency) == (
        base.memory_bytes,
        base.tdp_w,
        base.efficiency,
    )
    assert device.sources["memory_bandwidth"] == f"given in {WHERE}"
    assert device.sources["memory"] == base.sources["memory"]
    assert "fp4" not in load_device("h100-sxm-80gb").flops


def test_plain_numbers_are_si() -> None:
    device = load_device({"base": "l4", "memory": 10e9, "tdp": 50, "intra_node": {"latency": 1e-5}})
    assert (device.memory_bytes, device.tdp_w, device.intra_node.latency_s) == (10e9, 50.0, 1e-5)


def test_a_file_of_ones_own_with_a_base_beside_it(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("base: a100-sxm-80gb\nname: Mine\nmemory: 96 GB\n", encoding="utf-8")
    (tmp_path / "faster.yml").write_text("base: mine.yaml\nmemory_bandwidth: 3 TB/s\n", encoding="utf-8")
    mine, faster = load_device(tmp_path / "mine.yaml"), load_device(str(tmp_path / "faster.yml"))
    assert (mine.name, mine.memory_bytes) == ("Mine", 96e9)
    assert (faster.memory_bytes, faster.memory_bandwidth_bytes_per_s) == (96e9, 3e12)


def test_a_whole_device_inline() -> None:
    fields = yaml.safe_load((CATALOG / "l4-24gb.yaml").read_text(encoding="utf-8"))
    device, known = load_device(fields), load_device("l4-24gb")
    assert device.flops == known.flops
    assert device.efficiency == known.efficiency


@pytest.mark.parametrize(("device", "link"), [("l4-24gb", "PCIe 4.0 x16"), ("h100-sxm-80gb", "PCIe 5.0 x16")])
def test_a_device_that_does_not_say_how_it_reaches_its_host_gets_the_usual_bus(
    device: str, link: str
) -> None:
    fields = yaml.safe_load((CATALOG / f"{device}.yaml").read_text(encoding="utf-8"))
    del fields["host_link"], fields["sources"]["host_link"]
    found = load_device(fields)
    assert found.host_link == load_device(device).host_link
    assert found.host_link.name == link
    assert "not given" in found.sources["host_link"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"memory_bandwith": "3 TB/s"}, "unknown key 'memory_bandwith'\n  did you mean 'memory_bandwidth'"),
        ({"memory": "-3 GB"}, "memory: '-3 GB' is negative"),
        ({"memory": 0}, "memory: 0 must be above 0"),
        ({"memory": "80 GBit"}, "memory: '80 GBit' is not a size"),
        ({"memory_bandwidth": "fast"}, "memory_bandwidth: 'fast'"),
        ({"tdp": float("nan")}, "tdp: nan"),
        ({"tdp": None}, "tdp: None"),
        ({"kind": "toaster"}, "kind is 'toaster'\n  one of gpu, tpu"),
        ({"name": ""}, "name: '' is not a text"),
        ({"devices_per_node": 2.5}, "devices_per_node: 2.5 is not a whole number"),
        ({"devices_per_node": 0}, "devices_per_node: 0 is not a whole number of at least 1"),
        ({"price_per_hour_usd": "cheap"}, "price_per_hour_usd: 'cheap' is not a number"),
        ({"flops": {"bf16": "3 TFLOP/s"}}, "unknown dtype 'flops.bf16'\n  did you mean 'bfloat16'"),
        ({"flops": {"fp8": "-1 TFLOP/s"}}, "flops.fp8: '-1 TFLOP/s' is negative"),
        ({"flops": 3}, "flops: 3 is not a mapping"),
        ({"efficiency": {"gemm": 1.5}}, "efficiency.gemm: 1.5 is above 1"),
        ({"efficiency": {"gem": 0.5}}, "unknown key 'efficiency.gem'\n  did you mean 'gemm'"),
        ({"intra_node": {"direct": "yes"}}, "intra_node.direct: 'yes' is not true or false"),
        ({"inter_node": {"shared": 1}}, "inter_node.shared: 1 is not true or false"),
        ({"intra_node": {"shared": True}}, "unknown key 'intra_node.shared'"),
        ({"host_link": {"bandwidth": "0 GB/s"}}, "host_link.bandwidth: '0 GB/s' must be above 0"),
        ({"host_link": {"efficiency": 2}}, "host_link.efficiency: 2.0 is above 1"),
        ({"base": 7}, "base is 7"),
        ({"base": "h1000"}, "unknown device 'h1000'"),
    ],
)
def test_impossible_fields_are_refused_with_key_and_value(change: dict[str, Any], says: str) -> None:
    message = refusal({"base": "h100-sxm-80gb", **change})
    assert message.startswith(WHERE)
    assert says in message


def test_missing_keys_are_all_named() -> None:
    message = refusal({"name": "x", "memory": "80 GB"})
    assert "missing 'vendor', 'kind'" in message
    assert "base: h100-sxm-80gb" in message


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "no such device file"),
        (b"\xff\xfe\x00binary", "cannot read the device file"),
        (b"a: [1", "is not YAML"),
        (b"- 1\n- 2\n", "holds no mapping"),
        (b"", "holds no mapping"),
    ],
)
def test_unreadable_files_are_named(tmp_path: Path, content: bytes | None, says: str) -> None:
    file = tmp_path / "device.yaml"
    if content is not None:
        file.write_bytes(content)
    message = refusal(str(file))
    assert says in message
    assert str(file) in message


def test_a_registered_device_wins_over_the_catalog(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = load_device({"base": "l4", "name": "Mine"})
    monkeypatch.setitem(register.device._parts, "l4-24gb", mine)
    monkeypatch.setitem(register.device._parts, "my-chip", lambda: mine)
    monkeypatch.setitem(register.device._parts, "broken", lambda: 3)
    assert load_device("L4-24GB").name == "Mine"
    assert load_device("my-chip") is mine
    assert "my-chip" in catalog_names()
    assert "gave a int" in refusal("broken")


def test_a_device_is_taken_as_it_is() -> None:
    device = load_device("l4")
    assert isinstance(device, Device)
    assert load_device(device) is device


def test_devices_of_the_measured_cases_resolve(shared: Path) -> None:
    cases = sorted((shared / "groundtruth").glob("*/case.yaml"))
    if not cases:
        pytest.skip("no measured cases beside the repository")
    for case in cases:
        scenario = yaml.safe_load(case.read_text(encoding="utf-8"))["scenario"]
        for pool in scenario["cluster"]["pools"]:
            load_device(pool["hardware"], str(case))


def test_a_device_draws_as_it_says() -> None:
    own = Draw(busy=0.2, compute=0.8, memory=0.3, network=0.1, source="a power meter in the rack")
    assert load_device({"base": "l4", "draw": dataclasses.asdict(own)}).draw == own
    changed = load_device({"base": "l4", "draw": {"memory": 0.9}})
    assert (changed.draw.memory, changed.draw.compute) == (0.9, load_device("l4").draw.compute)


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        ({"memory": -1}, "draw.memory: -1 is not a number of 0 or more"),
        ({"memry": 1}, "unknown key 'draw.memry'\n  did you mean 'memory'"),
        ({"source": ""}, "draw.source: '' is not a text"),
    ],
)
def test_a_draw_that_cannot_be_is_refused(draw: dict[str, object], message: str) -> None:
    with pytest.raises(InputError) as error:
        load_device({"base": "l4", "draw": draw})
    assert message in str(error.value)
