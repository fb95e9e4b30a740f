"""Checks that the state of SGLang's scheduler does not contradict itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokensim.scheduling.local.sglang.policy import Sglang


def check(policy: Sglang) -> None:
    """Raise ``AssertionError`` if requests, running batch and KV pool disagree."""
    batch, rows = policy.batch, policy.rows
    owned = 0
    for request in policy.running:
        row = rows[request]
        alloc = batch.alloc(row) if request in batch.rows else row.alloc
        assert row.owned <= alloc, f"{request}: the tree owns more than it has"
        owned += policy.kv.held(row, alloc)
    for request in (*policy.loading, *policy.arrived, *policy.holding):
        owned += policy.kv.held(rows[request], rows[request].alloc)
    for request in (*policy.prompts, *policy.coming):
        assert rows[request].alloc == 0, f"{request} waits with memory"
    assert rows.keys() == {*policy.running, *policy.waiting, *policy.loading, *policy.holding}, "one got lost"
    retracted = sum(rows[request].retracted for request in policy.prompts)
    assert retracted == policy.retracted, f"{retracted} were retracted, not {policy.retracted}"
    for request, row in batch.rows.items():
        assert row.finished == (row in batch.over), f"{request} ended unnoticed"
    policy.pool.check_integrity(owned)
