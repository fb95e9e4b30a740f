"""The parts that a ``workload:`` section names, made from their keys: arrival processes, lengths."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel

from tokensim.errors import InputError
from tokensim.registry import Registry, register
from tokensim.scenario.lengths import JointLengths
from tokensim.scenario.workload import WorkloadSpec
from tokensim.workload import streams as names
from tokensim.workload.arrivals import ArrivalProcess, Arrivals
from tokensim.workload.base import Ints
from tokensim.workload.lengths import Joint, LengthDistribution
from tokensim.workload.source import resolve
from tokensim.workload.streams import Streams
from tokensim.workload.table import read_table


def part(registry: Registry, key: str, spec: BaseModel, folder: Path) -> Any:
    """The registered class that ``spec`` names under ``key``, made from the other keys."""
    keys = {name: getattr(spec, name) for name in type(spec).model_fields if name != key}
    keys |= spec.model_extra or {}
    if isinstance(keys.get("path"), str):
        keys["path"] = resolve(keys["path"], folder)
    return registry.get(getattr(spec, key), where="workload")(**keys)


def arrivals_of(
    spec: WorkloadSpec, streams: Streams, count: int | None, duration_s: float | None
) -> Arrivals:
    """``count`` arrivals, or those before ``duration_s``; raises ``InputError`` if there are none."""
    assert spec.arrivals is not None
    process: ArrivalProcess = part(register.arrival_process, "process", spec.arrivals, Path())
    arrivals = process.sample(streams, count, duration_s)
    if count is None and not len(arrivals.arrival_s):
        raise InputError(
            f"no request arrives within {duration_s:g} s",
            where="workload.duration",
            hint="lengthen duration or raise the rate",
        )
    if count is not None and len(arrivals.arrival_s) != count:
        raise InputError(
            f"gave {len(arrivals.arrival_s)} arrivals where {count} were asked for",
            where=f"the arrival process '{spec.arrivals.process}'",
        )
    return arrivals


def lengths_of(spec: BaseModel | None, folder: Path) -> LengthDistribution:
    """The length distribution that ``spec`` names."""
    assert spec is not None
    made: LengthDistribution = part(register.length_distribution, "distribution", spec, folder)
    return made


def lengths_drawn(spec: WorkloadSpec, streams: Streams, n: int, folder: Path) -> tuple[Ints, Ints]:
    """Input and output tokens of ``n`` requests; outputs are 0 where there is no answer."""
    if spec.lengths is not None:
        return joint_of(spec.lengths, folder).sample(streams(names.JOINT_LENGTHS), n)
    inputs = lengths_of(spec.input_tokens, folder).sample(streams(names.INPUT_LENGTHS), n)
    if spec.task != "generate":
        return inputs, np.zeros(n, dtype=np.int64)
    return inputs, lengths_of(spec.output_tokens, folder).sample(streams(names.OUTPUT_LENGTHS), n)


def joint_of(spec: JointLengths, folder: Path) -> Joint:
    """The pairs of lengths that ``spec`` gives."""
    if spec.pairs is not None:
        pairs = np.array(spec.pairs, dtype=np.int64)
        return Joint(pairs[:, 0].copy(), pairs[:, 1].copy())
    assert spec.path is not None
    table = read_table(resolve(spec.path, folder))
    return Joint(table.tokens(spec.input_column, least=1), table.tokens(spec.output_column, least=1))
