"""Rows of calls, timed on the device: CUDA graphs and events on a GPU, the clock around a loop on a CPU.

On a GPU the calls are captured into a graph, as engines run them, so that what is timed is the device and not
the host that launches. Calls that cannot be captured are launched one by one. In either case the device is
kept busy until the first of them is in its queue.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from math import ceil
from typing import Any

import torch

from tokensim.profiling.bench import DeviceLost

Call = Callable[[], Any]

Variants = Mapping[str, Callable[[], list[Call]]]
"""Kernels that can run a shape, by name: each makes its row of calls when it is its turn."""

GRAPH_CALLS = 16
"""Calls in a graph, if they are short: the pause between two replays is then a small part of it."""

GRAPH_S = 2e-3
"""A graph that lasts so long needs no more calls."""

HEAD_CYCLES = 500_000
"""Cycles for which the device spins before a sample: 0.25 ms at 2 GHz, in which a host launches a graph or
some tens of kernels."""

LAUNCH_CYCLES = 20_000
"""More of them for every call that is launched on its own, up to ``MOST_CYCLES``."""

MOST_CYCLES = 20_000_000


class Runner:
    """Times calls on one device. ``eager`` counts rows of calls that could not be captured."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.eager = 0
        self._one = torch.zeros(1, device=device)

    def sampler(self, calls: Sequence[Call]) -> Callable[[int], float]:
        """A function from a number of calls to the seconds that they take together; it goes round ``calls``
        and on from where it ended."""
        if self.device.type == "cpu":
            return on_host(calls)
        graph = self._captured(calls)
        if graph is None:
            self.check()
            self.eager += 1
            return self._launched(calls)
        return self._replayed(*graph)

    def synchronize(self) -> None:
        """Wait until the device has nothing left to do."""
        if self.device.type != "cpu":
            torch.cuda.synchronize(self.device)

    def check(self) -> None:
        """Raise ``DeviceLost`` if the device runs and captures nothing any more, as after an illegal access,
        or after a failed capture in some versions of PyTorch (its pull request 180395)."""
        if self.device.type == "cpu":
            return
        try:
            graph_of([lambda: self._one.add_(1.0)], 1, self.device).replay()
            torch.cuda.synchronize(self.device)
        except torch.cuda.OutOfMemoryError:
            return
        except RuntimeError as error:
            raise DeviceLost(f"the device takes no work any more: {first_line(error)}") from None

    def _captured(self, calls: Sequence[Call]) -> tuple[Any, int] | None:
        side = torch.cuda.Stream(self.device)
        side.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(side):  # libraries choose kernels and take workspaces at their first calls
            for call in calls[:3]:
                call()
            side.synchronize()
            began = time.perf_counter()
            calls[0]()
            side.synchronize()
            each = max(time.perf_counter() - began, 1e-9)
        rounds = ceil(min(GRAPH_CALLS, max(1.0, GRAPH_S / each)) / len(calls))
        try:
            return graph_of(calls, rounds, self.device), rounds * len(calls)
        except torch.cuda.OutOfMemoryError:
            raise
        except RuntimeError:  # an operation that waits for the device, or allocates outside the graph's pool
            return None

    def _replayed(self, graph: Any, length: int) -> Callable[[int], float]:
        def sample(count: int) -> float:
            replays = ceil(count / length)
            return self._between(graph.replay, replays, HEAD_CYCLES) * count / (replays * length)

        return sample

    def _launched(self, calls: Sequence[Call]) -> Callable[[int], float]:
        position = 0

        def step() -> None:
            nonlocal position
            calls[position % len(calls)]()
            position += 1

        return lambda count: self._between(step, count, min(MOST_CYCLES, HEAD_CYCLES + LAUNCH_CYCLES * count))

    def _between(self, step: Call, count: int, head: int) -> float:
        """Seconds on the device, which is free before, of ``count`` times ``step``."""
        torch.cuda.synchronize(self.device)
        busy(head)
        return on_device(step, count)


def graph_of(calls: Sequence[Call], rounds: int, device: torch.device, errors: str = "global") -> Any:
    """``calls``, so many times, in a CUDA graph; ``errors``: what other threads may do meanwhile.

    (``torch.cuda.graph`` would collect garbage and empty the cache each time, and leaves its stream the
    current one where capturing fails.)
    """
    torch.cuda.synchronize(device)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.stream(torch.cuda.Stream(device)):
        graph.capture_begin(capture_error_mode=errors)
        try:
            for _ in range(rounds):
                for call in calls:
                    call()
        except BaseException:
            with contextlib.suppress(RuntimeError):
                graph.capture_end()
            raise
        graph.capture_end()
    return graph


def on_device(step: Call, count: int) -> float:
    """Seconds on the current device of ``count`` times ``step``, from when it has done what was launched
    before."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(count):
        step()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / 1e3


def busy(cycles: int) -> None:
    """Keep the current device spinning for so many cycles, so that what is launched meanwhile starts without
    a pause."""
    torch.cuda._sleep(cycles)


def first_line(error: BaseException) -> str:
    """What ``error`` says, in a line of at most 120 characters."""
    return str(error).strip().split("\n")[0][:120] or type(error).__name__


def on_host(calls: Sequence[Call]) -> Callable[[int], float]:
    """A function from a number of calls to the host's seconds for them; it goes round ``calls``."""
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
