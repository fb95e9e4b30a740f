"""What a device reaches: arithmetic in every format, memory, the shortest kernel, launches, copies."""

from __future__ import annotations

import time
from statistics import median

import torch

from tokensim.profiling.bench import Facts, Rates
from tokensim.profiling.kernels.arena import random_numbers
from tokensim.profiling.kernels.gemm import TORCH_DTYPES, linear_calls
from tokensim.profiling.kernels.runner import Call, Runner
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
"""Bytes read to measure the memory's bandwidth, at least; and one and a half times the cache."""


def measured_rates(device: torch.device, facts: Facts, runner: Runner) -> Rates:
    """The rates, in some seconds."""
    flops = {dtype: _flops(dtype, device, runner) for dtype in facts.dtypes if dtype != "int8_wo"}
    if "int8" not in facts.lacking:
        flops["int8"] = _flops("int8", device, runner)
    if device.type != "cpu" and not torch.version.hip and facts.architecture not in ("volta", "turing"):
        before = torch.backends.cuda.matmul.allow_tf32
        torch.backends.cuda.matmul.allow_tf32 = True
        flops["tf32"] = _flops("float32", device, runner)
        torch.backends.cuda.matmul.allow_tf32 = before
    tiny = torch.zeros(1, device=device)
    kernel = timed(runner.sampler([lambda: tiny.add_(1.0)]), QUICK).seconds
    return Rates(
        flops=flops,
        memory_bytes_per_s=_bandwidth(device, facts, runner),
        kernel_s=kernel,
        launch_s=_launch(tiny, runner),
        host_link=_host_link(device, runner),
        peer_link=_peer_link(device, facts, runner),
    )


def _flops(dtype: str, device: torch.device, runner: Runner) -> float:
    """FLOP/s of a square multiplication, doubled in size until it lasts."""
    size = 512
    while True:
        weights = random_numbers(size * size, TORCH_DTYPES[dtype], device).view(size, size)
        seconds = timed(runner.sampler(linear_calls([weights], size, dtype, device)), QUICK).seconds
        if seconds >= LONG_S or size >= LARGEST:
            return 2.0 * size**3 / seconds
        size *= 2

    return TORCH_DTYPES[dtype]


def _bandwidth(device: torch.device, facts: Facts, runner: Runner) -> float:
    """Bytes/s: the faster of reading and of copying (which reads and writes)."""
    size = int(min(max(READ, 1.5 * facts.cache_bytes), facts.memory_bytes / 8))
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


def _peer_link(device: torch.device, facts: Facts, runner: Runner) -> tuple[str, float, float] | None:
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
