"""A recording of SGLang that was altered in one place, and a rule that was: the comparison notices both."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from conformance import recordings, replay
from tokensim.memory.radix import RadixPool
from tokensim.scheduling.local.sglang import admission, batch, budget, order, policy
from tokensim.scheduling.local.sglang.kv import Kv
from tokensim.scheduling.local.sglang.ratio import NewTokenRatio
from tokensim.scheduling.local.sglang.row import Flight, Row

FOLDER = Path(__file__).resolve().parents[2].parent / "shared" / "sglang" / "golden"
Record = dict[str, Any]
FIRST = 500  # lines of an excerpt; retractions and resumptions are among them
MORE = 800

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="the recordings (../shared/sglang) are not there")


@cache
def excerpt(name: str, lines: int = FIRST) -> str:
    """The first lines of a recording as one of its own, in JSON."""
    header, *rest = recordings.lines_of(FOLDER / f"{name}.jsonl.gz")
    del rest[lines:]
    finished = {number for line in rest for number in line.get("fin", ())}
    unfinished = [record["id"] for record in header["requests"] if record["id"] not in finished]
    header["summary"] |= {"lines": len(rest), "unfinished": unfinished}
    return json.dumps([header, *rest])


def differences(lines: list[Record], folder: Path) -> list[str]:
    path = folder / "excerpt.jsonl.gz"
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)
    return replay.check(path)


ANY = "retract_mixed_overlap"


@pytest.mark.parametrize("key", ["t", "u", "ntr", "av", "ev", "pr", "w", "r", "wc", "cr", "prs"])
def test_another_number_is_noticed(key: str, tmp_path: Path) -> None:
    lines = json.loads(excerpt(ANY))
    next(line for line in lines[10:] if line.get(key))[key] += 1
    assert differences(lines, tmp_path) != []


@pytest.mark.parametrize("key", ["add", "s", "d", "new", "res", "hit", "ret", "fin", "full", "k"])
def test_a_field_that_is_missing_is_noticed(key: str, tmp_path: Path) -> None:
    lines = json.loads(excerpt("multiturn" if key == "hit" else ANY))
    del next(line for line in lines[10:] if line.get(key))[key]
    assert differences(lines, tmp_path) != []


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("max_total_num_tokens", 3200),
        ("chunked_prefill_size", 64),
        ("max_running_requests", 5),
        ("schedule_conservativeness", 0.9),
        ("retract_decode_steps", 1),
        ("schedule_policy", "lof"),
        ("disable_radix_cache", True),
    ],
)
def test_another_setting_is_noticed(key: str, value: object, tmp_path: Path) -> None:
    lines = json.loads(excerpt(ANY))
    assert lines[0]["config"][key] != value
    lines[0]["config"][key] = value
    assert differences(lines, tmp_path) != []


def test_an_option_and_a_field_that_nobody_knows_are_refused(tmp_path: Path) -> None:
    lines = json.loads(excerpt(ANY))
    lines[0]["config"]["novel"] = 7
    assert differences(lines, tmp_path) == ["not modelled yet: the option novel=7"]
    lines = json.loads(excerpt(ANY))
    lines[5]["novel"] = 7
    assert differences(lines, tmp_path) == ["not modelled yet: the fields ['novel']"]


def no_page_is_charged(self: budget.Budget, tokens: int, outputs: int) -> None:
    CHARGE(self, tokens - self.page, outputs)


def newest_first(self: RadixPool, leaf: Any) -> None:
    leaf.time = -leaf.time
    QUEUE(self, leaf)


def at_the_front(self: batch.RunningBatch, rows: list[Row], *, front: bool) -> None:
    JOIN(self, rows, front=not front)


def no_boundary(self: RadixPool, node: Any, at: int) -> None: ...


def never_falls(self: NewTokenRatio, steps: int = 1) -> None: ...


def to_the_end(self: admission.Admission, candidate: int) -> int:
    return candidate


def nothing_foreseen(self: batch.RunningBatch) -> list[Row]:
    return []


def whole_flag(self: policy.Sglang, last: Flight) -> None:
    full = self.batch.full
    MERGE(self, last)
    self.batch.full = full


def no_refresh(self: order.WaitingOrder) -> None: ...


def only_to_the_prompt(self: Kv, row: Row, tokens: int) -> None:
    CHECKPOINT(self, row, min(tokens, row.prompt))


CHARGE = budget.Budget.charge
QUEUE = RadixPool._queue
JOIN = batch.RunningBatch.join
MERGE = policy.Sglang._merge
CHECKPOINT = Kv.checkpoint
OUTS = batch.DecodeBatch.outs

WRONG: list[tuple[str, type, str, Callable[..., Any]]] = [
    ("multiturn_page16_lpm", budget.Budget, "charge", no_page_is_charged),
    ("shared_sys_evict_fcfs", RadixPool, "_queue", newest_first),
    ("retract_mixed", batch.RunningBatch, "join", at_the_front),
    ("retract_chunked", RadixPool, "divide", no_boundary),
    ("retract", NewTokenRatio, "fall", never_falls),
    ("chunked_long", admission.Admission, "_share", to_the_end),
    ("light_overlap", batch.DecodeBatch, "foreseen", nothing_foreseen),
    ("pressure_eos_burst", policy.Sglang, "_merge", whole_flag),
    ("waiting_refresh_evict", order.WaitingOrder, "_refresh", no_refresh),
    ("multiturn", Kv, "checkpoint", only_to_the_prompt),
]


@pytest.mark.parametrize(
    ("name", "where", "rule", "wrong"), WRONG, ids=lambda value: getattr(value, "__name__", "")
)
def test_a_wrong_rule_is_caught(
    name: str,
    where: type,
    rule: str,
    wrong: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines = json.loads(excerpt(name, MORE))
    assert differences(lines, tmp_path) == []
    monkeypatch.setattr(where, rule, wrong)
    assert differences(lines, tmp_path) != []


def test_a_retraction_that_does_not_look_at_outputs_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = json.loads(excerpt(ANY))
    monkeypatch.setattr(batch.DecodeBatch, "outs", lambda self, row: OUTS(self, row) // 1000)
    assert differences(lines, tmp_path) != []
