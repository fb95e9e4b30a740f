"""Collectives among several devices, or several processes on CPUs, with ``torch.distributed``.

Each rank is a process. The parent says what to run and how often; a sample is what the slowest rank took.
"""

from __future__ import annotations

import os
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from tokensim.profiling.bench import Unmeasurable
from tokensim.profiling.shapes import Shape

PATIENCE_S = 120.0
"""Starting ranks, or one sample, must not take longer."""


class Ranks:
    """Processes that run collectives; the first ``ranks`` devices of ``kind``, one each."""

    def __init__(self, kind: str, backend: str, ranks: int) -> None:
        context = torch.multiprocessing.get_context("spawn")
        self._folder = tempfile.TemporaryDirectory(prefix="tokensim-ranks-")
        meeting = Path(self._folder.name) / "meeting"
        self._pipes: list[Connection] = []
        self._processes: list[Any] = []
        for rank in range(ranks):
            mine, theirs = context.Pipe()
            process = context.Process(
                target=_serve, args=(theirs, kind, backend, rank, ranks, str(meeting)), daemon=True
            )
            process.start()
            theirs.close()
            self._pipes.append(mine)
            self._processes.append(process)
        self._answers()

    def sample(self, shape: Shape, count: int) -> float:
        """Seconds of ``count`` collectives; raises ``Unmeasurable`` where a rank fails."""
        for pipe in self._pipes:
            pipe.send((shape["collective"], shape["bytes"], count))
        return max(self._answers())

    def close(self) -> None:
        """End the processes."""
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            process.join(5.0)
            if process.is_alive():
                process.terminate()
        self._folder.cleanup()

    def _answers(self) -> list[float]:
        answers: list[float] = []
        for pipe in self._pipes:
            if not pipe.poll(PATIENCE_S):
                raise Unmeasurable(f"a rank of a collective did not answer for {PATIENCE_S:.0f} s")
            try:
                answer = pipe.recv()
            except EOFError:
                raise Unmeasurable("a rank of a collective ended") from None
            if isinstance(answer, str):
                raise Unmeasurable(answer)
            answers.append(float(answer))
        return answers


def _serve(pipe: Connection, kind: str, backend: str, rank: int, ranks: int, meeting: str) -> None:
    """One rank: run what the parent asks for until it closes the pipe."""
    import torch.distributed as dist

    try:
        if kind == "cpu":
            torch.set_num_threads(max(1, (os.cpu_count() or 1) // ranks))
        else:
            torch.cuda.set_device(rank)
        dist.init_process_group(backend, init_method=f"file://{meeting}", rank=rank, world_size=ranks)
        device = torch.device(kind, rank) if kind != "cpu" else torch.device("cpu")
        buffers: dict[tuple[str, int], Any] = {}
        pipe.send(0.0)
        while True:
            collective, size, count = pipe.recv()
            key = (collective, size)
            if key not in buffers:
                buffers.clear()
                buffers[key] = _call(dist, collective, size, ranks, device)
            pipe.send(_timed(dist, buffers[key], count, device))
    except (EOFError, KeyboardInterrupt, BrokenPipeError):
        return
    except (RuntimeError, ValueError, NotImplementedError) as error:
        pipe.send(str(error).strip().split("\n")[0][:200])
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def _timed(dist: Any, call: Any, count: int, device: torch.device) -> float:
    dist.barrier()
    if device.type == "cpu":
        began = time.perf_counter_ns()
        for _ in range(count):
            call()
        return (time.perf_counter_ns() - began) / 1e9
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(count):
        call()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / 1e3


def _call(dist: Any, collective: str, size: int, ranks: int, device: torch.device) -> Any:
    """One collective whose whole buffer has about ``size`` bytes of 16-bit numbers (a multiple of the
    ranks)."""
    count = max(1, round(size / 2 / ranks)) * ranks
    whole = torch.zeros(count, dtype=torch.bfloat16, device=device)
    part = torch.zeros(count // ranks, dtype=torch.bfloat16, device=device)
    if collective == "all_reduce":
        return lambda: dist.all_reduce(whole)
    if collective == "all_gather":
        gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor  # its newer name
        return lambda: gather(whole, part)
    if collective == "reduce_scatter":
        scatter = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor
        return lambda: scatter(part, whole)
    other = torch.zeros_like(whole)
    return lambda: dist.all_to_all_single(other, whole)
