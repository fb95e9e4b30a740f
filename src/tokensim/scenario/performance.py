"""The ``performance`` section: where the time of a step comes from, and what surrounds the device.

Host, front end and clocks are the parts of a serving system that operator times leave out. ``null`` takes the
documented default, or what a calibration says.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field, field_validator

from tokensim.scenario.experts import ExpertSpread
from tokensim.scenario.fields import PositiveDuration
from tokensim.scenario.section import Name, Number, Section, refused
from tokensim.scenario.units import Duration


class HostTime(Section):
    """What the engine's process costs; see ``tokensim.cost.host``."""

    gap: Duration | None = None
    """The device idles this long between two steps, whatever the scheduling."""
    step: Duration | None = None
    """Scheduling, input preparation, sampling and output of a step; hidden while the device runs if async."""
    request: Duration | None = None
    """The same, for each request in the step."""


class FrontEnd(Section):
    """The API process, one thread: it tokenises and streams; see ``tokensim.engine.front_end``."""

    request: Duration | None = None
    """Its time for each request, before the engine sees it."""
    chunk: Duration | None = None
    """Its time for each output of a request in a step."""
    client: Duration | None = None
    """Constant time that the client's clock adds to its first token: connection, HTTP, network."""


class Clock(Section):
    """Clocks that drop under sustained compute load; see ``tokensim.engine.clock``."""

    slowdown: Annotated[Number, Field(ge=0, lt=1)]
    """Share of the compute rate lost under full sustained compute load."""
    time_constant: PositiveDuration
    """How fast the device heats up and cools down."""


class Performance(Section):
    """Where the time of a step comes from."""

    operators: Name = "auto"
    """``auto``, ``builtin``, ``roofline``, ``aiconfigurator``, a path of tables, or a plug-in's name.

    ``auto`` takes the measured tables if they are installed and know the device, else the fitted model.
    """
    calibration: Name | None = None
    """A file of corrections fitted to measured runs, as ``tokensim calibrate`` writes it."""
    host: HostTime = HostTime()
    """The engine's process."""
    front_end: FrontEnd | None = None
    """The API process; off (false) unless asked for: true, or a section of its own."""
    clock: Clock | None = None
    """Falling clocks; off unless asked for (or calibrated)."""
    experts: ExpertSpread | None = None
    """How tokens spread over experts; null: as the source of operator times has it."""

    @field_validator("front_end", mode="before")
    @classmethod
    def _on_or_off(cls, value: object) -> object:
        short: dict[object, object] = {True: {}, "on": {}, False: None, "off": None}
        if isinstance(value, bool | str) and value in short:
            return short[value]
        if value is None or isinstance(value, Mapping | FrontEnd):
            return value
        raise refused(
            f"{value!r} neither turns the front end on nor off",
            "true, false, or a section with its times: {request: 1ms, chunk: 10us, client: 2ms}",
        )
