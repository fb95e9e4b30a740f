"""Replays decisions recorded from SGLang's real scheduling code; ``replay.py`` calls it for such files.

Like its counterpart for vLLM: the requests are handed to the scheduler at the recorded iterations, and every
field of every line must be what was recorded, right after scheduling and at the end of the iteration.
"""

from __future__ import annotations

import sys
import zlib
from array import array
from collections.abc import Iterator

from conformance.recordings import NEUTRAL, NotModelled, Record, token_runs
from tokensim.memory import Content
from tokensim.scheduling.local import Limits, Request, Sglang, Step

FORMAT = "sglang-sched-golden/1"
EOS = 50001
ENDLESS = 1 << 40

LISTS = ("add", "s", "d", "new", "res", "hit", "ret", "abt", "fin")  # absent: empty
COUNTS = ("av", "ev", "pr", "w", "r", "wc")
VALUES = ("t", "k", "u", "cr", "idle", "ntr", "full", *COUNTS, *(f"{key}s" for key in COUNTS))  # absent: none

OPTIONS = (
    "schedule_policy",
    "max_prefill_tokens",
    "schedule_conservativeness",
    "enable_mixed_chunk",
    "prefill_max_requests",
    "prefill_decode_interval",
    "init_new_token_ratio",
    "min_new_token_ratio_factor",
    "new_token_ratio_decay_steps",
    "retract_decode_steps",
    "clip_max_new_tokens",
)
GENERAL = {
    "max_total_num_tokens",
    "page_size",
    "max_running_requests",
    "chunked_prefill_size",
    "disable_radix_cache",
    "disable_overlap_schedule",
    "context_len",
    "ignore_eos",
}


def limits_of(config: Record) -> Limits:
    """The general limits from a header; raises ``NotModelled`` for what it does not know."""
    for key in config.keys() - GENERAL - set(OPTIONS):
        if config[key] not in NEUTRAL:
            raise NotModelled(f"the option {key}={config[key]!r}")
    chunk, page = config["chunked_prefill_size"], config["page_size"]
    return Limits(
        num_gpu_blocks=config["max_total_num_tokens"] // page,
        block_size=page,
        max_num_seqs=config["max_running_requests"],
        max_num_batched_tokens=max(chunk, 1),
        enable_chunked_prefill=chunk > 0,
        enable_prefix_caching=not config["disable_radix_cache"],
        async_scheduling=not config["disable_overlap_schedule"],
        max_model_len=config["context_len"],
    )


class Replay:
    """One scheduler and the engine's loop around it, driven through the iterations of one recording."""

    def __init__(self, header: Record, *, exact_steps: bool) -> None:
        config = header["config"]
        options = {key: config[key] for key in OPTIONS if key in config}
        limits = limits_of(config)
        if (header["loop"] == "overlap") != limits.async_scheduling:
            raise NotModelled(f"the loop {header['loop']!r}")
        self.scheduler = Sglang(limits, header["sglang"], exact_steps=exact_steps, **options)
        self.records: dict[int, Record] = {record["id"]: record for record in header["requests"]}
        self.overlap = limits.async_scheduling
        self.caching = limits.enable_prefix_caching
        self.ignore_eos: bool = config["ignore_eos"]
        self.finished: set[int] = set()
        self.t = -1
        self.flying: tuple[int, Step] | None = None  # (t, launched then), its output not processed yet
        self.idle = True
        self.arriving: dict[int, list[int]] = {}
        for record in header["requests"]:
            if record["arrive"] is not None:
                self.arriving.setdefault(record["arrive"], []).append(record["id"])

    def add(self, number: int) -> None:
        """The request arrives."""
        record = self.records[number]
        prompt = sum(tokens for _, tokens in record["prompt"])
        made: int = record["out"]
        declared: int = record.get("max_new", made)
        clipped: int = record.get("eff_max_new", declared)
        request = Request(number, float(self.t), prompt, made, prompt + made)
        request.content = content_of(record, made < min(declared, clipped)) if self.caching else None
        row = self.scheduler.enter(request, declared, record.get("ie", self.ignore_eos))
        if row.max_new != clipped:
            raise AssertionError(f"request {number} may produce {row.max_new} tokens, recorded {clipped}")

    def next_line(self) -> Record:
        """One iteration of the loop; returns the line that describes it."""
        scheduler = self.scheduler
        self.t += 1
        if self.idle:  # one line stands for any number of idle iterations
            self.t = min((t for t in self.arriving if t >= self.t), default=self.t)
        arrivals = self.arriving.get(self.t, [])
        for number in arrivals:
            self.add(number)
        step = scheduler.schedule(0.0)
        line: Record = {"t": self.t, "add": arrivals, "k": kind(step)}
        line["s"] = [
            [request.index, tokens, before]
            for request, (tokens, before) in zip(step.chunk_requests, step.chunks, strict=True)
        ]
        line["d"] = self.decodes(step)
        line["new"] = [r.index for r, _ in step.admitted if r.preemptions == 0]
        line["res"] = [r.index for r, _ in step.admitted if r.preemptions > 0]
        line["hit"] = [[r.index, hit] for r, hit in step.admitted if hit]
        line["ret"] = [r.index for r, _ in step.preempted]
        chunked = scheduler.chunked
        line["cr"] = None if chunked is None else chunked.request.index
        scheduled = self.counts(step)
        before, launched = self.flying, None if step.empty else (self.t, step)
        processed = before if self.overlap else launched
        if processed is not None:
            line["fin"] = [request.index for request in scheduler.update(processed[1].index)]
            self.finished.update(line["fin"])
        self.flying = launched if self.overlap else None
        self.idle = step.empty and before is None and not (scheduler.running or scheduler.waiting)
        if self.overlap and before is not None:
            line["u"] = before[0]
        if self.idle:
            line["idle"] = 1
        line["ntr"] = scheduler.ratio.value
        line["full"] = int(scheduler.batch.full) or None
        after = self.counts(step)
        line |= after
        line |= {f"{key}s": scheduled[key] for key in COUNTS if scheduled[key] != after[key]}
        return line

    def decodes(self, step: Step) -> list[int]:
        """The decode rows in the order of the batch."""
        if not step.decode:
            return []
        rows = [row.request.index for row in self.scheduler.batch.in_order()]
        assert len(rows) == step.decode
        return rows

    def counts(self, step: Step) -> dict[str, int]:
        """Memory, and the lengths of the queues."""
        scheduler = self.scheduler
        pool = scheduler.pool
        ids = array("I", [request.index for request in scheduler.waiting])
        if sys.byteorder == "big":
            ids.byteswap()
        mixed = step.decode and step.chunks
        return {
            "av": pool.available,
            "ev": pool.evictable,
            "pr": pool.protected,
            "w": len(scheduler.waiting),
            "r": 0 if mixed else len(scheduler.batch),
            "wc": zlib.crc32(ids.tobytes()),
        }

    def differences(self, expected: Record, actual: Record) -> Iterator[str]:
        """The fields of one line that differ, as sentences."""
        if expected == {key: value for key, value in actual.items() if value is not None and value != []}:
            return
        for keys, absent in ((LISTS, []), (VALUES, None)):
            for key in keys:
                want, have = expected.get(key, absent), actual.get(key, absent)
                if want != have and (want or have or key != "idle"):
                    yield f"{key} is {have}, recorded {want}"
        unknown = expected.keys() - set(LISTS) - set(VALUES)
        if unknown:
            raise NotModelled(f"the fields {sorted(unknown)}")

    def other_queue(self, line: Record) -> list[str]:
        """Slots have no identity in the recordings."""
        return []


def kind(step: Step) -> str:
    """P prefill, D decode, M both, - nothing."""
    if step.chunks:
        return "M" if step.decode else "P"
    return "D" if step.decode else "-"


def content_of(record: Record, by_eos: bool) -> Content:
    """The identity of a request's tokens, prompt and output; the last of an output that EOS ends is EOS."""
    if by_eos:
        output = [*token_runs([*record["prompt"], (record["oseed"], record["out"] - 1)]), (EOS, 1)]
        return Content.of_runs(output, -1 - record["id"])
    runs = token_runs([*record["prompt"], (record["oseed"], ENDLESS)])
    return Content.of_runs(runs[:-1], runs[-1][0])
