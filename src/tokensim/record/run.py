"""``record``: from a server's address and a workload to recordings."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from tokensim.errors import InputError
from tokensim.record.clock import Stamps, no_pauses, runner
from tokensim.record.exposition import Wanted
from tokensim.record.http import base_url, session_of
from tokensim.record.load import LEAD_S, WATCH_S, Count, Load, Watch
from tokensim.record.probe import ServerFacts, probe
from tokensim.record.prompts import prompts_of
from tokensim.record.recording import Recording
from tokensim.record.scrape import ServerSeries, scrape
from tokensim.record.trial import Manner, Wish, find_manner
from tokensim.workload.base import Workload

if TYPE_CHECKING:
    import aiohttp

WARM_UP_STREAMS = 16
"""Warm-up requests in flight at once."""


@dataclass(frozen=True, slots=True)
class Options:
    """How to record. ``wish``: what is decided about the form of requests; ``flavour``, ``model``: None: as
    the server says. ``timeout_s`` for each request; ``scrape_s`` between two polls of the metrics, 0: none;
    ``metrics_path``. ``seed``: of the prompts' content, which differs in each of ``repeat`` passes."""

    wish: Wish = field(default_factory=Wish)
    flavour: str | None = None
    model: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    timeout_s: float = 600.0
    retries: int = 0
    warmup: int = 0
    repeat: int = 1
    seed: int = 0
    scrape_s: float = 0.25
    metrics_path: str = "/metrics"


Told = Callable[[str], None]
T = TypeVar("T")


def record(
    url: str,
    workload: Workload,
    options: Options | None = None,
    *,
    watch: Watch = lambda count: False,
    tell: Told = lambda line: None,
) -> Generator[Recording, None, None]:
    """Send ``workload`` to the server at ``url`` and time the answers: one ``Recording`` for each repeat.

    ``watch`` is called ten times a second and may stop the pass: what is there is returned (nothing, if the
    load had not begun), and no further pass follows. ``tell`` gets a line on what is found out. Raises
    ``InputError`` for a server that cannot be asked and a workload that cannot be sent.
    """
    chosen = options or Options()
    base = base_url(url)
    check_workload(workload)
    stamps = Stamps()
    with runner(stamps) as loop:
        found: tuple[ServerFacts, Manner] | None = None
        for number in range(chosen.repeat):
            recording = loop.run(_pass(base, workload, chosen, number, found, stamps, watch, tell))
            if recording is None:
                return
            found = (recording.facts, recording.manner)
            yield recording
            if not recording.driven.complete:
                return


async def _pass(
    base: str,
    workload: Workload,
    options: Options,
    number: int,
    found: tuple[ServerFacts, Manner] | None,
    stamps: Stamps,
    watch: Watch,
    tell: Told,
) -> Recording | None:
    """One pass: ask what the server is and warm it up (the first time), send the load; None if it was stopped
    before the load."""
    loop = asyncio.get_running_loop()
    async with session_of(base, options.headers) as session:
        if found is None:
            making_ready = _made_ready(session, base, workload, options, tell)
            found = await _unless_stopped(making_ready, watch, len(workload))
            if found is None:
                return None
        facts, manner = found
        prompts = prompts_of(workload, manner.vocabulary, options.seed, number, manner.overhead)
        async with session_of(base, options.headers) as beside:
            with no_pauses():
                start = loop.time() + LEAD_S

                def clock() -> float:
                    return loop.time() - start

                def came() -> float:
                    return stamps.came_s - start

                poll = asyncio.create_task(_scraped(beside, facts, options, clock))
                load = Load(
                    session, workload, prompts, manner, clock, came, options.timeout_s, options.retries
                )
                try:
                    driven = await load.drive(watch)
                finally:
                    poll.cancel()
                    series = ServerSeries()
                    with suppress(asyncio.CancelledError):
                        series = await poll
    return Recording(base, workload, facts, manner, driven, series)


async def _made_ready(
    session: aiohttp.ClientSession, base: str, workload: Workload, options: Options, tell: Told
) -> tuple[ServerFacts, Manner]:
    """What the server is and how it is asked; it is warm then."""
    clock = asyncio.get_running_loop().time
    facts = await probe(session, base, options.flavour, options.model)
    manner = await find_manner(
        session, base, facts, options.wish, clock, options.timeout_s, with_answers=holds_answers(workload)
    )
    tell(describe(facts, manner))
    check_room(workload, facts)
    if options.warmup:
        first = _first(workload, options.warmup)
        own = prompts_of(first, manner.vocabulary, options.seed, 1 << 19, manner.overhead)
        warm = await Load(session, first, own, manner, clock, clock, options.timeout_s).drive()
        failed = [outcome for outcome in warm.outcomes if not outcome.usable]
        if failed:
            raise InputError(
                f"{len(failed)} of {len(first)} warm-up requests failed: {failed[0].message}", where=base
            )
    return facts, manner


async def _unless_stopped(work: Coroutine[Any, Any, T], watch: Watch, total: int) -> T | None:
    """What ``work``, done before any of ``total`` requests is sent, gives; None if ``watch`` stops it."""
    task = asyncio.create_task(work)
    try:
        while not task.done():
            if watch(Count(total)):
                return None
            await asyncio.wait({task}, timeout=WATCH_S)
        return task.result()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _scraped(
    session: aiohttp.ClientSession, facts: ServerFacts, options: Options, clock: Callable[[], float]
) -> ServerSeries:
    wanted = Wanted(facts.engine.metrics)
    if not options.scrape_s or not (facts.metrics or options.metrics_path != "/metrics"):
        return ServerSeries()
    return await scrape(session, options.metrics_path, wanted, clock, options.scrape_s)


def describe(facts: ServerFacts, manner: Manner) -> str:
    """One line on the server and how it is asked."""
    parts = [f"{facts.engine.label} {facts.version}".strip(), facts.model or "a model without a name"]
    parts.append(f"{manner.dialect.path} with {'token ids' if manner.dialect.ids else 'text'}")
    parts.append("lengths forced" if manner.forced else "lengths not forced")
    if facts.num_gpu_blocks:
        parts.append(f"{facts.num_gpu_blocks:,} KV blocks of {facts.block_size}")
    return ", ".join(parts)


def check_workload(workload: Workload) -> None:
    """Refuse what a server of this kind cannot be sent."""
    hint = "record it without, or write the load in another way"
    if not len(workload):
        raise InputError("no request to send", where="workload")
    if int(workload.output_tokens.min()) < 1:
        raise InputError("requests without an answer are not recorded", where="workload.task", hint=hint)
    for name, what in (("encoder_tokens", "images"), ("adapter", "adapters"), ("deadline_s", "deadlines")):
        values = getattr(workload, name)
        if values is not None and bool(np.any(values > 0)):
            raise InputError(f"{what} are not sent to a live server", where=f"workload, {what}", hint=hint)
    if workload.priority is not None and len(set(workload.priority.tolist())) > 1:
        raise InputError("priorities are not sent to a live server", where="workload.priorities", hint=hint)


def check_room(workload: Workload, facts: ServerFacts) -> None:
    """Refuse requests that are longer than what the server says it can hold."""
    longest = int((workload.input_tokens + workload.output_tokens).max())
    if facts.max_model_len is not None and longest > facts.max_model_len:
        raise InputError(
            f"a request of the workload has {longest:,} tokens, and the server holds {facts.max_model_len:,}",
            where="workload",
            hint="shorter prompts or answers, or a server with a larger max_model_len",
        )


def holds_answers(workload: Workload) -> bool:
    """Whether prompts hold the answers to earlier ones."""
    segments = workload.segments
    return segments is not None and segments.output_ids is not None and bool((segments.output_ids >= 0).any())


def _first(workload: Workload, count: int) -> Workload:
    """The lengths of the first ``count`` requests, a few of them at a time."""
    return Workload(
        np.zeros(min(count, len(workload))),
        workload.input_tokens[:count],
        workload.output_tokens[:count],
        max_in_flight=WARM_UP_STREAMS,
    )
