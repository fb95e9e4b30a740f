"""The figures that a run ends with, by name: which there are, short names for those that people want, and a
check that refuses what none could be.

They are the leaves of ``Summary`` (``latency.ttft_s.p99``); in a list they stand under the name of their
entry (``spending.pools.serve.account.usd``), which only the run knows, so any name goes there.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

from tokensim.errors import InputError, nearest
from tokensim.explore.task import LABELS

ALIASES = {
    "cost": "spending.usd_per_million_total_tokens",
    "energy": "spending.energy_kwh",
    "throughput": "throughput.output_tokens_per_s",
    "goodput": "slo.goodput_per_s",
    "latency": "latency.e2e_s.p99",
    "ttft": "latency.ttft_s.p99",
    "tpot": "latency.tpot_s.p99",
}
"""Short names. ``cost`` is of all tokens: how a bill splits between input and output shifts with the plan."""

ANY = "*"


def in_seconds(name: str) -> bool:
    """Whether the figure ``name`` is a duration."""
    return any(part.endswith("_s") and not part.endswith("per_s") for part in name.split("."))


@cache
def figure_names() -> tuple[str, ...]:
    """Every number in a summary, by dotted path; ``*`` stands for the name of an entry."""
    from tokensim.metrics.summary import Summary

    return tuple(dict.fromkeys(_leaves(Summary, "")))


def _leaves(kind: Any, path: str) -> Iterator[str]:
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        for inner in typing.get_args(kind):
            yield from _leaves(inner, path)
    elif dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        for field in dataclasses.fields(kind):
            yield from _leaves(hints[field.name], f"{path}.{field.name}" if path else field.name)
    elif origin is dict:
        yield from _leaves(typing.get_args(kind)[1], f"{path}.{ANY}")
    elif origin in (tuple, list, Sequence) and dataclasses.is_dataclass(typing.get_args(kind)[0]):
        entry = typing.get_args(kind)[0]
        label = next((name for name in LABELS if name in typing.get_type_hints(entry)), None)
        if label is not None:  # as ``task.flatten`` has it
            yield from (leaf for leaf in _leaves(entry, f"{path}.{ANY}") if leaf != f"{path}.{ANY}.{label}")
    elif kind in (int, float, bool):
        yield path


def figure(name: str, where: str) -> str:
    """The full name of the figure ``name``, which may be an alias; raises ``InputError``."""
    full = ALIASES.get(name, name)
    parts = full.split(".")
    for known in figure_names():
        pattern = known.split(".")
        if len(pattern) == len(parts) and all(
            want in (ANY, part) for want, part in zip(pattern, parts, strict=True)
        ):
            return full
    names = (*ALIASES, *(known for known in figure_names() if ANY not in known))
    raise InputError(f"a run has no figure '{name}'", where=where, hint=nearest(name, names))
