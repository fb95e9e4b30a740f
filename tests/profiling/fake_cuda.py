"""PyTorch with a GPU of paper: kernels take the time that they are said to, on a clock of its own.

It has what ``kernels.runner`` uses: streams, events, graphs, and a host whose launches take time, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

LAUNCH_S, REPLAY_S, HZ = 5e-6, 8e-6, 2e9


class FakeCuda:
    """``host_s`` is the host's clock; the device is busy until ``free_s``. ``broken``: after a failed capture
    nothing can be captured any more."""

    def __init__(self, *, broken: bool = False) -> None:
        self.host_s = self.free_s = 0.0
        self.capturing: list[float] | None = None
        self.graphs: list[int] = []
        self._broken, self._failed = broken, False
        gpu = self

        class Event:
            def __init__(self, enable_timing: bool) -> None:
                self.at_s = 0.0

            def record(self) -> None:
                self.at_s = max(gpu.host_s, gpu.free_s)

            def synchronize(self) -> None:
                gpu.synchronize()

            def elapsed_time(self, other: Any) -> float:
                return (other.at_s - self.at_s) * 1e3

        class CUDAGraph:
            def __init__(self) -> None:
                self.kernels: list[float] = []

            def capture_begin(self, capture_error_mode: str) -> None:
                if gpu._broken and gpu._failed:
                    raise RuntimeError("captures_underway.empty() INTERNAL ASSERT FAILED")
                gpu.capturing = []

            def capture_end(self) -> None:
                self.kernels, gpu.capturing = gpu.capturing or [], None
                gpu.graphs.append(len(self.kernels))

            def replay(self) -> None:
                gpu.host_s += REPLAY_S
                gpu.free_s = max(gpu.host_s, gpu.free_s) + sum(self.kernels)

        self.Event, self.CUDAGraph, self.OutOfMemoryError = Event, CUDAGraph, MemoryError

    def kernel(self, seconds: float) -> None:
        """Launch a kernel."""
        if self.capturing is not None:
            self.capturing.append(seconds)
            return
        self.host_s += LAUNCH_S
        self.free_s = max(self.host_s, self.free_s) + seconds

    def wait(self) -> None:
        """What an operation does that needs a number on the host; it cannot be captured."""
        if self.capturing is not None:
            self._failed = True
            raise RuntimeError("operation not permitted when stream is capturing")
        self.synchronize()

    def synchronize(self, device: Any = None) -> None:
        self.host_s = max(self.host_s, self.free_s)

    def _sleep(self, cycles: int) -> None:
        self.kernel(cycles / HZ)

    def Stream(self, device: Any) -> Any:
        return SimpleNamespace(wait_stream=lambda other: None, synchronize=self.synchronize)

    def current_stream(self, device: Any) -> Any:
        return self.Stream(device)

    @contextmanager
    def stream(self, stream: Any) -> Iterator[None]:
        yield

    def zeros(self, count: int, device: Any) -> Any:
        """A tensor that can be added to."""
        return SimpleNamespace(add_=lambda number: self.kernel(1e-6))
