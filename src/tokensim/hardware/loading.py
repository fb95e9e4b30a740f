"""From a reference to a ``Device``: a catalog id, a YAML file, or an inline mapping, checked key by key.

The catalog has one file a device, ``catalog/<id>.yaml``, and ``catalog/aliases.yaml`` with other names for
them; loading a device opens its file alone. A user's file or mapping has the same keys, or ``base:`` and what
differs from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tokensim import fast_yaml
from tokensim.errors import InputError, nearest
from tokensim.hardware.base import PCIE_5, Device, Link
from tokensim.hardware.reading import Reader, plain_number
from tokensim.registry import register
from tokensim.scenario.units import parse_bandwidth, parse_bytes, parse_power

CATALOG = Path(__file__).parent / "catalog"
ALIASES = "aliases"
KINDS = ("gpu", "tpu", "accelerator", "cpu", "pim")

_TEXTS = ("name", "vendor", "kind", "architecture")
_MAPPINGS = ("flops", "intra_node", "inter_node", "host_link", "efficiency", "sources", "profiles", "draw")
_KEYS = (
    *_TEXTS,
    "memory",
    "memory_bandwidth",
    "flops",
    "intra_node",
    "inter_node",
    "devices_per_node",
    "tdp",
    "idle_power",
    "price_per_hour_usd",
    "efficiency",
    "sources",
)
_OPTIONAL = ("profiles", "host_link", "draw")
_MEASURED_ANEW = ("architecture", "memory_bandwidth", "flops", "intra_node", "inter_node", "efficiency")
"""A device that differs in one of these has other operator times than its base."""

HOST_LINK_RULE = "not given: that of intra_node if this is PCIe, else PCIe 5.0 x16"


def catalog_names() -> list[str]:
    """Ids of all devices of the catalog and of registered ones, sorted; other names for them are left out."""
    return sorted({file.stem for file in CATALOG.glob("*.yaml")} - {ALIASES} | set(register.device.names()))


def load_device(ref: str | Path | Mapping[str, Any] | Device, where: str = "hardware") -> Device:
    """The device that ``ref`` names or describes.

    ``ref`` is a registered or catalog id (in any case), the path of a YAML file, or a mapping: a whole
    device, or ``{base: h100-sxm-80gb, memory_bandwidth: 5 TB/s}``. Quantities take units or are in SI.
    ``where`` is the place in the scenario that errors name. Raises ``InputError`` for an unknown name, an
    unreadable file, an unknown or missing key, or an impossible value.
    """
    if isinstance(ref, Device):
        return ref
    if isinstance(ref, Mapping):
        return _from_mapping(ref, "inline", where, Path())
    if isinstance(ref, Path) or ref.lower().endswith((".yaml", ".yml")):
        return _from_file(Path(ref), where)
    return _named(ref, where)


def _named(name: str, where: str) -> Device:
    """A registered device, or one of the catalog."""
    key = name.strip().lower()
    for registered in register.device.names():
        if registered.lower() == key:
            part = register.device.get(registered)
            device = part() if callable(part) else part
            if not isinstance(device, Device):
                raise InputError(
                    f"the registered device '{registered}' gave a {type(device).__name__}",
                    where=where,
                    hint="register a Device, or a function without arguments that returns one",
                )
            return device
    if Path(key).name != key or key == ALIASES or not (CATALOG / f"{key}.yaml").is_file():
        key = _aliases().get(key, "")
    if not key:
        raise InputError(
            f"unknown device '{name}'",
            where=where,
            hint=nearest(name, [*catalog_names(), *_aliases()])
            + " (`tokensim devices` lists them; a path to a YAML file or a mapping works too)",
        )
    return _from_catalog(key)


@cache
def _from_catalog(key: str) -> Device:
    return _from_file(CATALOG / f"{key}.yaml", "hardware")


@cache
def _aliases() -> dict[str, str]:
    """Other names, each with the id that it stands for."""
    return dict(_read_yaml(CATALOG / f"{ALIASES}.yaml", "hardware"))


def _read_yaml(file: Path, where: str) -> Mapping[str, Any]:
    """The mapping in ``file``."""
    try:
        data = fast_yaml.load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"no such device file: {file}", where=where, hint="check the path") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read the device file {file}: {error}", where=where) from None
    except yaml.YAMLError as error:
        raise InputError(f"the device file {file} is not YAML: {error}", where=where) from None
    if not isinstance(data, Mapping):
        raise InputError(
            f"the device file {file} holds no mapping", where=where, hint="keys: " + ", ".join(_KEYS)
        )
    return data


def _from_file(file: Path, where: str) -> Device:
    data = _read_yaml(file, where)
    place = str(file) if file.parent != CATALOG else f"catalog/{file.name}"
    return _from_mapping(data, file.stem, place, file.parent)


def _from_mapping(data: Mapping[str, Any], name: str, where: str, folder: Path) -> Device:
    """The device of a mapping; ``folder`` is where a relative path in ``base`` starts."""
    known = (*_KEYS, *_OPTIONAL, "base")
    for key in data:
        if key not in known:
            raise InputError(f"unknown key '{key}'", where=where, hint=nearest(str(key), known))
    fields = dict(data)
    base = fields.pop("base", None)
    if base is not None:
        fields, name = _on_base(fields, base, where, folder)
    missing = [key for key in _KEYS if key not in fields]
    if missing:
        raise InputError(
            "missing " + ", ".join(f"'{key}'" for key in missing),
            where=where,
            hint="give every key, or start from a known device with `base: h100-sxm-80gb`",
        )
    read = Reader(fields, where)
    if "host_link" not in fields:
        fields["sources"] = {**read.mapping("sources"), "host_link": HOST_LINK_RULE}
    kind = read.text("kind")
    if kind not in KINDS:
        raise InputError(f"kind is '{kind}'", where=where, hint="one of " + ", ".join(KINDS))
    intra_node = read.link("intra_node")
    usual = intra_node if "PCIe" in intra_node.name else PCIE_5  # see HOST_LINK_RULE
    return Device(
        id=name,
        name=read.text("name"),
        vendor=read.text("vendor"),
        kind=kind,
        architecture=read.text("architecture"),
        memory_bytes=read.positive("memory", parse_bytes),
        memory_bandwidth_bytes_per_s=read.positive("memory_bandwidth", parse_bandwidth),
        flops=read.flops(),
        intra_node=intra_node,
        inter_node=read.link("inter_node"),
        devices_per_node=read.count("devices_per_node"),
        tdp_w=read.positive("tdp", parse_power),
        idle_w=read.quantity("idle_power", parse_power),
        price_per_hour_usd=read.quantity("price_per_hour_usd", plain_number),
        efficiency=read.efficiency(),
        host_link=read.link("host_link") if "host_link" in fields else usual,
        sources={key: str(value) for key, value in read.mapping("sources").items()},
        profiles=read.profiles(),
        draw=read.draw(),
    )


def _on_base(changes: dict[str, Any], base: Any, where: str, folder: Path) -> tuple[dict[str, Any], str]:
    """The fields of device ``base`` with ``changes`` on top, nested mappings merged key by key, and a
    name."""
    if not isinstance(base, str | Path):
        raise InputError(f"base is {base!r}", where=where, hint="give a catalog id or a path to a YAML file")
    path = Path(base)
    if path.suffix.lower() in (".yaml", ".yml") and not path.is_absolute():
        path = folder / path
    device = load_device(path if path.suffix.lower() in (".yaml", ".yml") else str(base), f"{where}.base")
    fields = _as_fields(device)
    if any(key in changes for key in _MEASURED_ANEW):
        fields["profiles"] = {}
    else:
        fields["profiles"].setdefault("tokensim", device.id)
    for key, value in changes.items():
        if key in _MAPPINGS and isinstance(value, Mapping):
            fields[key] = {**fields[key], **value}
        else:
            fields[key] = value
    stated = changes.get("sources")
    for key in changes:
        if key != "sources" and not (isinstance(stated, Mapping) and key in stated):
            fields["sources"][key] = f"given in {where}"
    if "name" not in changes:
        fields["name"] = f"{device.name} (changed)"
    return fields, f"{device.id}+" + ",".join(sorted(changes)) if changes else device.id


def _as_fields(device: Device) -> dict[str, Any]:
    """The mapping that describes ``device``, in SI; ``load_device`` of it gives an equal device but for the
    id."""

    def link(value: Link) -> dict[str, Any]:
        return {
            "name": value.name,
            "bandwidth": value.bandwidth_bytes_per_s,
            "latency": value.latency_s,
            "direct": value.direct,
            **({"shared": True} if value.shared else {}),
            **({} if value.efficiency is None else {"efficiency": value.efficiency}),
        }

    eff = device.efficiency
    return {
        "name": device.name,
        "vendor": device.vendor,
        "kind": device.kind,
        "architecture": device.architecture,
        "memory": device.memory_bytes,
        "memory_bandwidth": device.memory_bandwidth_bytes_per_s,
        "flops": dict(device.flops),
        "intra_node": link(device.intra_node),
        "inter_node": link(device.inter_node),
        "host_link": link(device.host_link),
        "devices_per_node": device.devices_per_node,
        "tdp": device.tdp_w,
        "idle_power": device.idle_w,
        "price_per_hour_usd": device.price_per_hour_usd,
        "efficiency": {
            "gemm": eff.gemm,
            "attention": eff.attention,
            "memory": eff.memory,
            "kernel_overhead": eff.kernel_overhead_s,
            "source": eff.source,
            **({} if eff.gemm_low_precision is None else {"gemm_low_precision": eff.gemm_low_precision}),
        },
        "sources": dict(device.sources),
        "profiles": dict(device.profiles),
        "draw": asdict(device.draw),
    }
