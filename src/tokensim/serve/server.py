"""From a scenario to a server that runs until a signal tells it to drain, or a second one to stop."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from math import gcd
from pathlib import Path
from typing import Any

import uvicorn

from tokensim.assemble.live import LiveCluster, live_cluster
from tokensim.errors import InputError, SimulationError
from tokensim.scenario import Scenario
from tokensim.scenario.engine import Engine
from tokensim.selector import fine_loop
from tokensim.serve.app import Rules, Service, make_app
from tokensim.serve.asking import Desk
from tokensim.serve.clock import Clock
from tokensim.serve.gate import stamping
from tokensim.serve.leave import leave_run
from tokensim.serve.metrics import Metrics
from tokensim.serve.pacer import Pacer
from tokensim.serve.prefixes import PromptIndex
from tokensim.serve.tokens import HuggingFace, RuleOfThumb, Tokens
from tokensim.workload import build_workload

MOST_BLOCKS = 1 << 20
"""Blocks of prompts that are remembered at most: 200 MB of real memory."""

FEWEST_BLOCKS = 1 << 16

LOOK_S = 0.05
"""Real seconds between two looks at whether answers have had their time."""

PARTING_S = 1.0
"""Real seconds that a client gets to read the end of its answer when the server ends."""

BACKLOG = 2048
"""Connections that may wait to be accepted (uvicorn's default)."""


@dataclass(frozen=True, slots=True)
class Options:
    """How to serve. ``tokenizer``: a tokenizer.json (None: a rule of thumb); ``early_stops``: answers may end
    as those of the scenario's workload do; ``keep``: a run is left in the end; ``drain_s``: real seconds that
    answers get to end after the first signal."""

    host: str = "127.0.0.1"
    port: int = 8000
    time_scale: float = 1.0
    rules: Rules = field(default_factory=Rules)
    tokenizer: Path | None = None
    model_name: str | None = None
    early_stops: bool = False
    keep: bool = False
    drain_s: float = 30.0
    access_log: bool = False


class Endpoint:
    """``scenario`` behind an ASGI application ``app``; time begins when that starts.

    Raises ``InputError`` for what cannot be simulated.
    """

    def __init__(self, scenario: Scenario, options: Options, *, has_workload: bool = True) -> None:
        self.options = options
        self.cluster = live_cluster(with_real_client(scenario), keep=options.keep)
        tokens: Tokens = RuleOfThumb() if options.tokenizer is None else HuggingFace(options.tokenizer)
        answers = (
            build_workload(scenario.workload, scenario.seed).output_tokens.tolist() if has_workload else []
        )
        if options.early_stops and not answers:
            raise InputError(
                "nothing says when answers stop",
                where="--early-stops",
                hint="give the scenario a workload: its output_tokens are taken",
            )
        self.models = models_of(scenario, options.model_name)
        desk = Desk(
            tokens,
            self.models,
            self.cluster.max_model_len,
            [length for length in answers if length > 0],
            early_stops=options.early_stops,
        )
        self.pacer = Pacer(self.cluster, Clock(options.time_scale), self._broke_down)
        metrics = Metrics(self.cluster, next(iter(self.models)))
        index = index_of(self.cluster)
        root = model_id(scenario)
        self.service = Service(self.cluster, desk, self.pacer, metrics, index, options.rules, root)
        self.app = make_app(self.service, self._lifespan)
        self.on_failure: Callable[[], None] = lambda: None

    def save(self, folder: Path) -> bool:
        """Leave the run up to now in ``folder``; False if no request came. The server has ended."""
        simulation = self.cluster.simulation
        if not simulation.came:
            return False
        result = self.cluster.result()
        leave_run(result, simulation.workload, folder)
        return True

    @contextlib.asynccontextmanager
    async def _lifespan(self, app: Any) -> AsyncIterator[None]:
        self.pacer.clock = Clock(self.options.time_scale)
        self.pacer.ring()
        try:
            yield
        finally:
            self.pacer.stop()

    def _broke_down(self, error: Exception) -> None:
        self.on_failure()


def with_real_client(scenario: Scenario) -> Scenario:
    """``scenario`` whose front end adds nothing for the client and the way to it, unless it says how much:
    the client here is a real one, and adds that by itself."""
    performance = scenario.performance
    if performance.front_end is None or performance.front_end.client is not None:
        return scenario
    front_end = performance.front_end.model_copy(update={"client": 0.0})
    performance = performance.model_copy(update={"front_end": front_end})
    return scenario.model_copy(update={"performance": performance})


def model_id(scenario: Scenario) -> str:
    """What the scenario calls its model."""
    given = scenario.model
    return given if isinstance(given, str) else scenario.name or "model"


def models_of(scenario: Scenario, name: str | None) -> dict[str, int]:
    """The names of the model (first) and of its adapters, with their numbers."""
    models = {model_id(scenario) if name is None else name: -1}
    engines = [scenario.pool_engine(pool) for pool in scenario.cluster.pools]
    if all(engine.lora is not None for engine in engines):
        asked = scenario.workload.adapters
        for number in range(asked.count if asked is not None else _host_slots(engines)):
            models[f"adapter-{number}"] = number
    return models


def _host_slots(engines: list[Engine]) -> int:
    sections = [engine.lora for engine in engines if engine.lora is not None]
    return min(section.max_cpu_loras or section.max_loras for section in sections)


def index_of(cluster: LiveCluster) -> PromptIndex | None:
    """What knows prompts of ``cluster`` by their blocks; None if nobody caches any."""
    sizes: list[int] = []
    blocks = 0
    for instance in cluster.simulation.instances:
        for rank in instance.ranks if instance.caching else ():
            pool: Any = rank.scheduler.pool
            sizes.append(getattr(pool, "block_size", 1))
            blocks += pool.num_blocks * sizes[-1]
    if not sizes:
        return None
    size = gcd(*sizes)
    return PromptIndex(size, min(MOST_BLOCKS, max(FEWEST_BLOCKS, 4 * blocks // size)))


class Server(uvicorn.Server):
    """Stops taking requests at the first signal and lets answers end, for so long as the options say; at the
    second one those that are left end with an error."""

    def __init__(self, config: uvicorn.Config, endpoint: Endpoint, ready: Callable[[int], None]) -> None:
        super().__init__(config)
        config.load()
        config.http_protocol_class = stamping(config.http_protocol_class)
        self._endpoint = endpoint
        self._ready = ready
        self._hurried = False

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """See ``uvicorn.Server``."""
        await super().startup(sockets)
        if self.started:
            self._ready(self.servers[0].sockets[0].getsockname()[1])

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """See ``uvicorn.Server``, which would cancel what lasts too long, and tell clients nothing."""
        ending = asyncio.ensure_future(self._end_answers())
        await super().shutdown(sockets)
        ending.cancel()

    async def _end_answers(self) -> None:
        loop = asyncio.get_running_loop()
        end_s = loop.time() + self._endpoint.options.drain_s
        while loop.time() < end_s and not self._hurried and self._endpoint.pacer.error is None:
            await asyncio.sleep(LOOK_S)
        self._endpoint.service.end_answers()
        await asyncio.sleep(PARTING_S)
        for connection in list(self.server_state.connections):
            connection.transport.abort()  # its client sends, or reads, too slowly
        await asyncio.sleep(PARTING_S)
        self.force_exit = True

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are ``heeded`` for longer than uvicorn would."""
        yield

    @contextlib.contextmanager
    def heeded(self) -> Iterator[None]:
        """Take both signals: they end nothing but the server. Afterwards they are ignored, as the process is
        about to end by itself."""
        if self._endpoint.options.keep:
            import polars  # noqa: F401  (takes Ctrl-C when it is imported, and would as the files are written)
        for one in (signal.SIGINT, signal.SIGTERM):
            signal.signal(one, self.handle_exit)
        try:
            yield
        finally:
            for one in (signal.SIGINT, signal.SIGTERM):
                signal.signal(one, signal.SIG_IGN)

    def handle_exit(self, sig: int, frame: Any) -> None:
        """The first signal, or another one."""
        self._endpoint.service.draining = True
        self._hurried = self.should_exit
        self.should_exit = True


def run_server(endpoint: Endpoint, ready: Callable[[int], None], ended: Callable[[], None]) -> None:
    """Serve until a signal comes; ``ready`` is called with the port, and ``ended`` when nobody is served any
    more: no signal interrupts that. Raises ``SimulationError`` if the simulation breaks down, ``InputError``
    if the address is taken: then neither is called."""
    options = endpoint.options
    _allow_connections(options.rules.max_streams)
    sock = _bind(options.host, options.port)
    config = uvicorn.Config(
        endpoint.app,
        log_level="info" if options.access_log else "warning",
        access_log=options.access_log,
        timeout_keep_alive=75,
        server_header=False,
        date_header=False,
    )
    server = Server(config, endpoint, ready)

    def stop() -> None:
        server.should_exit = True

    endpoint.on_failure = stop
    with server.heeded():
        try:
            with asyncio.Runner(loop_factory=fine_loop) as runner:
                runner.run(server.serve([sock]))
        finally:
            sock.close()
            ended()
    if endpoint.pacer.error is not None:
        error = endpoint.pacer.error
        if isinstance(error, SimulationError):
            raise error
        raise SimulationError(f"the simulation broke down: {type(error).__name__}: {error}") from error


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns Nagle's algorithm off only where the socket says that it is TCP: else a first token waits
    # up to 40 ms for the acknowledgement of its headers.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
        sock.listen(BACKLOG)  # two may bind, one may listen
    except (OSError, OverflowError) as error:
        sock.close()
        told = getattr(error, "strerror", None) or str(error)
        raise InputError(
            f"{told}", where=f"{host}:{port}", hint="give another --port (0: any) or --host"
        ) from None
    return sock


def _allow_connections(streams: int) -> None:
    """Raise the soft limit of open files so that every stream may have a connection."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = streams + 256
        if soft < wanted:
            most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
