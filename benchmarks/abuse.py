"""An hour of simulated time under abuse: fuzzed requests, raw bytes, requests drawn from the OpenAPI
description, clients that leave in the middle, and sound ones among them. Nothing may break or stay behind.

    python benchmarks/abuse.py                      # 10,000 fuzzed requests in three minutes
    python benchmarks/abuse.py --hours 0.1 --requests 500

The endpoint is ``tokensim serve`` as a process; its memory is read from /proc. In the end it must have no
request, every block free, and have answered nothing with a 5xx; memory is told for every tenth of the time.
"""

from __future__ import annotations

import argparse
import random
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import httpx
import schemathesis
from hypothesis import HealthCheck, given, settings
from prometheus_client.parser import text_string_to_metric_families

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "serve"))

from fuzz import json_body, raw_bytes

SCENARIO = """
model: meta-llama/Llama-3.1-8B
cluster: {pools: [{name: serve, hardware: h100-sxm-80gb, replicas: 2}]}
engine: {max_model_len: 2048, num_gpu_blocks: 600, max_num_seqs: 32}
performance: {operators: roofline}
"""
"""Blocks are short, so that there is preemption, and a cache that always evicts."""


class Abuse:
    """Threads that send, until ``end`` (monotonic) and until ``wanted`` fuzzed requests are through."""

    def __init__(self, url: str, wanted: int, seconds: float) -> None:
        self.url = url
        self.port = int(url.rsplit(":", 1)[1])
        self.wanted = wanted
        self.pause_s = seconds / wanted
        self.end = time.monotonic() + seconds
        self.seen: Counter[str] = Counter()
        self.faults: list[str] = []

    @property
    def fuzzed(self) -> int:
        """Fuzzed requests up to now."""
        return sum(number for kind, number in self.seen.items() if not kind.startswith("sound"))

    def note(self, kind: str, status: int, told: str) -> None:
        self.seen[f"{kind} {status or 'cut off'}"] += 1
        if status >= 500:
            self.faults.append(f"{kind}: {status} {told[:300]}")

    def going_on(self) -> bool:
        return time.monotonic() < self.end or self.fuzzed < self.wanted

    def bodies(self, seed: int) -> None:
        rng = random.Random(seed)
        with httpx.Client(base_url=self.url, timeout=60, trust_env=False) as http:
            while self.going_on():
                path = rng.choice(["/v1/completions", "/v1/chat/completions"])
                data = json_body(rng)
                try:
                    answer = http.post(path, content=data, headers={"content-type": "application/json"})
                except httpx.HTTPError as error:
                    self.faults.append(f"{error!r} after {data[:300]!r}")
                    continue
                self.note("body", answer.status_code, answer.text)
                self.breathe(rng)

    def raw(self, seed: int) -> None:
        rng = random.Random(seed)
        while self.going_on():
            with socket.create_connection(("127.0.0.1", self.port), timeout=0.05) as connection:
                try:
                    connection.sendall(raw_bytes(rng))
                    answer = connection.recv(300)
                except (TimeoutError, ConnectionError):
                    answer = b""
            status = answer[9:12] if answer.startswith(b"HTTP/1.") else b""
            self.note("raw", int(status) if status.isdigit() else 0, answer.decode(errors="replace"))
            self.breathe(rng)

    def described(self, seed: int) -> None:
        schema = schemathesis.openapi.from_url(self.url + "/openapi.json")
        operations = [result.ok() for result in schema.get_all_operations()]
        while self.going_on():
            for operation in operations:
                quiet = list(HealthCheck)

                @settings(max_examples=50, deadline=None, database=None, suppress_health_check=quiet)
                @given(case=operation.as_strategy())
                def one(case: schemathesis.Case) -> None:
                    if not self.going_on():
                        return
                    answer = case.call(base_url=self.url)
                    self.note("described", answer.status_code, answer.text)

                one()

    def sound(self, seed: int) -> None:
        """Streams that are read to the end, and every third one left in the middle."""
        rng = random.Random(seed)
        with httpx.Client(base_url=self.url, timeout=60, trust_env=False) as http:
            while self.going_on():
                size, tokens = rng.randint(1, 1500), rng.randint(1, 400)
                leaves = rng.random() < 0.33
                asked = {
                    "prompt": [rng.randrange(1000) for _ in range(size)],
                    "max_tokens": tokens,
                    "stream": True,
                }
                with http.stream("POST", "/v1/completions", json=asked) as answer:
                    for number, _ in enumerate(answer.iter_lines()):
                        if leaves and number > rng.randrange(1, 40):
                            break
                self.note("sound and left" if leaves else "sound", answer.status_code, "")

    def breathe(self, rng: random.Random) -> None:
        """Spread the requests over the whole time."""
        time.sleep(rng.random() * 2 * self.pause_s)


def resident_mib(pid: int) -> float:
    """Memory of a process (Linux)."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


def left(url: str) -> dict[str, float]:
    """What /metrics says is there: requests, and the share of blocks in use."""
    wanted = ("vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc")
    found = dict.fromkeys(wanted, 0.0)
    for family in text_string_to_metric_families(httpx.get(url + "/metrics", trust_env=False).text):
        if family.name in found:
            found[family.name] += sum(sample.value for sample in family.samples)
    return found


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--hours", type=float, default=1.0, help="of simulated time")
    options.add_argument("--time-scale", type=float, default=20.0)
    options.add_argument("--requests", type=int, default=10_000, help="fuzzed ones, at least")
    asked = options.parse_args()
    seconds = asked.hours * 3600 / asked.time_scale
    with tempfile.TemporaryDirectory() as folder:
        scenario = Path(folder) / "scenario.yaml"
        scenario.write_text(SCENARIO, encoding="utf-8")
        command = [sys.executable, "-m", "tokensim", "serve", str(scenario), "--port", "0"]
        command += ["--time-scale", str(asked.time_scale)]
        log = Path(folder) / "stderr"
        with (
            log.open("wb") as errors,
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as server,
        ):
            assert server.stdout is not None
            found = re.search(r"http://\S+?:\d+", server.stdout.readline())
            if found is None:
                raise SystemExit("tokensim serve did not start")
            url = found[0]
            abuse = Abuse(url, asked.requests, seconds)
            kinds = (
                abuse.bodies,
                abuse.bodies,
                abuse.raw,
                abuse.raw,
                abuse.described,
                abuse.sound,
                abuse.sound,
            )
            threads = [threading.Thread(target=kind, args=(seed,)) for seed, kind in enumerate(kinds)]
            began = time.monotonic()
            for thread in threads:
                thread.start()
            print("| simulated | fuzzed requests | sound ones | memory |\n|---|---|---|---|")
            next_s = 0.0
            while any(thread.is_alive() for thread in threads):
                now = time.monotonic() - began
                if now >= next_s:
                    sound = abuse.seen.total() - abuse.fuzzed
                    simulated = now * asked.time_scale / 60
                    memory = resident_mib(server.pid)
                    print(
                        f"| {simulated:.0f} min | {abuse.fuzzed:,} | {sound:,} | {memory:.0f} MiB |",
                        flush=True,
                    )
                    next_s += seconds / 10
                time.sleep(0.1)
            for _ in range(100):  # those that were left go at the next decision of their replica
                behind = left(url)
                if not any(behind.values()):
                    break
                time.sleep(0.1)
            print(f"in the end: {resident_mib(server.pid):.0f} MiB; left behind: {behind}")
            alive = server.poll() is None
            server.terminate()
            told, _ = server.communicate(timeout=60)
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    print(", ".join(f"{kind}: {number:,}" for kind, number in sorted(abuse.seen.items())))
    print(told.strip())
    for fault in abuse.faults[:10]:
        print("FAULT", fault)
    for line, number in Counter(lines).most_common(5):
        print(f"stderr, {number:,} times: {line}")
    sound = alive and server.returncode == 0 and not abuse.faults and not any(behind.values())
    print("nothing broke, nothing is left" if sound else f"BROKEN: exit code {server.returncode}")
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(main())
