"""Clocks and what holds them down, as the system tells: ``nvidia-smi``, ``rocm-smi``, ``/proc/cpuinfo``.

Nothing is set: whoever wants locked clocks locks them before (``nvidia-smi --lock-gpu-clocks``), and the
tables say what was seen.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

EVERY_S = 2.0
"""Asking takes tens of milliseconds and is done after a measurement, no more often than this."""

REASONS = {
    0x4: "software power cap",
    0x8: "hardware slowdown",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "hardware power brake",
}
"""Bits of ``clocks_event_reasons.active`` that slow a device down (NVML API reference,
nvmlClocksEventReasons)."""


class Clocks:
    """Watches the clock of one device. ``seen_mhz`` are the clocks seen; ``reasons`` count what held them
    down."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._asked = 0.0
        self._last: float | None = None
        self.seen_mhz: list[float] = []
        self.reasons: Counter[str] = Counter()

    def now(self, load: Callable[[], object] | None = None) -> float | None:
        """The clock in MHz, at most ``EVERY_S`` old; None where the system does not say. ``load`` runs on the
        device again and again until it has answered: an idle one lets its clock fall, and names no reason."""
        if time.monotonic() - self._asked >= EVERY_S or not self._asked:
            self._last = self._ask() if load is None else self._ask_under(load)
            self._asked = time.monotonic()
            if self._last is not None:
                self.seen_mhz.append(self._last)
        return self._last

    def summary(self) -> str:
        """What was seen, for people."""
        if not self.seen_mhz:
            return "not known"
        return f"observed, {min(self.seen_mhz):.0f} to {max(self.seen_mhz):.0f} MHz"

    def _ask_under(self, load: Callable[[], object]) -> float | None:
        with ThreadPoolExecutor(1) as thread:
            asked = thread.submit(self._ask)
            while not asked.done():
                load()
            return asked.result()

    def _ask(self) -> float | None:
        if self._device.type == "cpu":
            return _cpu_mhz()
        if torch.version.hip:
            return _rocm_mhz(self._device.index or 0)
        answer = nvidia(self._device, "clocks.sm", "clocks_event_reasons.active")
        if answer is None:
            answer = nvidia(self._device, "clocks.sm", "clocks_throttle_reasons.active")  # older drivers
        if answer is None:
            return None
        mhz, bits = answer
        try:
            active = int(bits, 16)
            self.reasons.update(reason for bit, reason in REASONS.items() if active & bit)
            return float(mhz)
        except ValueError:
            return None


def nvidia(device: torch.device, *fields: str) -> list[str] | None:
    """What ``nvidia-smi`` says of the device; None where it is absent or does not know the fields."""
    uuid = str(getattr(torch.cuda.get_device_properties(device), "uuid", ""))
    which = f"GPU-{uuid.removeprefix('GPU-')}" if uuid else str(device.index or 0)
    text = _output(
        "nvidia-smi", f"--id={which}", f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits"
    )
    values = [value.strip() for value in text.strip().split("\n")[0].split(",")] if text else []
    return values if len(values) == len(fields) else None


def _rocm_mhz(index: int) -> float | None:
    text = _output("rocm-smi", "-d", str(index), "--showclocks", "--json")
    try:
        card = next(iter(json.loads(text or "{}").values()))
        shown = next(str(value) for key, value in card.items() if key.startswith("sclk clock speed"))
        return float(shown.strip("()").lower().removesuffix("mhz"))
    except (ValueError, StopIteration, AttributeError):
        return None


def _cpu_mhz() -> float | None:
    """The mean over the cores, of ``/proc/cpuinfo``."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return None
    clocks = [float(line.split(":")[1]) for line in lines if line.startswith("cpu MHz")]
    return sum(clocks) / len(clocks) if clocks else None


def _output(*command: str) -> str | None:
    if shutil.which(command[0]) is None:
        return None
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
