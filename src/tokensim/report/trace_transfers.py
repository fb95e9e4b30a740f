"""Transfers in the timeline: a process "network" with a slice for each, and arrows between the instances.

A slice lies on the track of its pair of instances; those that overlap lie below each other. The arrow of a
transfer leads from the step that ran on its source when it started to the one on its target when it ended.
Stretches of KV that requests loaded from memory tiers are slices of the instance that took them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from tokensim.metrics.log import LoadRows, RunLog, TransferRows

ELSEWHERE = "elsewhere"
"""The end of a transfer that is no instance."""


def transfer_events(
    log: RunLog, names: Sequence[str], until_s: float, stamp: Callable[[float], str]
) -> Iterator[str]:
    """The events of the transfers and loads that started before ``until_s``; instance i is process i + 1, the
    network comes after all of them. ``stamp`` writes a time in seconds as the format wants it."""
    if log.transfers is not None and len(log.transfers.start_s):
        yield from _transfers(log.transfers, names, until_s, stamp)
    if log.loads is not None:
        yield from _loads(log, log.loads, until_s, stamp)


def _transfers(
    rows: TransferRows, names: Sequence[str], until_s: float, stamp: Callable[[float], str]
) -> Iterator[str]:
    network = len(names) + 1
    yield (
        f'{{"ph": "M", "pid": {network}, "tid": 0, "name": "process_name", "args": {{"name": "network"}}}}'
    )
    shown = np.flatnonzero(rows.start_s < until_s)
    shown = shown[np.argsort(rows.start_s[shown], kind="stable")]
    for i in shown.tolist():
        source, target = int(rows.source[i]), int(rows.target[i])
        start, end = float(rows.start_s[i]), float(rows.end_s[i])
        pair = " → ".join(names[k] if k >= 0 else ELSEWHERE for k in (source, target))
        rate = rows.bytes[i] / (end - start) / 1e9 if end > start else 0.0
        args = json.dumps(
            {
                "kind": rows.kinds[int(rows.kind[i])],
                "bytes": float(rows.bytes[i]),
                "GB/s": float(f"{rate:.4g}"),
                "arrived": bool(rows.arrived[i]),
            }
        )
        at = f'"cat": "transfer", "id": "t{i}", "pid": {network}, "tid": 0, "name": {json.dumps(pair)}'
        yield f'{{"ph": "b", {at}, "ts": {stamp(start)}, "args": {args}}}'
        yield f'{{"ph": "e", {at}, "ts": {stamp(end)}}}'
        if source >= 0 and target >= 0 and rows.arrived[i]:
            arrow = f'"cat": "transfer", "id": {i}, "tid": 0, "name": "KV"'
            yield f'{{"ph": "s", {arrow}, "pid": {source + 1}, "ts": {stamp(start)}}}'
            yield f'{{"ph": "f", "bp": "e", {arrow}, "pid": {target + 1}, "ts": {stamp(end)}}}'


def _loads(log: RunLog, loads: LoadRows, until_s: float, stamp: Callable[[float], str]) -> Iterator[str]:
    for i in np.flatnonzero(loads.start_s < until_s).tolist():
        where = int(log.requests.instance[loads.request[i]])
        if where < 0:
            continue
        name = json.dumps(f"load from {log.tiers[int(loads.tier[i])].name}")
        at = f'"cat": "load", "id": "l{i}", "pid": {where + 1}, "tid": 0, "name": {name}'
        args = json.dumps(
            {
                "request": int(loads.request[i]),
                "tokens": int(loads.tokens[i]),
                "bytes": float(loads.bytes[i]),
            }
        )
        yield f'{{"ph": "b", {at}, "ts": {stamp(float(loads.start_s[i]))}, "args": {args}}}'
        yield f'{{"ph": "e", {at}, "ts": {stamp(float(loads.end_s[i]))}}}'
