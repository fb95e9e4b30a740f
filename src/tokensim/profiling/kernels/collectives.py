"""Collectives among several devices, or several processes on CPUs, with ``torch.distributed``.

Each rank is a process. The parent says what to run and how often; a sample is what the slowest rank took.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from math import ceil
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import torch

from tokensim.profiling.bench import Unmeasurable
from tokensim.profiling.kernels.runner import (
    GRAPH_CALLS,
    HEAD_CYCLES,
    Call,
    busy,
    first_line,
    graph_of,
    on_device,
    on_host,
)
from tokensim.profiling.shapes import Shape

PATIENCE_S = 60.0
"""Starting ranks, or one sample, must not take longer."""

GRAPH_BYTES = 4 << 20
"""A collective that is larger has a CUDA graph of its own: it takes longer than a launch."""


class Ranks:
    """Processes that run collectives; the first ``ranks`` devices of ``kind``, one each. Raises
    ``Unmeasurable`` where they do not start."""

    def __init__(self, kind: str, backend: str, ranks: int) -> None:
        context = torch.multiprocessing.get_context("spawn")
        self._folder = tempfile.TemporaryDirectory(prefix="tokensim-ranks-")
        meeting = Path(self._folder.name) / "meeting"
        self._pipes: list[Connection] = []
        self._processes: list[Any] = []
        try:
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
        except BaseException:
            self.close()
            raise

    def sample(self, shape: Shape, count: int) -> float:
        """Seconds of ``count`` collectives; raises ``Unmeasurable`` or ``OSError`` where a rank fails, after
        which the others may wait for it: ``close`` them."""
        for pipe in self._pipes:
            pipe.send((shape["collective"], shape["bytes"], count))
        return max(self._answers())

    def close(self) -> None:
        """End the processes."""
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            process.join(0.5)
            if process.is_alive():  # it waits for another rank
                process.kill()
                process.join()
        self._folder.cleanup()

    def _answers(self) -> list[float]:
        """What the ranks say, in the order in which they say it: one that fails is heard before those that
        wait for it."""
        answers: list[float] = []
        until = time.monotonic() + PATIENCE_S
        waiting = list(self._pipes)
        while waiting:
            ready = wait(waiting, max(0.0, until - time.monotonic()))
            if not ready:
                raise Unmeasurable(f"a rank of a collective did not answer for {PATIENCE_S:.0f} s")
            for pipe in waiting[:]:
                if pipe not in ready:
                    continue
                try:
                    answer = pipe.recv()
                except EOFError:
                    raise Unmeasurable("a rank of a collective ended") from None
                if isinstance(answer, str):
                    raise Unmeasurable(answer)
                answers.append(float(answer))
                waiting.remove(pipe)
        return answers


def _serve(pipe: Connection, kind: str, backend: str, rank: int, ranks: int, meeting: str) -> None:
    """One rank: run what the parent asks for until it closes the pipe."""
    import torch.distributed as dist

    rows: dict[tuple[str, int], Row] = {}
    try:
        if kind == "cpu":
            torch.set_num_threads(max(1, (os.cpu_count() or 1) // ranks))
        else:
            torch.cuda.set_device(rank)
        dist.init_process_group(
            backend,
            init_method=f"file://{meeting}",
            rank=rank,
            world_size=ranks,
            timeout=timedelta(seconds=PATIENCE_S),
        )
        device = torch.device(kind, rank) if kind != "cpu" else torch.device("cpu")
        pipe.send(0.0)
        while True:
            collective, size, count = pipe.recv()
            key = (collective, size)
            if key not in rows:
                rows.clear()
                rows[key] = _row(_call(dist, collective, size, ranks, device), size, device)
            dist.barrier()
            pipe.send(rows[key](count))
    except (EOFError, KeyboardInterrupt, BrokenPipeError):
        rows.clear()
        if dist.is_initialized():
            dist.destroy_process_group()
    except Exception as error:  # whatever a library without the collective raises: the parent tells of it
        with contextlib.suppress(OSError):
            pipe.send(first_line(error))  # the others may wait for this rank: the parent ends them


Row = Callable[[int], float]
"""Seconds that so many collectives take."""


def _row(call: Call, size: int, device: torch.device) -> Row:
    if device.type == "cpu":
        return on_host([call])
    for _ in range(3):  # libraries connect the ranks, and choose algorithms, at their first calls
        call()
    length = GRAPH_CALLS if size <= GRAPH_BYTES else 1  # the same for all ranks, captured or not

    def one_by_one() -> None:
        for _ in range(length):
            call()

    try:
        graph = graph_of([call], length, device, "thread_local")  # NCCL's watchdog asks meanwhile
    except RuntimeError:
        return partial(_together, call, one_by_one, length)
    return partial(_together, call, graph.replay, length)


def _together(call: Call, many: Call, length: int, count: int) -> float:
    """Seconds of ``count`` collectives, ``length`` of which are ``many``, after one that brings the ranks
    together; while they spin, the host launches."""
    times = ceil(count / length)
    busy(HEAD_CYCLES)
    call()
    return on_device(many, times) * count / (times * length)


def _call(dist: Any, collective: str, size: int, ranks: int, device: torch.device) -> Call:
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
