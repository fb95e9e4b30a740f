"""A scenario served on loopback for the length of a test, in a thread of the test's own process."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import httpx
import uvicorn

from tokensim.scenario import Scenario
from tokensim.selector import fine_loop
from tokensim.serve.server import Endpoint, Options, Server, _bind

BASE: dict[str, Any] = {
    "model": "meta-llama/Llama-3.1-8B",
    "cluster": {"pools": [{"name": "serve", "hardware": "h100-sxm-80gb"}]},
    "engine": {"max_model_len": 4096, "num_gpu_blocks": 2001},
    "performance": {"operators": "roofline"},
    "workload": {
        "arrivals": {"process": "all-at-once"},
        "input_tokens": 10,
        "output_tokens": 7,
        "num_requests": 3,
    },
}


def scenario(**sections: Any) -> Scenario:
    return Scenario.model_validate({**BASE, **sections})


class Served:
    """A running server; ``http`` is a client for it."""

    def __init__(self, endpoint: Endpoint, server: Server, port: int) -> None:
        self.endpoint, self.server, self.port = endpoint, server, port
        self.url = f"http://127.0.0.1:{port}"
        self.http = httpx.Client(base_url=self.url, timeout=30, trust_env=False)
        self._asking = ThreadPoolExecutor()

    @property
    def live(self) -> Any:
        return self.endpoint.cluster.simulation

    def post(self, path: str, **body: Any) -> httpx.Response:
        return self.http.post(path, json=body)

    def later(self, path: str, **body: Any) -> Future[httpx.Response]:
        """``post``, without waiting for the answer."""
        return self._asking.submit(self.post, path, **body)

    def until(self, holds: Callable[[], bool], what: str) -> None:
        """Wait for something that is about to happen."""
        end = time.monotonic() + 20
        while not holds():
            assert time.monotonic() < end, what
            time.sleep(0.01)

    def close(self) -> None:
        """Nobody asks any more."""
        self.http.close()
        self._asking.shutdown(cancel_futures=True)

    def check_empty(self) -> None:
        """Nothing simulated is left behind."""
        live = self.live
        self.until(lambda: not live.present, "requests are left")
        self.until(lambda: all(replica.idle for replica in live.replicas if replica.up), "replicas are busy")
        for replica in live.replicas:
            for rank in replica.ranks:
                rank.scheduler.check_integrity()
                assert rank.scheduler.pool.free == rank.scheduler.pool.num_blocks, "blocks leak"
        assert not live.intakes and not live._gone and not live.requests.arrivals
        assert not self.endpoint.pacer.streams


@contextlib.contextmanager
def served(made: Scenario | None = None, *, has_workload: bool = True, **options: Any) -> Iterator[Served]:
    options = {"time_scale": 20.0, "port": 0, **options}
    endpoint = Endpoint(made or scenario(), Options(**options), has_workload=has_workload)
    ready = threading.Event()
    ports: list[int] = []

    def begin(port: int) -> None:
        ports.append(port)
        ready.set()

    sock = _bind("127.0.0.1", 0)
    config = uvicorn.Config(endpoint.app, log_level="warning", timeout_graceful_shutdown=5)
    server = Server(config, endpoint, begin)

    def run() -> None:
        with asyncio.Runner(loop_factory=fine_loop) as runner:
            runner.run(server.serve([sock]))

    thread = threading.Thread(target=run)
    thread.start()
    assert ready.wait(20), "the server does not start"
    made_client = Served(endpoint, server, ports[0])
    try:
        yield made_client
    finally:
        made_client.close()
        server.handle_exit(2, None)
        thread.join(20)
        sock.close()
    assert not thread.is_alive(), "the server does not stop"
    assert endpoint.pacer.error is None, endpoint.pacer.error
