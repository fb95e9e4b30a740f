"""Times that are not the devices': of the host, the API process and the clock of a device."""

from __future__ import annotations

from tokensim.cost import Host
from tokensim.cost.calibration import Calibration
from tokensim.cost.host import GAP_S, STEP_S
from tokensim.cost.host import REQUEST_S as HOST_REQUEST_S
from tokensim.engine.front_end import CHUNK_S, REQUEST_S
from tokensim.scenario.performance import Performance


def host_time(
    performance: Performance, calibration: Calibration, asynchronous: bool, speed: float = 1.0
) -> Host:
    """The times of a host of that ``speed``: the scenario's where it gives any, else the calibration's, else
    the defaults."""

    def value(given: float | None, fitted: float | None, default: float) -> float:
        if given is not None:
            return given / speed
        return (default if fitted is None else fitted) / speed

    host = performance.host
    return Host(
        gap_s=value(host.gap, calibration.host_gap_s, GAP_S),
        step_s=value(host.step, calibration.host_step_s, STEP_S),
        request_s=value(host.request, calibration.host_request_s, HOST_REQUEST_S),
        asynchronous=asynchronous,
    )


def front_end_times(
    performance: Performance, calibration: Calibration, speed: float = 1.0
) -> dict[str, float] | None:
    """Times of the API process on a host of that ``speed``: the scenario's where it gives any, else the
    calibration's, else the defaults; None: there is none."""
    given = performance.front_end
    if given is None:
        return None
    request_s = REQUEST_S if given.request is None else given.request
    chunk_s = CHUNK_S if given.chunk is None else given.chunk
    times = {"request_s": request_s / speed, "chunk_s": chunk_s / speed, "client_s": given.client}
    if given.client is None:
        times["client_s"] = calibration.client_s
    return {name: value for name, value in times.items() if value is not None}


def clock_terms(performance: Performance, calibration: Calibration) -> tuple[float, float] | None:
    """Slowdown and time constant (s) of the device's clock; None: it never drops."""
    if performance.clock is not None:
        return performance.clock.slowdown, performance.clock.time_constant
    if calibration.clock_slowdown and calibration.clock_time_constant_s:
        return calibration.clock_slowdown, calibration.clock_time_constant_s
    return None
