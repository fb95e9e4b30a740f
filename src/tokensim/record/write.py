"""A recording as a case: ``case.yaml``, ``requests.jsonl``, and beside them the times of tokens, the server's
metrics over time, and what failed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from tokensim.errors import SimulationError
from tokensim.record.blocks import hash_ids, shares
from tokensim.record.client import Outcome
from tokensim.record.recording import Recording
from tokensim.report.atomic import write_atomic
from tokensim.scenario import yaml_text
from tokensim.validation.output import write_text

REQUESTS, TOKENS, SERVER, FAILURES = "requests.jsonl", "tokens.parquet", "server.parquet", "failures.jsonl"
FILES = ("case.yaml", REQUESTS, TOKENS, SERVER, FAILURES)
"""All that may be left; with any of them a folder has a case."""

BLOCK = 16
"""Prompt tokens an id of shared content stands for where the server does not tell its block size (vLLM's
default)."""

TOLD = ("num_gpu_blocks", "block_size", "max_model_len", "enable_prefix_caching", "max_num_seqs")
"""What a server may tell that is an option of ``engine`` in a scenario."""


def write_recording(
    folder: Path,
    recording: Recording,
    scenario: Mapping[str, Any],
    *,
    name: str,
    notes: Sequence[str] = (),
) -> list[Path]:
    """Write ``recording`` as a case with ``scenario`` (its tree, without workload) into ``folder``.

    ``notes`` follow those of the recording. Returns the files. Raises ``SimulationError`` if no request
    succeeded (what failed is written still) or the folder cannot be written.
    """
    good = _in_order(recording)
    files = []
    failed = [outcome for outcome in recording.driven.outcomes if not outcome.usable]
    _clean(folder)
    if failed:
        write_text(folder / FAILURES, "".join(json.dumps(_failure(outcome)) + "\n" for outcome in failed))
        files.append(folder / FAILURES)
    if not good:
        what = failed[0].message if failed else "stopped before the first answer"
        raise SimulationError(
            f"no request of {len(recording.workload):,} succeeded ({what}); no case was written"
        )
    rows = _rows(recording, good)
    write_text(folder / REQUESTS, "".join(json.dumps(row) + "\n" for row in rows))
    _write_parquet(folder / TOKENS, _tokens(good))
    files += [folder / REQUESTS, folder / TOKENS]
    if len(recording.series.time_s):
        _write_parquet(folder / SERVER, {"time_s": recording.series.time_s, **recording.series.columns})
        files.append(folder / SERVER)
    tree = _case(recording, dict(scenario), rows, name, [*recording.notes(), *notes])
    write_text(folder / "case.yaml", yaml_text.dump(tree))
    return [folder / "case.yaml", *files]


def _clean(folder: Path) -> None:
    """Remove the files of a case that is being replaced, so that none of them stays beside the new ones."""
    for name in FILES:
        (folder / name).unlink(missing_ok=True)


def _in_order(recording: Recording) -> list[Outcome]:
    """The usable requests as a case has them: by the time at which they count as arriving, then as they were
    sent."""
    good = recording.usable
    arrivals = _arrivals(recording, good)
    return sorted(good, key=lambda outcome: (arrivals[outcome.index], outcome.sent_s, outcome.index))


def _parents(recording: Recording, good: list[Outcome]) -> dict[int, int]:
    """Which request each one waited for, as far as that one is in the case."""
    after = recording.workload.after
    kept = {outcome.index for outcome in good}
    above = dict(recording.driven.cause)
    if after is not None:
        above |= {index: parent for index, parent in enumerate(after.tolist()) if parent >= 0}
    return {index: parent for index, parent in above.items() if index in kept and parent in kept}


def _arrivals(recording: Recording, good: list[Outcome]) -> dict[int, float]:
    """When the client meant to send each: one that waits for another has the time of the first of its
    chain, one that was sent again that of its last attempt, the only one that a replay knows."""
    workload, parents = recording.workload, _parents(recording, good)
    waits = set() if workload.after is None else set(np.flatnonzero(workload.after >= 0).tolist())
    arrivals: dict[int, float] = {}
    for outcome in sorted(good, key=lambda outcome: outcome.sent_s):
        index = outcome.index
        if index in parents:
            arrivals[index] = arrivals[parents[index]]
        elif outcome.attempts > 1:
            arrivals[index] = outcome.sent_s
        elif index in waits or index in recording.driven.cause:
            arrivals[index] = max(outcome.released_s, 0.0)
        else:
            arrivals[index] = float(workload.arrival_s[index])
    return arrivals


def _rows(recording: Recording, good: list[Outcome]) -> list[dict[str, Any]]:
    """The lines of ``requests.jsonl``."""
    workload, parents, arrivals = recording.workload, _parents(recording, good), _arrivals(recording, good)
    by_index = {outcome.index: outcome for outcome in good}
    lengths = [recording.input_tokens(outcome) for outcome in good]
    ids = None
    if shares(workload):
        answers = {outcome.index: outcome.output_tokens for outcome in good}
        ids = hash_ids(workload, [o.index for o in good], lengths, answers, _block(recording))
    rows = []
    for number, outcome in enumerate(good):
        row: dict[str, Any] = {
            "arrival_s": round(arrivals[outcome.index], 6),
            "sent_s": round(outcome.sent_s, 6),
            "input_tokens": lengths[number],
            "output_tokens": outcome.output_tokens,
            "ttft_s": round(outcome.times_s[0] - outcome.sent_s, 6),
            "e2e_s": round(outcome.times_s[-1] - outcome.sent_s, 6),
        }
        if outcome.cached_tokens >= 0:
            row["cached_tokens"] = outcome.cached_tokens
        if parents:
            row["request_id"] = str(outcome.index)
            above = by_index.get(parents.get(outcome.index, -1))
            row["after"] = "" if above is None else str(above.index)
            row["delay_s"] = 0.0 if above is None else _pause(recording, above, outcome)
        if ids is not None:
            row["hash_ids"] = ids[number]
        rows.append(row)
    return rows


def _pause(recording: Recording, above: Outcome, outcome: Outcome) -> float:
    """Seconds from the end of ``above``, for which it waited, to when it is due; to its last attempt, if it
    had several."""
    workload, index = recording.workload, outcome.index
    if outcome.attempts > 1:
        return round(max(outcome.sent_s - above.ended_s, 0.0), 6)
    if index in recording.driven.cause:
        return 0.0 if workload.think_s is None else float(workload.think_s[index])
    return 0.0 if workload.delay_s is None else float(workload.delay_s[index])


def _block(recording: Recording) -> int:
    size = recording.facts.block_size
    return size if size is not None and size > 1 else BLOCK


def _tokens(good: list[Outcome]) -> dict[str, Any]:
    """Columns of ``tokens.parquet``: a row each chunk that has tokens."""
    sizes = [len(outcome.times_s) for outcome in good]
    return {
        "request": np.repeat(np.arange(len(good), dtype=np.uint32), sizes),
        "time_s": np.concatenate([np.asarray(o.times_s) - o.sent_s for o in good]).round(6),
        "tokens": np.concatenate([np.asarray(o.counts, dtype=np.uint32) for o in good]),
    }


def _case(
    recording: Recording,
    scenario: dict[str, Any],
    rows: list[dict[str, Any]],
    name: str,
    notes: list[str],
) -> dict[str, Any]:
    facts, trueness, workload = recording.facts, recording.driven.trueness, recording.workload
    _fill_in(scenario, facts.to_dict(), notes)
    tree: dict[str, Any] = {
        "name": name,
        "source": f"tokensim record, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "measured_with": f"{facts.engine.label} {facts.version}".strip()
        + (f", {facts.model}" if facts.model else ""),
        "anchor": "client-send",
        "client": {
            "max_in_flight": workload.max_in_flight,
            "sessions": "after" in rows[0],
            "lateness": trueness.lateness.to_dict(),
            "loop_lag": trueness.lag.to_dict(),
        },
        "server": facts.to_dict(),
        "scenario": scenario,
        "requests": REQUESTS,
        "tokens": TOKENS,
    }
    if "hash_ids" in rows[0]:
        tree["hash_block_size"] = _block(recording)
    if len(recording.series.time_s):
        tree["server_series"] = SERVER
    if notes:
        tree["notes"] = notes
    return tree


def _fill_in(scenario: dict[str, Any], facts: Mapping[str, Any], notes: list[str]) -> None:
    """Put what the server tells into the ``engine`` of ``scenario`` where that does not say it, if the
    scenario is of one instance; what it says otherwise becomes a note."""
    cluster = scenario.get("cluster")
    pools = cluster.get("pools") if isinstance(cluster, dict) else None
    alone = isinstance(pools, list) and len(pools) == 1 and pools[0].get("replicas", 1) == 1
    engine = scenario.get("engine", {})
    if facts["flavour"] not in ("vllm", "llama.cpp") or not alone or not isinstance(engine, dict):
        return
    known = {**engine, **(pools[0].get("engine") or {})} if isinstance(pools, list) else engine
    told = {key: facts[key] for key in TOLD if key in facts}
    missing = {key: value for key, value in told.items() if known.get(key) is None}
    scenario["engine"] = {**engine, **missing}
    for key, value in told.items():
        if key not in missing and known[key] != value:
            notes.append(f"the server says {key} {value}, the scenario {known[key]}")
    version, theirs = facts.get("version", ""), known.get("version")
    if facts["flavour"] == "vllm" and theirs is not None and not str(version).startswith(str(theirs)):
        notes.append(f"the server says version {version or 'nothing'}, the scenario {theirs}")


def _failure(outcome: Outcome) -> dict[str, Any]:
    return {
        "request": outcome.index,
        "sent_s": round(outcome.sent_s, 6),
        "ended_s": round(outcome.ended_s, 6),
        "status": outcome.status,
        "http_status": outcome.http_status,
        "message": outcome.message,
        "chunks": len(outcome.times_s),
    }


def _write_parquet(file: Path, columns: Mapping[str, Any]) -> None:
    """Write ``columns`` (NaN as null) in one piece."""
    import polars as pl

    frame = pl.DataFrame({name: np.asarray(values) for name, values in columns.items()})
    frame = frame.with_columns(pl.selectors.float().fill_nan(None))
    write_atomic(file, lambda opened: frame.write_parquet(opened, compression="zstd"))
