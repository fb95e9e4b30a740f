"""Recordings of a fake server under a load of equal requests."""

from __future__ import annotations

from typing import Any

import numpy as np
from fake_server import Behaviour, FakeServer, running

from tokensim.record.recording import Recording
from tokensim.record.run import Options, record
from tokensim.workload.base import Workload

QUICK = Options(timeout_s=10.0, scrape_s=0.05)


def load(count: int, gap_s: float = 0.005, inputs: int = 40, outputs: int = 8, **more: Any) -> Workload:
    columns = np.arange(count) * gap_s, np.full(count, inputs), np.full(count, outputs)
    return Workload(*columns, **more)


def recorded(
    behaviour: Behaviour, workload: Workload, options: Options = QUICK
) -> tuple[Recording, FakeServer]:
    with running(behaviour) as server:
        (found,) = record(server.url, workload, options)
    return found, server
