"""A measured case: what was run, on what, and the times of every request.

A case is a folder with ``case.yaml`` (the scenario without its workload, and facts about the measurement) and
``requests.jsonl``, one request a line. ``anchor`` says what the measured times count from: ``client-send``
(``sent_s``: they contain the client, HTTP, the tokenizer and the first chunk) or ``engine-queue``
(``queued_s``: the engine core took the request in, up to a step after it arrived).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field, ValidationError

from tokensim.errors import InputError, nearest
from tokensim.scenario import yaml_text
from tokensim.scenario.problems import from_validation, refuse
from tokensim.scenario.section import Count, Flag, Name, Number, Section
from tokensim.workload.base import Floats, Ints

Anchor = Literal["client-send", "engine-queue"]

ANCHOR_FIELD: dict[Anchor, str] = {"client-send": "sent_s", "engine-queue": "queued_s"}
"""The field of a request that its times count from."""


class Spread(Section):
    """A sample of seconds."""

    p50_s: Number
    """Its median."""
    p99_s: Number
    """Its 99th percentile."""
    max_s: Number
    """Its greatest value."""


class ClientFacts(Section):
    """The client that sent the requests."""

    max_in_flight: Count | None = None
    """It held a request back while so many were in flight; null: no cap."""
    sessions: Flag = False
    """A request with ``after`` was sent ``delay_s`` after the answer to that one."""
    lateness: Spread | None = None
    """How late it sent what it should have sent."""
    loop_lag: Spread | None = None
    """How long its event loop let a timer wait: the error of its clock."""


class ServerFacts(Section):
    """What the server said of itself."""

    flavour: str = ""
    """Which engine it is."""
    version: str = ""
    """Its version."""
    model: str = ""
    """The name that it gives to the model."""
    root: str = ""
    """Where it loaded the model from, an id or a path; of an adapter, its base; "": the same as its name."""
    parent: str = ""
    """The name of the model that it is an adapter of."""
    max_model_len: Count | None = None
    """Tokens of a request at most."""
    num_gpu_blocks: Count | None = None
    """KV blocks of one engine."""
    block_size: Count | None = None
    """Tokens of a block."""
    max_num_seqs: Count | None = None
    """Requests that run at once at most."""
    enable_prefix_caching: Flag | None = None
    """Whether it finds prompts again."""


class CaseFile(Section):
    """The content of ``case.yaml``."""

    name: Name
    """For tables; the folder's name is a good one."""
    source: str = ""
    """Where the measurement comes from, and its licence."""
    measured_with: str = ""
    """Engine, version, options, load."""
    anchor: Anchor
    """What the measured times count from."""
    client: ClientFacts = ClientFacts()
    """The client that sent the requests."""
    server: ServerFacts | None = None
    """What the server said of itself."""
    hash_block_size: Count | None = None
    """Prompt tokens that one of ``hash_ids`` stands for."""
    scenario: dict[str, Any]
    """The scenario without its workload."""
    requests: Name = "requests.jsonl"
    """The file of requests, from the case's folder."""
    tokens: Name | None = None
    """A Parquet file with a row for each chunk of each answer: ``request`` (its line, from 0), ``time_s``
    (from when the request was sent) and ``tokens``."""
    server_series: Name | None = None
    """A Parquet file with the server's metrics over time: ``time_s`` (the clock of ``sent_s``) and, as far as
    it has them, ``running``, ``waiting`` (requests) and ``kv_usage`` (share of KV blocks)."""
    notes: list[str] = Field(default_factory=list)
    """What a reader of the errors should know."""


@dataclass(frozen=True, slots=True)
class Measured:
    """The requests of a case, one entry each, in order of ``arrival_s`` (seconds).

    ``anchor_s`` is what the times count from, in the same clock as ``arrival_s``; ``ttft_s`` and ``e2e_s``
    are the measured times.
    """

    arrival_s: Floats
    anchor_s: Floats
    input_tokens: Ints
    output_tokens: Ints
    ttft_s: Floats
    e2e_s: Floats


@dataclass(frozen=True, slots=True)
class Case:
    """A case that was read: its facts, its requests, and where each part stands.

    ``tree`` is the scenario without workload, its paths absolute; ``origins`` are the lines of its values.
    """

    facts: CaseFile
    file: Path
    trace: Path
    tree: dict[str, Any]
    origins: dict[yaml_text.Path, str]
    measured: Measured

    @property
    def name(self) -> str:
        """The case's name."""
        return self.facts.name


def find_cases(paths: list[Path]) -> list[Path]:
    """The ``case.yaml`` files that ``paths`` name: a file, a case's folder, or a folder of cases.

    Raises ``InputError`` for a path with no case.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_file():
            found.append(path)
        elif (path / "case.yaml").is_file():
            found.append(path / "case.yaml")
        elif path.is_dir() and (inside := sorted(path.glob("*/case.yaml"))):
            found += inside
        elif path.exists():
            raise InputError(
                "no case in this folder", where=str(path), hint="a case has case.yaml and requests.jsonl"
            )
        else:
            beside = path.parent.iterdir() if path.parent.is_dir() else ()
            names = [other.name for other in beside]
            raise InputError(
                "no such case", where=str(path), hint=nearest(path.name, names) if names else None
            )
    return found


def read_case(path: str | Path) -> Case:
    """The case whose folder or ``case.yaml`` is at ``path``; raises ``InputError`` with file and line."""
    file = Path(path)
    if file.is_dir():
        file = file / "case.yaml"
    data, lines = yaml_text.parse(_text(file), str(file))
    if not isinstance(data, dict):
        raise InputError(
            "not a case: no 'key: value' lines", where=str(file), hint="name, anchor, scenario, …"
        )
    origins = {at: f"line {line}" for at, line in lines.items() if at}
    try:
        facts = CaseFile.model_validate(data)
    except ValidationError as error:
        raise refuse(from_validation(error, CaseFile, data), str(file), origins) from None
    if "workload" in facts.scenario:
        raise InputError(
            "a case's scenario has no workload",
            where=f"{file}: {origins[('scenario', 'workload')]}",
            hint="the requests are its workload; take it out",
        )
    folder = file.absolute().parent
    trace = folder / facts.requests
    return Case(
        facts=facts,
        file=file,
        trace=trace,
        tree=from_folder(facts.scenario, folder),
        origins={at[1:]: line for at, line in origins.items() if at[0] == "scenario" and len(at) > 1},
        measured=read_requests(trace, facts.anchor),
    )


def read_requests(file: Path, anchor: Anchor) -> Measured:
    """The requests in ``file``, one JSON object a line; raises ``InputError`` naming the line."""
    anchored = ANCHOR_FIELD[anchor]
    columns: dict[str, list[float]] = {
        name: [] for name in ("arrival_s", anchored, "input_tokens", "output_tokens", "ttft_s", "e2e_s")
    }
    for where, row in _rows(file):
        for name, values in columns.items():
            values.append(_number(row, name, where, whole=name.endswith("_tokens")))
        if row["ttft_s"] <= 0 or row["e2e_s"] < row["ttft_s"]:
            raise InputError(
                f"ttft_s {row['ttft_s']:g} and e2e_s {row['e2e_s']:g} cannot be",
                where=where,
                hint=f"seconds from {anchored}: 0 < ttft_s ≤ e2e_s",
            )
    if not columns["arrival_s"]:
        raise InputError("no requests in it", where=str(file))
    order = np.argsort(columns["arrival_s"], kind="stable")

    def column(name: str, kind: type = float) -> Any:
        return np.asarray(columns[name], dtype=kind)[order]

    return Measured(
        arrival_s=column("arrival_s"),
        anchor_s=column(anchored),
        input_tokens=column("input_tokens", np.int64),
        output_tokens=column("output_tokens", np.int64),
        ttft_s=column("ttft_s"),
        e2e_s=column("e2e_s"),
    )


def _rows(file: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Each line's place and content."""
    for number, line in enumerate(_text(file).splitlines(), 1):
        if not line.strip():
            continue
        where = f"{file}:{number}"
        try:
            row = json.loads(line)
        except ValueError as error:
            raise InputError(f"not JSON: {error}", where=where, hint="one request a line") from None
        if not isinstance(row, dict):
            raise InputError("not a request", where=where, hint='one object a line: {"arrival_s": …}')
        yield where, row


def _number(row: Mapping[str, Any], name: str, where: str, *, whole: bool) -> float:
    if name not in row:
        hint = nearest(name, row) if row else None
        raise InputError(f"no '{name}' in this request", where=where, hint=hint)
    value = row[name]
    kinds = int if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or not math.isfinite(value):
        raise InputError(
            f"{name} is {value!r}", where=where, hint="a whole number" if whole else "a number of seconds"
        )
    if value < (1 if whole else 0):
        raise InputError(f"{name} is {value}", where=where, hint=f"at least {1 if whole else 0}")
    return value


def from_folder(tree: dict[str, Any], folder: Path) -> dict[str, Any]:
    """``tree`` with the files that it names counted from ``folder``."""

    def resolved(key: str, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        is_file = value.startswith(("./", "../", "~", "/")) or value.endswith((".json", ".yaml", ".yml"))
        if is_file or (key == "operators" and "/" in value):
            return str((folder / Path(value).expanduser()).resolve())
        return value

    def at(section: Any, *keys: str) -> Any:
        if not isinstance(section, dict):
            return section
        return {key: resolved(key, value) if key in keys else value for key, value in section.items()}

    result: dict[str, Any] = at(tree, "model")
    if "performance" in result:
        result["performance"] = at(result["performance"], "operators", "calibration")
    cluster = result.get("cluster")
    if isinstance(cluster, dict) and isinstance(cluster.get("pools"), list):
        result["cluster"] = {**cluster, "pools": [at(pool, "hardware") for pool in cluster["pools"]]}
    return result


def _text(file: Path) -> str:
    try:
        return file.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise InputError(
            "no such file", where=str(file), hint="a case has case.yaml and requests.jsonl"
        ) from None
    except UnicodeDecodeError:
        raise InputError("not a UTF-8 text", where=str(file)) from None
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror or error}", where=str(file)) from None
