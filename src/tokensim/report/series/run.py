"""All data of the figures of one run, and the file ``figures.json`` that keeps it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokensim.errors import InputError
from tokensim.metrics.log import RunLog
from tokensim.metrics.pool_time import PoolOperator
from tokensim.metrics.summary import Summary
from tokensim.metrics.usage import Standing
from tokensim.report.header import Header
from tokensim.report.series.base import Columns, columns
from tokensim.report.series.latency import latency_cdfs, latency_over_time, latency_sample
from tokensim.report.series.load import load_over_time, throughput_over_time
from tokensim.report.series.spans import request_spans

FORMAT = 2
"""Of ``figures.json``: rises when a table changes its meaning."""


@dataclass(frozen=True, slots=True)
class Roof:
    """What one device of a pool can do at most: ``flops_per_s`` at ``dtype``, ``bytes_per_s`` of memory."""

    pool: str
    device: str
    dtype: str
    flops_per_s: float
    bytes_per_s: float


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What a log does not say of its run: the names of its ``instances``, the pool that each belongs to, a
    ``header``, the ``roofs`` of the devices, the time of the operators by pool, and when each instance
    stood."""

    header: Header
    instances: tuple[str, ...]
    pools: tuple[str, ...]
    roofs: tuple[Roof, ...] = ()
    operators: tuple[PoolOperator, ...] = ()
    standing: Standing | None = None
    """None: all stood from the start to the end."""


@dataclass(frozen=True, slots=True)
class RunData:
    """What the figures and the page of a run are made from; ``summary`` is the tree of ``summary.json``."""

    title: str
    lines: tuple[tuple[str, str], ...]
    instances: tuple[str, ...]
    pools: tuple[str, ...]
    summary: Mapping[str, Any]
    scenario_yaml: str
    tables: Mapping[str, Columns]


def run_data(log: RunLog, summary: Summary, facts: RunFacts, scenario_yaml: str) -> RunData:
    """The data of the run in ``log``; its size does not grow with the run."""
    names = list(facts.instances)
    return RunData(
        title=facts.header.title,
        lines=facts.header.lines,
        instances=facts.instances,
        pools=facts.pools,
        summary=summary.to_dict(),
        scenario_yaml=scenario_yaml,
        tables={
            "cdfs": latency_cdfs(log),
            "latency": latency_over_time(log),
            "sample": latency_sample(log, names),
            "load": load_over_time(log, names, facts.pools, facts.standing),
            "throughput": throughput_over_time(log),
            "spans": request_spans(log, names),
            "operators": _operators(facts.operators),
            "roofs": columns(
                **{name: [getattr(roof, name) for roof in facts.roofs] for name in Roof.__slots__}
            ),
        },
    )


def _operators(operators: Sequence[PoolOperator]) -> Columns:
    """A row an operator and bound; FLOPs and bytes are the operator's, under all bounds."""
    entries = [(o, bound, s) for o in operators for bound, s in o.bounds.items() if s > 0]
    return columns(
        pool=[o.pool for o, _, _ in entries],
        operator=[o.operator for o, _, _ in entries],
        kind=[o.kind for o, _, _ in entries],
        source=[o.source for o, _, _ in entries],
        bound=[bound for _, bound, _ in entries],
        seconds=[s for _, _, s in entries],
        flops=[o.flops for o, _, _ in entries],
        bytes=[o.bytes for o, _, _ in entries],
    )


def figures_json(data: RunData) -> str:
    """The text of ``figures.json``: a table a line."""
    head = {
        "format": FORMAT,
        "title": data.title,
        "lines": data.lines,
        "instances": data.instances,
        "pools": data.pools,
    }
    lines = [f"  {json.dumps(name)}: {_dump(value)}" for name, value in head.items()]
    tables = [f"    {json.dumps(name)}: {_dump(table)}" for name, table in data.tables.items()]
    lines.append('  "tables": {\n' + ",\n".join(tables) + "\n  }")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _dump(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def read_run(folder: Path) -> RunData:
    """The data of the run whose files lie in ``folder``; raises ``InputError`` for what is no such folder."""
    hint = "give a folder that `tokensim run` wrote, e.g. runs/quickstart"
    if not folder.is_dir():
        raise InputError("there is no such folder", where=str(folder), hint=hint)
    texts = {}
    for name in ("summary.json", "figures.json", "scenario.yaml"):
        path = folder / name
        try:
            texts[name] = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise InputError(f"has no {name}", where=str(folder), hint=hint) from None
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"cannot be read: {error}", where=str(path), hint=hint) from None
    trees = {}
    for name in ("summary.json", "figures.json"):
        try:
            trees[name] = json.loads(texts[name])
        except json.JSONDecodeError as error:
            raise InputError(f"is no JSON: {error}", where=str(folder / name), hint=hint) from None
    figures = trees["figures.json"]
    if figures.get("format") != FORMAT:
        raise InputError(
            f"has format {figures.get('format')}, this version reads {FORMAT}",
            where=str(folder / "figures.json"),
            hint="run the scenario again: tokensim run scenario.yaml",
        )
    return RunData(
        title=figures["title"],
        lines=tuple((label, text) for label, text in figures["lines"]),
        instances=tuple(figures["instances"]),
        pools=tuple(figures["pools"]),
        summary=trees["summary.json"],
        scenario_yaml=texts["scenario.yaml"],
        tables=figures["tables"],
    )
