"""What a scenario says of its requests beyond lengths and content: tenant, priority, adapter (one for a whole
session), deadline, predicted length. A trace's own columns stay as they are."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from tokensim.errors import InputError
from tokensim.scenario.traits import (
    Adapters,
    BucketPrediction,
    ConstantPrediction,
    Deadline,
    LognormalPrediction,
    Prediction,
)
from tokensim.scenario.workload import WorkloadSpec
from tokensim.workload import streams as names
from tokensim.workload.base import Floats, Ints, Workload
from tokensim.workload.streams import Streams


def with_traits(workload: Workload, spec: WorkloadSpec, streams: Streams) -> Workload:
    """``workload`` with the columns that ``spec`` asks for; refuses one that the trace has already."""
    n = len(workload)
    unit, of_request = n, np.arange(n)
    if workload.session is not None:
        values, of_request = np.unique(workload.session, return_inverse=True)
        unit = len(values)
    made: dict[str, Any] = {}
    if spec.tenants is not None:
        made["tenant"] = _weighted(streams(names.TENANTS), spec.tenants, unit)[of_request]
    if spec.priorities is not None:
        made["priority"] = _weighted(streams(names.PRIORITIES), spec.priorities, unit)[of_request]
    if spec.adapters is not None:
        made["adapter"] = _adapters(streams, spec.adapters, unit)[of_request]
    if spec.deadline is not None:
        made["deadline_s"] = _deadlines(spec.deadline, workload)
    if spec.predicted_tokens is not None:
        made["predicted_tokens"] = _predicted(streams, spec.predicted_tokens, workload.output_tokens)
    keys = {"tenant": "tenants", "priority": "priorities", "adapter": "adapters", "deadline_s": "deadline"}
    for name in made:
        if getattr(workload, name) is not None:
            raise InputError(
                f"the trace has a column '{name}' of its own",
                where=f"workload.{keys.get(name, name)}",
                hint="leave one of them out",
            )
    return replace(workload, **made)


def _weighted(rng: np.random.RandomState, weights: list[float], n: int) -> Ints:
    """``n`` numbers 0, 1, … in proportion to ``weights``."""
    cumulative = np.cumsum(weights)
    drawn = np.searchsorted(cumulative, rng.random_sample(n) * cumulative[-1], side="right")
    which: Ints = np.minimum(drawn, len(weights) - 1).astype(np.int64)
    return which


def _adapters(streams: Streams, spec: Adapters, n: int) -> Ints:
    popularity = (np.arange(spec.count) + 1.0) ** -spec.zipf
    which = _weighted(streams(names.ADAPTERS), popularity.tolist(), n)
    some = streams(names.ADAPTER_SHARE).random_sample(n) < spec.share
    return np.where(some, which, -1)


def _deadlines(spec: Deadline, workload: Workload) -> Floats:
    return (
        spec.fixed
        + spec.per_input_token * workload.input_tokens
        + spec.per_output_token * workload.output_tokens
    )


def _predicted(streams: Streams, spec: Prediction, outputs: Ints) -> Ints:
    match spec:
        case ConstantPrediction():
            return np.full(len(outputs), spec.value, dtype=np.int64)
        case LognormalPrediction():
            noise = np.exp(spec.sigma * streams(names.PREDICTIONS).standard_normal(len(outputs)))
            return np.maximum(np.rint(outputs * noise), 1).astype(np.int64)
        case BucketPrediction():
            return -(-outputs // spec.width) * spec.width
        case _:
            return outputs.copy()
