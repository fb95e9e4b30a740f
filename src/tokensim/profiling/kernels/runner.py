"""Rows of calls, timed on the device: CUDA graphs and events on a GPU, the clock around a loop on a CPU.

On a GPU the calls are captured into a graph, as engines run them, so that what is timed is the device and not
the host that launches. Calls that cannot be captured are launched one by one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from math import ceil
from typing import Any

import torch

Call = Callable[[], Any]

GRAPH_CALLS = 16
"""Calls in a graph at least: the pause between two replays is then a small part of it."""


class Runner:
    """Times calls on one device. ``eager`` counts shapes whose calls could not be captured."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.eager = 0

    def sampler(self, calls: Sequence[Call]) -> Callable[[int], float]:
        """A function from a number of calls to the seconds that they take together; it goes round ``calls``
        and on from where it ended."""
        if self.device.type == "cpu":
            return _on_host(calls)
        graph = self._captured(calls)
        if graph is None:
            self.eager += 1
            return self._launched(calls)
        return self._replayed(*graph)

    def synchronize(self) -> None:
        """Wait until the device has nothing left to do."""
        if self.device.type != "cpu":
            torch.cuda.synchronize(self.device)

    def _captured(self, calls: Sequence[Call]) -> tuple[Any, int] | None:
        rounds = ceil(GRAPH_CALLS / len(calls))
        side = torch.cuda.Stream(self.device)
        try:
            side.wait_stream(torch.cuda.current_stream(self.device))
            with torch.cuda.stream(side):  # libraries choose kernels and take workspaces at their first calls
                for call in calls[:3]:
                    call()
            torch.cuda.current_stream(self.device).wait_stream(side)
            torch.cuda.synchronize(self.device)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                for _ in range(rounds):
                    for call in calls:
                        call()
        except torch.cuda.OutOfMemoryError:
            raise
        except RuntimeError:  # an operation that waits for the device, or allocates outside the graph's pool
            torch.cuda.synchronize(self.device)
            return None
        return graph, rounds * len(calls)

    def _replayed(self, graph: Any, length: int) -> Callable[[int], float]:
        def sample(count: int) -> float:
            replays = ceil(count / length)
            return self._between(graph.replay, replays) * count / (replays * length)

        return sample

    def _launched(self, calls: Sequence[Call]) -> Callable[[int], float]:
        position = 0

        def step() -> None:
            nonlocal position
            calls[position % len(calls)]()
            position += 1

        return lambda count: self._between(step, count)

    def _between(self, step: Call, count: int) -> float:
        """Seconds on the device of ``count`` times ``step``."""
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize(self.device)
        start.record()
        for _ in range(count):
            step()
        end.record()
        end.synchronize()
        return float(start.elapsed_time(end)) / 1e3


def _on_host(calls: Sequence[Call]) -> Callable[[int], float]:
    position = 0

    def sample(count: int) -> float:
        nonlocal position
        row = [calls[(position + i) % len(calls)] for i in range(count)]
        position += count
        began = time.perf_counter_ns()
        for call in row:
            call()
        return (time.perf_counter_ns() - began) / 1e9

    return sample
