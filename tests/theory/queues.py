"""What queueing theory says, and runs that it speaks of: steps of constant length, so that a request is
served for as many of them as it has output tokens."""

from __future__ import annotations

import heapq
import sys
from math import factorial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tokensim.workload import Workload

sys.path.append(
    str(Path(__file__).parent.parent / "engine")
)  # axis.py: instances with steps of constant length

STEP_S = 1e-3
MEAN_TOKENS = 1000
"""Of an answer: long enough for whole tokens to be as good as an exponential distribution (E[S²] is lower by
half a token in MEAN_TOKENS)."""
MEAN_SERVICE_S = STEP_S * MEAN_TOKENS

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def samples(load: float, servers: int, shape: tuple[int, ...], seed: int) -> tuple[Floats, Ints]:
    """Seconds between Poisson arrivals, and whole tokens of exponential answers, that keep ``servers``
    servers busy for a share ``load``."""
    rng = np.random.default_rng(seed)
    gaps = rng.standard_exponential(shape) * (MEAN_SERVICE_S / (load * servers))
    return gaps, np.maximum(1, np.rint(rng.standard_exponential(shape) * MEAN_TOKENS)).astype(np.int64)


def markov_workload(load: float, servers: int, size: int, seed: int) -> Workload:
    """``size`` requests of those."""
    gaps, tokens = samples(load, servers, (size,), seed)
    return Workload(np.cumsum(gaps), np.full(size, 4), tokens)


def waiting_times(arrival_s: Floats, service_s: Floats, servers: int) -> Floats:
    """Of a first-come-first-served queue before equal servers: Kiefer and Wolfowitz's recursion (1955), with
    one server Lindley's (1952)."""
    free = [0.0] * servers
    waits = np.empty(len(arrival_s))
    for index, (arrival, service) in enumerate(zip(arrival_s.tolist(), service_s.tolist(), strict=True)):
        begin = max(arrival, free[0])
        waits[index] = begin - arrival
        heapq.heapreplace(free, begin + service)
    return waits


def waiting_times_of_many(gaps_s: Floats, service_s: Floats, servers: int) -> Floats:
    """The same recursion for many queues side by side: one a column, a row a customer; all begin empty."""
    customers, queues = gaps_s.shape
    left = np.zeros((servers, queues))  # work before each server, the least first
    waits = np.empty((customers, queues))
    for index in range(customers):
        left = np.maximum(left - gaps_s[index], 0.0)
        waits[index] = left[0]
        left[0] += service_s[index]
        left.sort(axis=0)
    return waits


def erlang_c(servers: int, load: float) -> float:
    """The probability that an arrival waits in M/M/c (Erlang, 1917); ``load`` of each server."""
    offered = servers * load
    blocked = offered**servers / factorial(servers) / (1 - load)
    return blocked / (sum(offered**k / factorial(k) for k in range(servers)) + blocked)


def mean_wait_s(servers: int, load: float) -> float:
    """Mean time in the queue of M/M/c."""
    return erlang_c(servers, load) * MEAN_SERVICE_S / (servers * (1 - load))
