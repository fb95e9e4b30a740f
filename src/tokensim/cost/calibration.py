"""A calibration: the few physical unknowns of a machine, fitted on measured runs, as the costs apply them.

Each is one number with a meaning outside this simulator. Left at its default it changes nothing. The file is
YAML, written by ``tokensim calibrate``; a shorter one, ``parameters: {host_gap_s: 0.0002}``, can be written
by hand:

    format: tokensim-calibration
    version: 1
    device: h100-sxm-80gb
    parameters:
      host_gap_s: {value: 0.0002, stderr: 1.0e-05, bounds: [0.0, 0.005]}
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from tokensim.errors import InputError, nearest
from tokensim.scenario import yaml_text

FORMAT = "tokensim-calibration"
VERSION = 1

RANGES: dict[str, tuple[float, float]] = {
    "host_gap_s": (0.0, 0.1),
    "host_step_s": (0.0, 0.1),
    "host_request_s": (0.0, 0.01),
    "client_s": (0.0, 10.0),
    "compute_scale": (0.05, 20.0),
    "memory_scale": (0.05, 20.0),
    "clock_slowdown": (0.0, 0.9),
    "clock_time_constant_s": (1e-3, 1e5),
}
"""What a file may hold: wide, so that only a wrong unit or a typing error falls outside."""

_KEYS = (
    "format",
    "version",
    "fitted_on",
    "device",
    "model",
    "engine",
    "parameters",
    "errors_before",
    "errors_after",
    "notes",
)


@dataclass(frozen=True, slots=True)
class Calibration:
    """What was fitted; None keeps the value that is used without a calibration.

    ``host_gap_s``: the device idles so long between two steps (launch, copy of the sampled tokens).
    ``host_step_s`` and ``host_request_s``: host time a step, and for each request in it; the device waits for
    it when scheduling is synchronous, and hides it as far as it is busy itself when asynchronous.
    ``client_s``: what the client's clock counts besides the engine before the first token (connection, HTTP,
    tokenizer, first chunk), a constant. ``compute_scale`` and ``memory_scale``: times the rate of arithmetic
    and of memory; time bound by it is divided by it. ``clock_slowdown``: share of the clock lost under
    sustained full compute load, approached with ``clock_time_constant_s``.

    ``device``, ``model`` and ``engine`` name what it was fitted on ("" where the file does not say).
    """

    host_gap_s: float | None = None
    host_step_s: float | None = None
    host_request_s: float | None = None
    client_s: float | None = None
    compute_scale: float = 1.0
    memory_scale: float = 1.0
    clock_slowdown: float = 0.0
    clock_time_constant_s: float | None = None
    device: str = ""
    model: str = ""
    engine: str = ""

    def parameters(self) -> dict[str, float]:
        """The parameters that change something, by name."""
        found = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in RANGES and value != field.default:
                found[field.name] = float(value)
        return found


PARAMETERS = tuple(RANGES)
"""The names of all parameters."""


def load_calibration(path: str | Path) -> Calibration:
    """The calibration in the file at ``path``.

    Raises ``InputError`` naming the file, the line and what would be right: not there, not such a file, of a
    later version, an unknown parameter, a value that cannot be.
    """
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(
            "no such calibration file", where=str(path), hint="'tokensim calibrate' writes one"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a UTF-8 text"
        raise InputError(f"cannot be read: {reason}", where=str(path)) from None
    data, lines = yaml_text.parse(text, str(path))

    def at(*where: str) -> str:
        line = lines.get(where)
        return f"{path}:{line}: {yaml_text.dotted(where)}" if line else str(path)

    if not isinstance(data, dict) or "parameters" not in data:
        raise InputError(
            "not a calibration: it has no 'parameters'",
            where=str(path),
            hint="'tokensim calibrate' writes one; a scenario is something else",
        )
    for key in data:
        if key not in _KEYS:
            raise InputError(f"unknown key '{key}'", where=at(str(key)), hint=nearest(str(key), _KEYS))
    if data.get("format", FORMAT) != FORMAT:
        raise InputError(f"{data['format']!r} is not '{FORMAT}'", where=at("format"))
    if data.get("version", VERSION) != VERSION:
        raise InputError(
            f"version {data['version']!r} is not known", where=at("version"), hint=f"this one reads {VERSION}"
        )
    parameters = data["parameters"]
    if not isinstance(parameters, Mapping):
        raise InputError("must be a section of 'name: value' lines", where=at("parameters"))
    values: dict[str, Any] = {
        name: _value(name, entry, at("parameters", str(name))) for name, entry in parameters.items()
    }
    for key in ("device", "model", "engine"):
        values[key] = _names(data.get(key), at(key))
    return Calibration(**values)


def _value(name: object, entry: object, where: str) -> float:
    """The value of one parameter, plain or in a mapping with its uncertainty."""
    if name not in RANGES:
        raise InputError(f"unknown parameter '{name}'", where=where, hint=nearest(str(name), RANGES))
    value = entry.get("value") if isinstance(entry, Mapping) else entry
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InputError(f"{value!r} is not a number", where=where, hint="seconds, or a plain factor")
    low, high = RANGES[str(name)]
    if not low <= value <= high:
        raise InputError(f"{value:g} cannot be", where=where, hint=f"between {low:g} and {high:g}")
    return float(value)


def _names(value: object, where: str) -> str:
    """One name, or several as one text."""
    if value is None:
        return ""
    names: list[Any] = value if isinstance(value, list) else [value]
    if not all(isinstance(name, str) for name in names):
        raise InputError(f"{value!r} must be a name", where=where)
    return ", ".join(names)
