"""The unknowns that may be fitted: what they are, within which bounds, and where a fit starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tokensim.errors import InputError, nearest


@dataclass(frozen=True, slots=True)
class Parameter:
    """One unknown: its ``name`` for users, the ``field`` of ``cost.calibration.Calibration`` that it sets.

    A fit stays within ``low`` and ``high`` and begins at ``start``. ``spread`` is how far real machines
    plausibly are from there: a fit that has to choose between explanations takes the more plausible one.
    ``client_only``: seen only in cases that the client measured.
    """

    name: str
    field: str
    low: float
    high: float
    start: float
    spread: float
    seconds: bool
    client_only: bool = False


CLOCK_TIME_CONSTANT_S = 5.0
"""Where the time constant of the clock is not fitted: of the order of seconds, as power limits act."""

PARAMETERS: tuple[Parameter, ...] = (
    # Host times: a step of vLLM needs 0.2 to 1 ms of the host on current servers; 5 ms would be a defect.
    Parameter("host_gap", "host_gap_s", 0.0, 5e-3, 2e-4, 3e-4, True),
    # Scales of rates: devices of one kind differ by a few per cent; beyond a factor of 1.5 the operator times
    # are of something else.
    Parameter("compute", "compute_scale", 0.5, 1.5, 1.0, 0.03, False),
    # Connection, HTTP, tokenizer and first chunk: some ms on one machine, more across a network.
    Parameter("client", "client_s", 0.0, 50e-3, 2e-3, 3e-3, True, client_only=True),
    Parameter("memory", "memory_scale", 0.5, 1.5, 1.0, 0.03, False),
    Parameter("host_step", "host_step_s", 0.0, 20e-3, 1e-3, 1e-3, True),
    Parameter("host_request", "host_request_s", 0.0, 2e-4, 1e-5, 1e-5, True),
    # NVIDIA devices lose 7 to 15 % of the clock in sustained prefill, within seconds.
    Parameter("clock", "clock_slowdown", 0.0, 0.3, 0.05, 0.05, False),
    Parameter("clock_time_constant", "clock_time_constant_s", 0.5, 60.0, CLOCK_TIME_CONSTANT_S, 5.0, True),
)
"""All, in the order in which they are fitted and shown."""

DEFAULT = ("host_gap", "compute", "client", "memory")
"""What is tried when nobody says what to fit."""


def chosen(text: str | None) -> tuple[Parameter, ...]:
    """The parameters that ``"host_gap,client"`` names (None: ``DEFAULT``); raises ``InputError``."""
    by_name = {parameter.name: parameter for parameter in PARAMETERS}
    by_field = {parameter.field: parameter for parameter in PARAMETERS}
    names = DEFAULT if text is None else tuple(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise InputError("nothing to fit", where="--fit", hint="e.g. --fit host_gap,compute")
    found = set()
    for name in names:
        parameter = by_name.get(name) or by_field.get(name)
        if parameter is None:
            raise InputError(f"unknown parameter '{name}'", where="--fit", hint=nearest(name, by_name))
        found.add(parameter)
    return tuple(parameter for parameter in PARAMETERS if parameter in found)


def names_of(parameters: Sequence[Parameter]) -> str:
    """``host_gap, client``."""
    return ", ".join(parameter.name for parameter in parameters)
