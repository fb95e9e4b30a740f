"""What a worker process does before its first task, and with each."""

from __future__ import annotations

import gc
import os
import signal
import threading
from collections.abc import Sequence

from tokensim.explore.task import Outcome, Task, evaluate

THREADS = {"POLARS_MAX_THREADS": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
"""One worker a processor: libraries in it need no threads of their own."""


def begin(plugins: Sequence[str]) -> None:
    """Load ``plugins``; leave Ctrl-C to the parent, and end when it is gone."""
    from multiprocessing import parent_process

    from tokensim.registry import load_entry_points, load_plugin

    os.environ.update(THREADS)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()
    load_entry_points()
    for plugin in plugins:
        load_plugin(plugin)


_kept = False


def work(task: Task) -> Outcome:
    """``evaluate`` in a worker, which is as large after a thousand runs as after one: a run leaves few
    objects with much memory that refer to each other, and the collector is in no hurry to find them."""
    global _kept
    outcome = evaluate(task)
    gc.collect()
    if not _kept:  # libraries and what is read once stay for good: nothing to look through again
        gc.freeze()
        _kept = True
    return outcome


def _end_with(sentinel: int) -> None:
    from multiprocessing.connection import wait

    wait([sentinel])
    os._exit(1)
