"""Thousands of streams at a served scenario: are any dropped, how late are tokens, what does it cost?

    python benchmarks/serve.py                        # 2,000 streams of 10 tokens a second each
    python benchmarks/serve.py --streams 500 --tpot 0.05

The scenario is one device on paper that is as slow as asked (``--tpot``), so that all streams run at once and
load the endpoint evenly. The server is a process of its own, started as a user would; the clients are another
one, in which a stream is an ``asyncio.Protocol`` that does nothing but count events and note when bytes came.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from tokensim.selector import fine_loop

SCENARIO = """
name: serve benchmark
model: meta-llama/Llama-3.1-8B
cluster:
  router: round-robin
  pools: [{{name: serve, hardware: h100-sxm-80gb, replicas: {replicas}}}]
engine: {{max_num_seqs: 256, enable_prefix_caching: {caching}}}
performance: {{operators: builtin, host: {{gap: {gap}}}}}
"""
PER_REPLICA = 250
OWN_STEP_S = 0.012
"""About what a step of so many requests takes on that device; the host's gap is the rest of ``--tpot``."""

PROMPT = "Tell me a story of a city by the sea where " + "the people know each other well and " * 12


class Stream(asyncio.Protocol):
    """One request: sends it when connected, and ends with [DONE] or with the connection."""

    def __init__(self, payload: bytes, over: asyncio.Future[None]) -> None:
        self.payload, self.over = payload, over
        self.sent_s = 0.0
        self.times: list[float] = []
        self.events: list[int] = []
        self.done = False
        self.failed = ""
        self._tail = b""
        self._answered = False

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.sent_s = time.perf_counter()
        transport.write(self.payload)

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        if not self._answered and not data.startswith(b"HTTP/1.1 200"):
            self.failed = data[:200].decode(errors="replace")
        self._answered = True
        data = self._tail + data
        count = data.count(b'"text"')
        self._tail = data[-6:] if not data.endswith(b"\n") else b""
        if count:
            self.times.append(now)
            self.events.append(count)
        if b"[DONE]" in data:
            self.done = True
            self.transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.over.done():
            self.over.set_result(None)


async def clients(port: int, streams: int, tokens: int, ramp_s: float) -> list[Stream]:
    """Run all of them, evenly spread over ``ramp_s``."""
    loop = asyncio.get_running_loop()
    body = json.dumps({"prompt": PROMPT, "max_tokens": tokens, "stream": True, "ignore_eos": True}).encode()
    head = (
        f"POST /v1/completions HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    ).encode()

    async def one(number: int) -> Stream:
        await asyncio.sleep(ramp_s * number / streams)
        over = loop.create_future()
        stream = Stream(head + body, over)
        await loop.create_connection(lambda: stream, "127.0.0.1", port)
        await over
        return stream

    return await asyncio.gather(*(one(number) for number in range(streams)))


def run_clients(port: int, streams: int, tokens: int, ramp_s: float, pipe: Any) -> None:
    """In a process of its own; what came of it goes through ``pipe``."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    with asyncio.Runner(loop_factory=fine_loop) as runner:
        done = runner.run(clients(port, streams, tokens, ramp_s))
    used = resource.getrusage(resource.RUSAGE_SELF)
    rows = [(s.sent_s, s.times, s.events, s.done, s.failed) for s in done]
    pipe.send((rows, used.ru_utime + used.ru_stime))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--streams", type=int, default=2000)
    options.add_argument("--tpot", type=float, default=0.1, help="seconds between two tokens")
    options.add_argument("--tokens", type=int, default=200)
    options.add_argument("--ramp", type=float, default=10.0, help="seconds in which they start")
    options.add_argument("--no-prefix-caching", action="store_true")
    asked = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        scenario = Path(folder) / "scenario.yaml"
        replicas = -(-asked.streams // PER_REPLICA)
        scenario.write_text(
            SCENARIO.format(
                replicas=replicas,
                gap=max(0.0, asked.tpot - OWN_STEP_S),
                caching=str(not asked.no_prefix_caching).lower(),
            )
        )
        server = subprocess.Popen(
            [sys.executable, "-m", "tokensim", "serve", str(scenario), "--port", "0"],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert server.stdout is not None
        port = int(re.search(r":(\d+)/v1", server.stdout.readline())[1])  # type: ignore[index]
        near, far = multiprocessing.Pipe()
        began, before = time.perf_counter(), cpu_s(server.pid)
        process = multiprocessing.Process(
            target=run_clients, args=(port, asked.streams, asked.tokens, asked.ramp, far)
        )
        process.start()
        rows, client_s = near.recv()
        process.join()
        wall_s, server_s = time.perf_counter() - began, cpu_s(server.pid) - before
        memory = int(re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{server.pid}/status").read_text())[1])  # type: ignore[index]
        server.send_signal(signal.SIGTERM)
        told = server.stdout.read()
        server.wait()
    report(asked, rows, wall_s, server_s, client_s, memory, told)


def report(
    asked: argparse.Namespace,
    rows: list[Any],
    wall_s: float,
    server_s: float,
    client_s: float,
    memory: int,
    told: str,
) -> None:
    whole = sum(sum(events) == asked.tokens and done for _, _, events, done, _ in rows)
    failed = [message for *_, message in rows if message]
    gaps = np.concatenate([np.diff(times) for _, times, _, _, _ in rows if len(times) > 1])
    tokens = sum(sum(events) for _, _, events, _, _ in rows)
    at_once = max(np.cumsum(np.array([step for _, step in sorted(marks(rows))])))
    dropped = len(rows) - whole
    print(f"streams           {len(rows):,} ({whole:,} complete, {dropped:,} dropped), {at_once:,} at once")
    if failed:
        print("first failure    ", failed[0])
    print(f"tokens            {tokens:,} in {wall_s:.1f} s: {tokens / wall_s:,.0f}/s")
    quantiles = np.quantile(gaps, [0.5, 0.99, 1.0]) * 1e3
    print("gaps at clients   p50 {:.1f} ms, p99 {:.1f} ms, most {:.1f} ms".format(*quantiles))
    each_us, load = server_s / tokens * 1e6, os.getloadavg()[0]
    print(f"processor time    server {server_s:.1f} s ({each_us:.0f} us a token), clients {client_s:.1f} s")
    print(f"server memory     {memory / 1024:.0f} MiB; load average {load:.1f} on {os.cpu_count()} cores")
    print(told.strip())


def marks(rows: list[Any]) -> list[tuple[float, int]]:
    return [mark for sent_s, times, *_ in rows if times for mark in ((sent_s, 1), (times[-1], -1))]


def cpu_s(pid: int) -> float:
    """Processor time of the process up to now."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
