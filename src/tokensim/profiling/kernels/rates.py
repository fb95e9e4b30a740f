"""What a device reaches: arithmetic in every format, memory, the shortest kernel, launches, copies."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import TypeVar

import torch

from tokensim.errors import InputError
from tokensim.profiling.bench import DeviceLost, Facts, Rates
from tokensim.profiling.kernels.arena import OVER_CACHE, random_numbers
from tokensim.profiling.kernels.gemm import linear_calls, torch_dtype
from tokensim.profiling.kernels.runner import Call, Runner, first_line
from tokensim.profiling.timing import Policy, timed

QUICK = Policy(width=0.02, most=9, cap_s=0.2, warm_up_s=0.1)

LONG_S = 5e-3
"""The multiplication that shows a rate lasts at least this long: rates fall no further (see
``cost.tables.library``)."""

LARGEST = 16_384
"""Rows and columns of that multiplication at most."""

COPIED = 256 << 20
"""Bytes of a copy between memories: launching it does not count any more."""

READ = 1 << 28
"""Bytes read to measure the memory's bandwidth, at least; and ``OVER_CACHE`` times the cache."""

Found = TypeVar("Found")


def measured_rates(device: torch.device, facts: Facts, runner: Runner) -> Rates:
    """The rates, in some seconds. A format or a link that cannot be measured is left out, and told of; raises
    ``InputError`` where nothing can be multiplied at all."""
    failed: dict[str, str] = {}

    def tried(what: str, measure: Callable[[], Found]) -> Found | None:
        try:
            return measure()
        except DeviceLost:
            raise
        except Exception as error:  # out of memory on a device that is in use, a format without a kernel, ...
            runner.check()
            failed[what] = first_line(error)
            return None

    formats = [dtype for dtype in facts.dtypes if dtype != "int8_wo"]
    if "int8" not in facts.lacking:
        formats.append("int8")
    if device.type != "cpu" and not torch.version.hip and facts.architecture not in ("volta", "turing"):
        formats.append("tf32")
    found = {dtype: tried(dtype, partial(_flops, dtype, device, runner)) for dtype in formats}
    flops = {dtype: rate for dtype, rate in found.items() if rate is not None}
    tiny = torch.zeros(1, device=device)
    bandwidth = tried("memory", lambda: _bandwidth(device, facts, runner))
    if not flops or bandwidth is None:
        raise InputError(
            f"cannot be measured: {next(iter(failed.values()))}",
            where=facts.name,
            hint="does something else use the device?",
        )
    return Rates(
        flops=flops,
        memory_bytes_per_s=bandwidth,
        kernel_s=timed(runner.sampler([lambda: tiny.add_(1.0)]), QUICK).seconds,
        launch_s=_launch(tiny, runner),
        host_link=tried("host link", lambda: _host_link(device, runner)),
        peer_link=tried("peer copies", lambda: _peer_link(device, runner)),
        failed=failed,
    )


def _flops(dtype: str, device: torch.device, runner: Runner) -> float:
    """FLOP/s of a square multiplication, doubled in size until it lasts, or the memory is full."""
    kept = torch_dtype("float32" if dtype == "tf32" else dtype, device)
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = dtype == "tf32"
    size, rate = 512, 0.0
    try:
        while True:
            weights = random_numbers(size * size, kept, device).view(size, size)
            name = "float32" if dtype == "tf32" else dtype
            seconds = timed(runner.sampler(linear_calls([weights], size, name, device)), QUICK).seconds
            rate = 2.0 * size**3 / seconds
            if seconds >= LONG_S or size >= LARGEST:
                return rate
            size *= 2
    except torch.OutOfMemoryError:
        if rate:
            return rate
        raise
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def _bandwidth(device: torch.device, facts: Facts, runner: Runner) -> float:
    """Bytes/s: the faster of reading and of copying (which reads and writes)."""
    size = int(min(max(READ, OVER_CACHE * facts.cache_bytes), facts.memory_bytes / 8))
    source = torch.ones(size // 4, dtype=torch.float32, device=device)
    target = torch.empty_like(source)
    read = timed(runner.sampler([lambda: source.sum()]), QUICK).seconds
    copied = timed(runner.sampler([lambda: target.copy_(source)]), QUICK).seconds
    return max(size / read, 2.0 * size / copied)


def _launch(tiny: torch.Tensor, runner: Runner) -> float:
    """Seconds that the host takes to launch a kernel."""
    drawn = []
    for _ in range(20):
        runner.synchronize()
        began = time.perf_counter_ns()
        for _ in range(50):
            tiny.add_(1.0)
        drawn.append((time.perf_counter_ns() - began) / 50e9)
    runner.synchronize()
    return median(drawn)


def _host_link(device: torch.device, runner: Runner) -> tuple[str, float, float] | None:
    """Between the host's memory and the device's: the slower direction, from pinned memory."""
    if device.type == "cpu":
        return None
    there = torch.zeros(COPIED, dtype=torch.uint8, device=device)
    here = torch.zeros(COPIED, dtype=torch.uint8, pin_memory=True)
    slower = max(
        _copied(lambda: there.copy_(here, non_blocking=True), runner),
        _copied(lambda: here.copy_(there, non_blocking=True), runner),
    )
    one, other = there[:4], here[:4]
    return (
        "host link, measured",
        COPIED / slower,
        _copied(lambda: one.copy_(other, non_blocking=True), runner),
    )


def _peer_link(device: torch.device, runner: Runner) -> tuple[str, float, float] | None:
    """From this device to the next of the node."""
    if device.type == "cpu" or torch.cuda.device_count() < 2:
        return None
    other = torch.device("cuda", ((device.index or 0) + 1) % torch.cuda.device_count())
    source = torch.zeros(COPIED, dtype=torch.uint8, device=device)
    target = torch.zeros(COPIED, dtype=torch.uint8, device=other)
    seconds = _copied(lambda: target.copy_(source, non_blocking=True), runner)
    one, next_ = source[:4], target[:4]
    latency = _copied(lambda: next_.copy_(one, non_blocking=True), runner)
    direct = torch.cuda.can_device_access_peer(device, other)
    name = "peer copies, measured" if direct else "peer copies through the host, measured"
    return name, COPIED / seconds, latency


def _copied(call: Call, runner: Runner) -> float:
    """Seconds of one copy, waited for."""

    def sample(count: int) -> float:
        runner.synchronize()
        began = time.perf_counter_ns()
        for _ in range(count):
            call()
        runner.synchronize()
        return (time.perf_counter_ns() - began) / 1e9

    return timed(sample, QUICK).seconds
