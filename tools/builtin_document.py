"""The file of the shipped model's coefficients as text, and the table of its errors for the documentation."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from tokensim.cost.builtin.forms import FORMS
from tokensim.hardware.base import Device

MARKERS = ("<!-- errors: written by tools/fit_builtin.py -->", "<!-- end of errors -->")


def document(results: Sequence[tuple[Device, dict[str, dict[str, Any]]]], version: str) -> str:
    """The text of the coefficients' file."""
    lines = [
        "# Coefficients of the shipped model `builtin`; written by tools/fit_builtin.py, not by hand.",
        f"# Fitted to the measured tables of aiconfigurator-core {version} (Apache-2.0).",
        "# rows: measurements; errors: median and 90th percentile of the relative error on held-out shapes,",
        "# and the median on all; values: the fields of the form (forms.py), in their order:",
    ]
    for form in dict.fromkeys(FORMS.values()):
        names = ", ".join(field.name for field in dataclasses.fields(form))
        kinds = ", ".join(kind for kind, one in FORMS.items() if one is form)
        lines += _wrapped(f"#   {form.__name__} ({kinds}): {names}")
    lines += [f"source: aiconfigurator-core {version}", "devices:"]
    for device, fits in results:
        lines += [f" {device.id}:", f"  reference: {_reference(device)}", "  fits:"]
        for kind, by_key in fits.items():
            lines.append(f"   {kind}:")
            for key, fit in by_key.items():
                name = f'"{key}"' if key.isdigit() else key
                errors, values = (", ".join(map(_number, fit[part])) for part in ("errors", "values"))
                said = f"source: {fit['source']}, rows: {fit['rows']}, errors: [{errors}]"
                lines.append(f"    {name}: {{{said}, values: [{values}]}}")
    return "\n".join(lines) + "\n"


def error_table(tree: dict[str, Any]) -> str:
    """The errors of the file's ``tree`` as a Markdown table: a row a device, a column a family of kinds."""
    families = {
        "GEMM": ("gemm",),
        "prefill": ("prefill", "prefill_window"),
        "decode": ("decode", "decode_window"),
        "latent attention": ("prefill_latent", "decode_latent"),
        "experts": ("experts",),
        "elementwise": ("elementwise",),
        "collectives": ("all_reduce", "all_gather", "reduce_scatter", "all_to_all"),
    }
    lines = ["| device | " + " | ".join(families) + " |", "|---|" + "---|" * len(families)]
    for device, body in tree["devices"].items():
        cells = []
        for kinds in families.values():
            fits = [fit for kind in kinds for fit in body["fits"].get(kind, {}).values()]
            weights = [fit["rows"] for fit in fits]
            cells.append(
                "none"
                if not fits
                else "{:.1f} ({:.0f})".format(
                    *(100 * np.average([fit["errors"][i] for fit in fits], weights=weights) for i in (0, 1))
                )
            )
        lines.append(f"| {device} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def with_table(page: str, table: str) -> str:
    """``page`` with ``table`` between the two markers."""
    before, rest = page.split(MARKERS[0])
    after = rest.split(MARKERS[1])[1]
    return f"{before}{MARKERS[0]}\n\n{table}\n\n{MARKERS[1]}{after}"


def _wrapped(line: str) -> list[str]:
    words, out = line.split(" "), [""]
    for word in words:
        if len(out[-1]) + len(word) > 108:
            out.append("#    ")
        out[-1] += (" " if out[-1] else "") + word
    return out


def _reference(device: Device) -> str:
    low = device.efficiency.gemm_low_precision
    flops = {d: device.flops[d] for d in ("bfloat16", "fp8", "fp4") if d in device.flops}
    values: dict[str, Any] = {
        "architecture": device.architecture,
        "flops": "{" + ", ".join(f"{d}: {_number(v)}" for d, v in flops.items()) + "}",
        "bandwidth": device.memory_bandwidth_bytes_per_s,
        "link": device.intra_node.bandwidth_bytes_per_s,
        "gemm": device.efficiency.gemm,
        "gemm_low_precision": device.efficiency.gemm if low is None else low,
        "attention": device.efficiency.attention,
        "memory": device.efficiency.memory,
        "launch_s": device.efficiency.kernel_overhead_s,
    }
    return "{" + ", ".join(f"{k}: {v if isinstance(v, str) else _number(v)}" for k, v in values.items()) + "}"


def _number(value: float | tuple[float, ...]) -> str:
    """A number that YAML reads as one."""
    if isinstance(value, tuple):
        return "[" + ", ".join(_number(one) for one in value) + "]"
    text = f"{value:.6g}".replace("e-0", "e-").replace("e+0", "e+")
    return text.replace("e", ".0e") if "e" in text and "." not in text else text
