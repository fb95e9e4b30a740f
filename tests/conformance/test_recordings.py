"""Every recorded decision of the real scheduler is taken here too, and the comparison would notice if it were not."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from conformance import replay

FOLDER = Path(__file__).resolve().parents[2].parent / "shared" / "vllm"
NEEDS_MORE = ("x_pp", "x_spec", "x_async_spec")  # pipeline parallelism, speculation: not modelled yet
PATHS = sorted(FOLDER.glob("golden*/*.jsonl.gz"))
MODELLED = [path for path in PATHS if not path.name.startswith(NEEDS_MORE)]

without_recordings = pytest.mark.skipif(not PATHS, reason="the recordings (../shared/vllm) are not there")


def name_of(path: Path) -> str:
    return f"{path.parent.name}/{path.name.removesuffix('.jsonl.gz')}"


@without_recordings
@pytest.mark.parametrize("path", MODELLED or [Path("absent")], ids=name_of)
def test_every_decision_of_the_recording_is_taken(path: Path) -> None:
    assert replay.check(path) == []


@without_recordings
@pytest.mark.parametrize("name", ["x_pp2_sync", "x_spec3_light", "x_async_spec3_light"])
def test_a_recording_that_needs_what_is_not_modelled_does_not_match(name: str) -> None:
    (only,) = replay.check(FOLDER / "golden" / f"{name}.jsonl.gz")
    assert only.startswith("not modelled yet: ")


Record = dict[str, Any]


@cache
def recorded(name: str) -> str:
    with gzip.open(FOLDER / "golden" / f"{name}.jsonl.gz", "rt", encoding="utf-8") as file:
        return file.read()


def altered(name: str, change: Callable[[list[Record]], None], folder: Path) -> Path:
    """A copy of a recording with ``change`` made to its header and lines."""
    lines = [json.loads(text) for text in recorded(name).splitlines()]
    before = json.dumps(lines)
    change(lines)
    assert json.dumps(lines) != before, "nothing was altered"
    path = folder / "altered.jsonl.gz"
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)
    return path


def first(lines: list[Record], key: str) -> Record:
    """The first line from the tenth on that has something under ``key``."""
    return next(line for line in lines[10:] if line.get(key))


def more_tokens(lines: list[Record]) -> None:
    first(lines, "s")["s"][0][1] += 1


def fewer_computed_before(lines: list[Record]) -> None:
    first(lines, "s")["s"][0][2] -= 1


def other_order(lines: list[Record]) -> None:
    next(line for line in lines[1:] if len(line.get("s", ())) > 1)["s"].reverse()


def hit_of_another_size(lines: list[Record]) -> None:
    first(lines, "hit")["hit"][0][1] += 16


def without(key: str) -> Callable[[list[Record]], None]:
    def change(lines: list[Record]) -> None:
        del first(lines, key)[key]

    change.__name__ = f"without_{key}"
    return change


def one_more(key: str) -> Callable[[list[Record]], None]:
    def change(lines: list[Record]) -> None:
        first(lines, key)[key] += 1

    change.__name__ = f"one_more_{key}"
    return change


def a_line_missing(lines: list[Record]) -> None:
    del lines[20]


def the_end_missing(lines: list[Record]) -> None:
    del lines[-5:]


def an_unknown_field(lines: list[Record]) -> None:
    lines[20]["novel"] = 1


def an_unknown_option(lines: list[Record]) -> None:
    lines[0]["config"]["novel_option"] = 7


def another_budget(lines: list[Record]) -> None:
    lines[0]["config"]["max_num_batched_tokens"] -= 1


def a_longer_prompt(lines: list[Record]) -> None:
    lines[0]["requests"][5]["prompt"][-1][1] += 16


def a_later_arrival(lines: list[Record]) -> None:
    lines[0]["requests"][5]["arrive"] += 1


CHANGES = [
    *(more_tokens, fewer_computed_before, other_order, hit_of_another_size),
    *(without(key) for key in ("add", "new", "res", "pre", "hit", "fin", "fs")),
    *(one_more(key) for key in ("t", "u", "f", "w", "r", "ch", "fs", "rs")),
    *(a_line_missing, the_end_missing, an_unknown_field, an_unknown_option),
    *(another_budget, a_longer_prompt, a_later_arrival),
]


@without_recordings
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_recording_altered_in_one_place_does_not_match(
    change: Callable[[list[Record]], None], tmp_path: Path
) -> None:
    assert replay.check(altered("x_async_block1_pressure_small", change, tmp_path)) != []
