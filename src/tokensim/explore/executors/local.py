"""Runs in processes of this machine. A process that dies takes one run with it, no more."""

from __future__ import annotations

import multiprocessing
import os
import weakref
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice

from tokensim.explore.executors.worker import begin, work
from tokensim.explore.task import Outcome, Task

AHEAD = 2
"""Tasks in hand for each worker: one runs, one waits for it."""

DIED = "the process died while it ran this (out of memory, or killed)"


class LocalExecutor:
    """See ``Executor``. The processes stay for the next ``run``, with all that they have loaded, as long as
    this object is there."""

    def __init__(self, jobs: int | None = None, plugins: Sequence[str] = ()) -> None:
        self.jobs = jobs or len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else jobs or 1
        self.plugins = tuple(plugins)
        self._kept: list[ProcessPoolExecutor] = []
        # Left to the end of the interpreter, the pool's own thread and its end would race.
        weakref.finalize(self, _shut, self._kept)

    def run(self, tasks: Iterable[Task]) -> Iterator[Outcome]:
        """See ``Executor.run``."""
        left = iter(tasks)
        suspects: list[Task] = []
        while True:
            yield from self._until_broken(left, suspects)
            if not suspects:
                return
            # One of these broke the pool; alone, each shows whether it was the one.
            for task in suspects:
                yield from self._alone(task)
            suspects.clear()

    def _until_broken(self, left: Iterator[Task], suspects: list[Task]) -> Iterator[Outcome]:
        """The outcomes of tasks that are ``left``; if a process dies, ends with what was in hand in
        ``suspects``."""
        in_hand: dict[Future[Outcome], Task] = {}
        pool = self._kept.pop() if self._kept else self._pool(self.jobs)
        try:
            while True:
                for task in islice(left, AHEAD * self.jobs - len(in_hand)):
                    try:
                        in_hand[pool.submit(work, task)] = task
                    except BrokenProcessPool:
                        suspects += [*in_hand.values(), task]
                        return
                if not in_hand:
                    self._kept.append(pool)
                    return
                done, _ = wait(in_hand, return_when=FIRST_COMPLETED)
                for future in done:
                    task = in_hand.pop(future)
                    if isinstance(future.exception(), BrokenProcessPool):
                        suspects.append(task)
                    else:
                        yield future.result()
                if suspects:
                    suspects += in_hand.values()
                    return
        finally:
            if pool not in self._kept:
                running = list((pool._processes or {}).values())
                pool.shutdown(wait=False, cancel_futures=True)
                for process in running:  # nobody wants what is still running
                    process.terminate()

    def _alone(self, task: Task) -> Iterator[Outcome]:
        with self._pool(1) as pool:
            try:
                yield pool.submit(work, task).result()
            except BrokenProcessPool:
                yield Outcome(task.key, "crashed", DIED, {})

    def _pool(self, jobs: int) -> ProcessPoolExecutor:
        method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
        context = multiprocessing.get_context(method)
        if method == "forkserver":
            context.set_forkserver_preload(["tokensim.assemble", "tokensim.explore.task"])
        return ProcessPoolExecutor(jobs, context, begin, (self.plugins,))


def _shut(pools: list[ProcessPoolExecutor]) -> None:
    for pool in pools:
        pool.shutdown()
