"""What a worker process does before its first task."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Sequence

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


def _end_with(sentinel: int) -> None:
    from multiprocessing.connection import wait

    wait([sentinel])
    os._exit(1)
