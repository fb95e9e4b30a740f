"""Replay decisions recorded from vLLM's real scheduler and compare every field of every step.

    python tests/conformance/replay.py FILE...        # or folders; exit code 0 only if all match

Each file (``*.jsonl.gz``) holds a configuration, requests, and one line an iteration of the real engine's loop. The requests
are handed to TokenSim's scheduler at the recorded iterations; what it decides must equal what was recorded: scheduled tokens
and their order, computed tokens before, admissions, resumptions, preemptions, hits, finishes, free blocks, queue
lengths and the number of cached keys. Each file is replayed twice: every step walked request by request, and by the aggregated
form that long simulations use. Files with pipeline parallelism or speculation are refused: they are not modelled yet.
"""

from __future__ import annotations

import gzip
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tokensim.memory import Content
from tokensim.scheduling.local import Limits, Request, Step, Vllm

IGNORED = {"fq", "fqs"}  # checksum of physical block ids: extents have no physical ids
VOCABULARY = 50000  # token i of segment [seed, len] is (seed * 1000003 + i) % 50000
STRIDE = 1000003


class NotModelled(Exception):
    """The recording needs a feature that the scheduler does not have."""


def token_runs(segments: Sequence[Sequence[int]]) -> list[tuple[int, int]]:
    """Segments [seed, len] as (first token, tokens), neighbours that count on joined: equal tokens, equal runs."""
    runs: list[tuple[int, int]] = []
    for seed, tokens in segments:
        left, first = tokens, seed * STRIDE % VOCABULARY
        if left and runs and (runs[-1][0] + runs[-1][1]) % VOCABULARY == first:
            first, before = runs.pop()
            left += before
        if left:
            runs.append((first, left))
    return runs


def content_of(record: dict[str, Any]) -> Content:
    """The identity of a request's tokens, prompt and output."""
    output = (record["oseed"], 1 << 40)
    runs = token_runs([*record["prompt"], output])
    return Content.of_runs(runs[:-1], runs[-1][0])


def limits_of(config: dict[str, Any]) -> Limits:
    """The scheduler's configuration from a header."""
    if config["pipeline_parallel_size"] > 1 or config["spec_tokens"] > 0:
        raise NotModelled("pipeline parallelism or speculation")
    known = {
        "num_gpu_blocks",
        "block_size",
        "max_num_seqs",
        "max_num_batched_tokens",
        "max_num_scheduled_tokens",
        "max_num_active_seqs",
        "max_model_len",
        "enable_chunked_prefill",
        "long_prefill_token_threshold",
        "long_prefill_token_threshold_adaptive",
        "enable_prefix_caching",
        "scheduler_reserve_full_isl",
        "watermark",
        "prefill_schedule_interval",
        "async_scheduling",
    }
    values = {key: value for key, value in config.items() if key in known}
    return Limits(scheduling_policy=config["policy"], **values)


class Replay:
    """Drives one scheduler through the iterations of one recording."""

    def __init__(self, header: dict[str, Any], *, exact_steps: bool) -> None:
        self.config = header["config"]
        self.scheduler = Vllm(limits_of(self.config), header["vllm"], exact_steps=exact_steps)
        self.requests = {r["id"]: r for r in header["requests"]}
        self.asynchronous = self.config["async_scheduling"]
        self.previous: Step | None = None

    def request(self, number: int) -> Request:
        """A live request from its record."""
        record = self.requests[number]
        prompt = sum(tokens for _, tokens in record["prompt"])
        length = min(prompt + record["out"], self.config["max_model_len"])
        request = Request(number, float(record.get("at", 0.0)), prompt, record["out"], length)
        request.priority = record.get("prio", 0)
        if self.config["enable_prefix_caching"]:
            request.content = content_of(record)
            request.shared_output = True
        return request

    def iteration(self, arrivals: Sequence[int]) -> dict[str, Any]:
        """Add, schedule, update; returns the line that describes it."""
        scheduler = self.scheduler
        for number in arrivals:
            scheduler.add(self.request(number))
        step = scheduler.schedule()
        line: dict[str, Any] = {
            "s": scheduled(scheduler, step),
            "new": [r.index for r, _ in step.admitted if r.preemptions == 0],
            "res": [r.index for r, _ in step.admitted if r.preemptions > 0],
            "pre": [r.index for r, _ in step.preempted],
            "hit": [[r.index, hit] for r, hit in step.admitted if hit],
        }
        after_schedule = self.counts()
        done: list[Request] = []
        if self.asynchronous:
            if self.previous is not None:
                line["u"] = True
                done = scheduler.update(self.previous.index)
            self.previous = step
            if not scheduler.has_work():
                self.previous = None
        else:
            done = scheduler.update(step.index)
        line["fin"] = [r.index for r in done]
        line |= self.counts()
        line |= {key + "s": value for key, value in after_schedule.items() if value != line[key]}
        scheduler.check_integrity()
        return line

    def counts(self) -> dict[str, int]:
        """Free blocks, queue lengths, cached keys."""
        running, waiting, _ = self.scheduler.counts()
        counts = {"f": self.scheduler.pool.free, "w": waiting, "r": running}
        self.scheduler._settle(self.scheduler.running)
        return counts | {"ch": self.scheduler.pool.cached_keys()}


def scheduled(scheduler: Vllm, step: Step) -> list[list[int]]:
    """[id, tokens, computed before] in scheduling order."""
    chunks = dict(zip(step.chunk_requests, step.chunks, strict=True))
    rows = []
    for request in scheduler.running:
        if request in chunks:
            tokens, before = chunks[request]
            rows.append([request.index, tokens, before])
        elif request.decoding and request not in scheduler.sitting_out and request.finish_step >= step.index:
            rows.append([request.index, 1, request.base + step.index - 1])
    return rows


def mismatches(path: Path, *, exact_steps: bool) -> Iterator[str]:
    """The differences between a recording and the replay, as sentences."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        header = json.loads(file.readline())
        replay = Replay(header, exact_steps=exact_steps)
        cached = header["config"]["enable_prefix_caching"]
        for text in file:
            expected = json.loads(text)
            if not expected.get("s") and not expected["w"] and not expected["r"] and "add" not in expected:
                if replay.asynchronous and "u" in expected and replay.previous is not None:
                    pass
                elif not expected.get("fin"):
                    continue  # the engine announces a finish; no decision in it
            actual = replay.iteration(expected.get("add", ()))
            for key in ("s", "new", "res", "pre", "hit", "fin", "f", "w", "r", "ch", "fs", "ws", "rs", "chs"):
                if key in ("ch", "chs") and not cached:
                    continue
                empty = [] if key in ("s", "new", "res", "pre", "hit", "fin") else None
                want, have = expected.get(key, empty), actual.get(key, empty)
                if key == "chs":
                    continue
                if want != have:
                    yield f"t={expected['t']}: {key} is {have}, recorded {want}"


def check(path: Path) -> list[str]:
    """All differences of both replays of one file (the first few each)."""
    found = []
    for exact_steps in (True, False):
        form = "walked" if exact_steps else "aggregated"
        for number, difference in enumerate(mismatches(path, exact_steps=exact_steps)):
            if number == 5:
                break
            found.append(f"{form}: {difference}")
    return found


def main(arguments: Sequence[str]) -> int:
    """Replay all files; 0 if all match."""
    paths = [
        file
        for argument in map(Path, arguments)
        for file in (sorted(argument.glob("*.jsonl.gz")) if argument.is_dir() else [argument])
    ]
    if not paths:
        print("usage: replay.py FILE... (recordings, *.jsonl.gz, or folders of them)", file=sys.stderr)
        return 2
    failed = matched = 0
    for path in paths:
        try:
            differences = check(path)
        except NotModelled as reason:
            differences = [f"not modelled yet: {reason}"]
        failed += bool(differences)
        matched += not differences
        if differences:
            print(f"FAIL {path.name}")
            for difference in differences:
                print(f"     {difference}")
    print(f"{matched} files match, {failed} do not")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
