"""Replay decisions recorded from the real schedulers and compare every field of every step.

    python tests/conformance/replay.py FILE...        # or folders; exit code 0 only if all match

Each file (``*.jsonl.gz``) holds a header (configuration, requests) and one line an iteration of the real
engine's loop; ``replay_sglang.py`` has what is SGLang's, the rest of this module is about vLLM's. The
requests are handed to TokenSim's scheduler at the recorded iterations; what it decides must equal what was
recorded: scheduled tokens and their order, computed tokens before, admissions, resumptions, preemptions,
hits, finishes, free blocks, queue lengths before and after the update, which batch was updated, and the
number of cached keys. A field or option that is not known makes the file fail.

Each file is replayed twice side by side: every step walked request by request on a pool of single blocks, and
by the aggregated form on extents that long simulations use. ``fq``, a checksum of the ids in the free
queue, is compared now and then for the first only: extents have no physical ids. With pipelines and
speculation both walk, so that there the two differ in the pool alone.
"""

from __future__ import annotations

import sys
import zlib
from array import array
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from tokensim.memory import BlockByBlockPool, Content
from tokensim.scheduling.local import (
    ContinuousBatching,
    Limits,
    PipelinedBatching,
    Request,
    Step,
    Vllm,
    form_for,
)
from tokensim.scheduling.local.flight import FlightStep
from tokensim.scheduling.local.speculation import Recorded, Speculation
from tokensim.scheduling.local.versions import queue_size, rules_of

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from conformance import replay_sglang
from conformance.recordings import NEUTRAL, NotModelled, Record, lines_of, token_runs

FORMAT = "vllm-v1-sched-golden/1"
FORMS = {"walked": True, "aggregated": False}  # form → exact_steps
INTEGRITY_EVERY = 16  # iterations, and at the end: looks at every block
MOST_DIFFERENCES = 5  # to report of each form

LISTS = ("add", "s", "new", "res", "pre", "hit", "fin", "spec", "tok")  # absent: empty
VALUES = ("t", "u", "f", "w", "r", "ch", "fs", "ws", "rs")  # absent: none
CHECKSUMS = ("fq", "fqs")

LIMITS = {
    "num_gpu_blocks",
    "block_size",
    "max_num_seqs",
    "max_num_batched_tokens",
    "max_num_scheduled_tokens",
    "max_model_len",
    "enable_chunked_prefill",
    "long_prefill_token_threshold",
    "enable_prefix_caching",
    "scheduler_reserve_full_isl",
    "async_scheduling",
}
LATER_LIMITS = {  # absent from recordings of versions that do not have them
    "max_num_active_seqs",
    "long_prefill_token_threshold_adaptive",
    "watermark",
    "prefill_schedule_interval",
}
OTHERS = {"vllm", "policy", "pipeline_parallel_size", "batch_queue_size", "spec_tokens", "spec_accept"}


def content_of(record: Record) -> Content:
    """The identity of a request's tokens, prompt and output."""
    output = (record["oseed"], 1 << 40)
    runs = token_runs([*record["prompt"], output])
    return Content.of_runs(runs[:-1], runs[-1][0])


def limits_of(header: Record) -> Limits:
    """The scheduler's configuration from a header; raises ``NotModelled`` for what it does not know."""
    config = header["config"]
    stages, runner = config["pipeline_parallel_size"], header.get("use_v2_model_runner", True)
    queue = queue_size(
        rules_of(header["vllm"]), stages, asynchronous=config["async_scheduling"], v2_model_runner=runner
    )
    if config["batch_queue_size"] != queue:
        raise NotModelled(f"a queue of {config['batch_queue_size']} batches")
    for key in config.keys() - LIMITS - LATER_LIMITS - OTHERS:
        if config[key] not in NEUTRAL:
            raise NotModelled(f"the option {key}={config[key]!r}")
    if config["policy"] not in ("fcfs", "priority"):
        raise NotModelled(f"the policy {config['policy']!r}")
    values = {key: config[key] for key in LIMITS} | {key: config[key] for key in LATER_LIMITS & config.keys()}
    speculation = None
    if config["spec_tokens"]:
        speculation = Speculation(config["spec_tokens"], Recorded(tuple(config["spec_accept"])))
    return Limits(
        scheduling_policy=config["policy"],
        pipeline=stages,
        v2_model_runner=runner,
        speculation=speculation,
        **values,
    )


class Replay:
    """One scheduler and the engine's loop around it, driven through the iterations of one recording."""

    def __init__(self, header: Record, *, exact_steps: bool) -> None:
        config = header["config"]
        limits = limits_of(header)
        form: type[ContinuousBatching] = form_for(Vllm, limits)
        self.scheduler = form(limits, header["vllm"], exact_steps=exact_steps)
        self.queues_on_empty = rules_of(header["vllm"]).queues_on_empty
        self.records: dict[int, Record] = {record["id"]: record for record in header["requests"]}
        self.max_model_len: int = config["max_model_len"]
        self.caching: bool = config["enable_prefix_caching"]
        self.queue_size: int = config["batch_queue_size"]
        self.batches: deque[tuple[int, Step]] = deque()  # (t, scheduled then), their output not processed yet
        self.to_announce = False  # a finish that the workers have not been told yet
        self.finished: set[int] = set()
        self.t = -1
        self.arriving: dict[int, list[int]] = {}
        for record in header["requests"]:
            if record["arrive"] is not None:
                self.arriving.setdefault(record["arrive"], []).append(record["id"])

    def request(self, number: int) -> Request:
        """A live request from its record."""
        record = self.records[number]
        prompt = sum(tokens for _, tokens in record["prompt"])
        length = min(prompt + record["out"], self.max_model_len)
        request = Request(number, float(record["at"]), prompt, record["out"], length)
        request.priority = record.get("prio", 0)
        if self.caching:
            request.content = content_of(record)
            request.shared_output = True
        return request

    def next_line(self) -> Record:
        """One iteration of the loop: add, schedule, update; returns the line that describes it."""
        scheduler = self.scheduler
        busy = scheduler.running or scheduler.waiting or self.to_announce
        follows = busy or self.batches
        self.t = t = (
            self.t + 1 if follows else min((t for t in self.arriving if t > self.t), default=self.t + 1)
        )
        arrivals = self.arriving.get(t, [])
        for number in arrivals:
            scheduler.add(self.request(number))
        line: Record = {"t": t, "add": arrivals}
        waits = False
        if arrivals or busy:
            self.to_announce = False
            step = scheduler.schedule(0.0)
            self.batches.append((t, step))
            line["s"] = scheduled(scheduler, step)
            line["new"] = [r.index for r, _ in step.admitted if r.preemptions == 0]
            line["res"] = [r.index for r, _ in step.admitted if r.preemptions > 0]
            line["pre"] = [r.index for r, _ in step.preempted]
            line["hit"] = [[r.index, hit] for r, hit in step.admitted if hit]
            line["spec"] = drafted(step)
            left = (bool(scheduler.running or scheduler.waiting) and self.queues_on_empty) or not step.empty
            waits = left and len(self.batches) < self.queue_size
        before = self.counts()
        if self.batches and not waits:
            at, oldest = self.batches.popleft()
            line["fin"] = [request.index for request in scheduler.update(oldest.index)]
            line["tok"] = returned(oldest) if scheduler.limits.speculation else []
            self.finished.update(line["fin"])
            self.to_announce = bool(line["fin"])
            if self.queue_size > 1:
                line["u"] = at
        after = self.counts()
        line |= after
        line |= {f"{key}s": before[key] for key in before if before[key] != after[key]}
        line["ch"] = self.cached_keys()
        return line

    def counts(self) -> dict[str, int]:
        """Free blocks and queue lengths."""
        running, waiting = len(self.scheduler.running), len(self.scheduler.waiting)
        return {"f": self.scheduler.pool.free, "w": waiting, "r": running}

    def cached_keys(self) -> int:
        """Distinct keys in the prefix cache, once the decoding requests have registered what they have."""
        self.scheduler.pool.settle(self.scheduler.running)
        return self.scheduler.pool.cached_keys()

    def differences(self, expected: Record, actual: Record) -> Iterator[str]:
        """The fields of one line that differ, as sentences."""
        return differences_of_line(expected, actual)

    def other_queue(self, line: Record) -> list[str]:
        """The difference of the free queue, physical block by physical block, where blocks have ids."""
        pool = self.scheduler.pool
        if not isinstance(pool, BlockByBlockPool):
            return []
        ids = array("I", pool.queue)
        if sys.byteorder == "big":
            ids.byteswap()
        same = zlib.crc32(ids.tobytes()) == line["fq"]
        return [] if same else ["fq: other blocks are free, or in another order"]


def scheduled(scheduler: ContinuousBatching, step: Step) -> list[list[int]]:
    """[id, tokens, computed before] in scheduling order."""
    if isinstance(step, FlightStep):
        flown = scheduler.rows(step) if isinstance(scheduler, PipelinedBatching) else step.rows
        return [[row.request.index, row.tokens, row.before] for row in flown]
    chunks = dict(zip(step.chunk_requests, step.chunks, strict=True))
    rows = []
    for request in scheduler.running:
        if request in chunks:
            tokens, before = chunks[request]
            rows.append([request.index, tokens, before])
        elif request.decoding and request not in scheduler.sitting_out and request.finish_step >= step.index:
            rows.append([request.index, 1, request.base + step.index - 1])
    return rows


def drafted(step: Step) -> list[list[int]]:
    """[id, drafts] of those whose drafts the step verifies."""
    rows = step.rows if isinstance(step, FlightStep) else []
    return [[row.request.index, row.drafts] for row in rows if row.drafts]


def returned(step: Step) -> list[list[int]]:
    """[id, tokens] that the model returned for the step."""
    rows = step.rows if isinstance(step, FlightStep) else []
    return [[row.request.index, row.returned] for row in rows if row.returned]


def differences_of_line(expected: Record, actual: Record) -> Iterator[str]:
    """The fields of one line that differ, as sentences."""
    for key in LISTS:
        want, have = expected.get(key, []), actual.get(key, [])
        if want != have:
            yield f"{key} is {have}, recorded {want}"
    for key in VALUES:
        want, have = expected.get(key), actual.get(key)
        if want != have:
            yield f"{key} is {have}, recorded {want}"
    for key in expected:
        if key not in LISTS and key not in VALUES and key not in CHECKSUMS:
            raise NotModelled(f"the field {key!r}")


REPLAYS: dict[str, type[Replay] | type[replay_sglang.Replay]] = {
    FORMAT: Replay,
    replay_sglang.FORMAT: replay_sglang.Replay,
}
"""Format of a recording → what replays it."""


def differences(header: Record, lines: Iterable[Record]) -> dict[str, list[str]]:
    """The differences of both forms of a replay, as sentences, by form; raises ``NotModelled``."""
    kind = REPLAYS[header["format"]]
    replays = {form: kind(header, exact_steps=exact) for form, exact in FORMS.items()}
    found: dict[str, list[str]] = {form: [] for form in FORMS}
    count = 0
    for count, expected in enumerate(lines, 1):
        for form, replay in replays.items():
            if len(found[form]) >= MOST_DIFFERENCES:
                continue
            actual = replay.next_line()
            found[form] += [f"t={expected['t']}: {text}" for text in replay.differences(expected, actual)]
            if count % INTEGRITY_EVERY == 0:
                replay.scheduler.check_integrity()
                found[form] += [f"t={expected['t']}: {text}" for text in replay.other_queue(expected)]
    summary = header["summary"]
    for form, replay in replays.items():
        replay.scheduler.check_integrity()
        if count != summary["lines"]:
            found[form].append(f"the file has {count} lines, its header announces {summary['lines']}")
        left = sorted(replay.records.keys() - replay.finished)
        if left != summary["unfinished"]:
            found[form].append(f"unfinished at the end: {left}, recorded {summary['unfinished']}")
    return found


def check(path: Path) -> list[str]:
    """All differences of both replays of one file (the first few each), empty if it matches."""
    try:
        lines = lines_of(path)
        header = next(lines, {})
        if header.get("format") not in REPLAYS:
            return [f"not a recording of the formats {', '.join(REPLAYS)}"]
        found = differences(header, lines)
    except NotModelled as reason:
        return [f"not modelled yet: {reason}"]
    except Exception as error:  # a broken file or a broken scheduler: this file fails, the others go on
        return [f"{type(error).__name__}: {error}"]
    return [f"{form}: {text}" for form in FORMS for text in found[form][:MOST_DIFFERENCES]]


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
    matched = 0
    with ProcessPoolExecutor() as workers:
        for path, found in zip(paths, workers.map(check, paths), strict=True):
            matched += not found
            if found:
                print("\n     ".join([f"FAIL {path}", *found]))
    print(f"{matched} files match, {len(paths) - matched} do not")
    return 0 if matched == len(paths) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
