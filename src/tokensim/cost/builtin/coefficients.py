"""The shipped coefficients, and whose a device without measurements borrows.

``coefficients.yaml`` is written by ``tools/fit_builtin.py``: for each measured device, and each kind of
operator and dtype, the values of the form's fields in their order, and the errors of the fit.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from tokensim import fast_yaml
from tokensim.cost.builtin.forms import FORMS, Form
from tokensim.hardware.base import Device

FILE = "coefficients.yaml"


@dataclass(frozen=True, slots=True)
class Fit:
    """One fit. ``error`` and ``p90`` are the median and the 90th percentile of the relative error on shapes
    that the fit had not seen, ``fitted`` the median on those that it was fitted to (all); ``rows`` how many
    measurements, ``source`` the engine and version that were measured."""

    form: Form
    error: float
    p90: float
    fitted: float
    rows: int
    source: str


@dataclass(frozen=True, slots=True)
class Reference:
    """What the shares of a measured device are shares of: its peaks, and the catalog's efficiencies, by which
    shares are carried to other devices (see ``tokensim.cost.builtin.source``)."""

    architecture: str
    flops: Mapping[str, float]
    bandwidth: float
    link: float
    gemm: float
    gemm_low_precision: float
    attention: float
    memory: float
    launch_s: float


@dataclass(frozen=True, slots=True)
class Measured:
    """A measured device: ``fits`` by kind, then dtype (or number of ranks, as text)."""

    id: str
    reference: Reference
    fits: Mapping[str, Mapping[str, Fit]]


NEAREST: dict[str, tuple[str, str]] = {
    "turing": ("ampere", "the oldest measured tensor cores of NVIDIA"),
    "volta": ("ampere", "the oldest measured tensor cores of NVIDIA"),
    "blackwell-ultra": ("blackwell", "the same SM, more memory"),
    "cdna2": ("ampere", "HBM2e, the same generation (2021)"),
    "cdna3": ("hopper", "HBM3, the same generation (2023)"),
    "cdna4": ("blackwell", "HBM3E, the same generation (2025)"),
}
"""Architecture without measurements → the measured one that it borrows from, and why."""


@cache
def measured() -> dict[str, Measured]:
    """The measured devices, by catalog id."""
    tree = fast_yaml.load((files(__package__) / FILE).read_text(encoding="utf-8"))
    return {id_: _measured(id_, body) for id_, body in tree["devices"].items()}


def lenders(device: Device) -> list[Measured]:
    """The measured devices whose coefficients may hold for ``device``, the best first; none unless it is a
    GPU of a known architecture.

    Itself, if it was measured; then its architecture, or the one that stands in for it (``NEAREST``); then
    the others (for what was not measured on those: elementwise kernels on Ampere). Among equals the nearest
    in the logarithms of FLOP/s, memory and link bandwidth comes first.
    """
    stand_in = NEAREST.get(device.architecture, ("", ""))[0]
    order = {device.architecture: 1, stand_in: 2}

    def rank(one: Measured) -> tuple[int, float, str]:
        kin = 0 if one.id == device.id else order.get(one.reference.architecture, 3)
        return kin, _distance(device, one.reference), one.id

    ranked = sorted(measured().values(), key=rank)
    if not ranked or rank(ranked[0])[0] == 3 or device.kind != "gpu":
        return []
    return ranked


def _distance(device: Device, reference: Reference) -> float:
    """How far apart two devices are: the sum of the logarithms of the ratios of their rates."""
    pairs = [
        (device.memory_bandwidth_bytes_per_s, reference.bandwidth),
        (device.intra_node.bandwidth_bytes_per_s, reference.link),
    ]
    common = "bfloat16" if "bfloat16" in device.flops else "float16"
    if common in device.flops:
        pairs.append((device.flops[common], reference.flops["bfloat16"]))
    return sum(abs(math.log(mine / its)) for mine, its in pairs)


def _measured(id_: str, body: dict[str, Any]) -> Measured:
    reference = Reference(**{**body["reference"], "flops": dict(body["reference"]["flops"])})
    fits = {
        kind: {str(key): _fit(kind, fit) for key, fit in by_key.items()}
        for kind, by_key in body["fits"].items()
    }
    return Measured(id_, reference, fits)


def _fit(kind: str, body: dict[str, Any]) -> Fit:
    names = [field.name for field in dataclasses.fields(FORMS[kind])]
    values = [tuple(v) if isinstance(v, list) else v for v in body["values"]]
    given: dict[str, Any] = dict(zip(names, values, strict=True))
    form = FORMS[kind](**given)
    error, p90, fitted = body["errors"]
    return Fit(form, error, p90, fitted, body["rows"], body["source"])
