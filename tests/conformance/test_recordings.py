"""Every recorded decision of the real scheduler is taken here too; if not, the comparison would notice."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from conformance import recordings, replay

SHARED = Path(__file__).resolve().parents[2].parent / "shared"
FOLDER = SHARED / "vllm"
SGLANG = sorted((SHARED / "sglang" / "golden").glob("*.jsonl.gz"))
PATHS = sorted(FOLDER.glob("golden*/*.jsonl.gz"))

without_recordings = pytest.mark.skipif(not PATHS, reason="the recordings (../shared/vllm) are not there")


without_sglang = pytest.mark.skipif(not SGLANG, reason="the recordings (../shared/sglang) are not there")


def name_of(path: Path) -> str:
    return f"{path.parent.name}/{path.name.removesuffix('.jsonl.gz')}"


@without_recordings
@pytest.mark.parametrize("path", PATHS or [Path("absent")], ids=name_of)
def test_every_decision_of_the_recording_is_taken(path: Path) -> None:
    assert replay.check(path) == []


@without_sglang
@pytest.mark.parametrize("path", SGLANG or [Path("absent")], ids=lambda path: path.name.split(".")[0])
def test_every_decision_of_sglang_is_taken(path: Path) -> None:
    assert replay.check(path) == []


Record = dict[str, Any]
EXCERPT = 300  # lines of a recording with preemptions, resumptions and hits among them


@cache
def excerpt(name: str = "x_async_pressure_cache") -> str:
    """The first lines of a recording as one of its own, in JSON."""
    header, *lines = recordings.lines_of(FOLDER / "golden" / f"{name}.jsonl.gz")
    del lines[EXCERPT:]
    finished = {number for line in lines for number in line.get("fin", ())}
    unfinished = [record["id"] for record in header["requests"] if record["id"] not in finished]
    header["summary"] |= {"lines": EXCERPT, "unfinished": unfinished}
    return json.dumps([header, *lines])


def written(lines: list[Record], folder: Path) -> Path:
    path = folder / "excerpt.jsonl.gz"
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


def another_draft_accepted(lines: list[Record]) -> None:
    next(line for line in lines[10:] if any(n > 1 for _, n in line.get("tok", ())))["tok"][0][1] += 1


def one_draft_less(lines: list[Record]) -> None:
    first(lines, "spec")["spec"][0][1] -= 1


def shorter_queue(lines: list[Record]) -> None:
    lines[0]["config"]["batch_queue_size"] -= 1


def another_stage(lines: list[Record]) -> None:
    lines[0]["config"]["pipeline_parallel_size"] += 1
    lines[0]["config"]["batch_queue_size"] += 1


def other_drafts_accepted(lines: list[Record]) -> None:
    lines[0]["config"]["spec_accept"].reverse()


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
def test_the_excerpt_matches_as_long_as_nothing_is_altered(tmp_path: Path) -> None:
    assert replay.check(written(json.loads(excerpt()), tmp_path)) == []


@without_recordings
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_an_excerpt_altered_in_one_place_does_not_match(
    change: Callable[[list[Record]], None], tmp_path: Path
) -> None:
    lines = json.loads(excerpt())
    change(lines)
    assert replay.check(written(lines, tmp_path)) != []


SPECULATING = [another_draft_accepted, one_draft_less, other_drafts_accepted, without("tok")]


@without_recordings
@pytest.mark.parametrize(
    ("name", "change"),
    [
        *(("x_async_spec3_pressure", change) for change in SPECULATING),
        *(("x_pp4_async_pressure", change) for change in (shorter_queue, another_stage, one_more("u"))),
    ],
    ids=lambda part: part if isinstance(part, str) else part.__name__,
)
def test_pipelines_and_drafts_altered_in_one_place_do_not_match(
    name: str, change: Callable[[list[Record]], None], tmp_path: Path
) -> None:
    lines = json.loads(excerpt(name))
    assert replay.check(written(lines, tmp_path)) == []
    change(lines)
    assert replay.check(written(lines, tmp_path)) != []


def test_what_is_no_recording_fails_and_says_so(tmp_path: Path) -> None:
    text, other, cut = tmp_path / "a.jsonl.gz", tmp_path / "b.jsonl.gz", tmp_path / "c.jsonl.gz"
    text.write_text("not compressed")
    other.write_bytes(gzip.compress(b'{"format": "another"}\n'))
    cut.write_bytes(gzip.compress(b'{"format": "another"}\n')[:-9])
    assert "BadGzipFile" in replay.check(text)[0]
    assert "not a recording" in replay.check(other)[0]
    assert replay.check(cut) != []
    assert "FileNotFoundError" in replay.check(tmp_path / "absent.jsonl.gz")[0]


def run_script(*arguments: Path) -> tuple[int, str]:
    command = [sys.executable, replay.__file__, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


@without_recordings
def test_the_script_exits_0_only_if_every_file_matches(tmp_path: Path) -> None:
    good, broken = written(json.loads(excerpt()), tmp_path), tmp_path / "broken.jsonl.gz"
    broken.write_text("")
    assert run_script(good) == (0, "1 files match, 0 do not\n")
    code, output = run_script(tmp_path)
    assert code == 1 and f"FAIL {broken}" in output and "1 files match, 1 do not" in output
    assert run_script()[0] == 2
