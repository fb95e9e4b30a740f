"""One HTTP session for everything: plain, no redirects, no proxies of the environment, nothing retried.

A connection serves one stream at a time; there may be as many as there are streams.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tokensim.errors import InputError

if TYPE_CHECKING:
    import aiohttp

KEEP_ALIVE_S = 2.0
"""An idle connection is given up after so long: before the server does (uvicorn after 5 s,
``--timeout-keep-alive``), lest a request is sent into a connection that is just being closed."""

MOST_PAGE_BYTES = 4 << 20
"""What a page of metrics or facts may have; vLLM's with all histograms is 0.1 MB."""


def base_url(text: str) -> str:
    """The server's address without ``/v1``; raises ``InputError`` for what is none."""
    hint = "e.g. http://localhost:8000"
    where = f"URL {text}"
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        port = parts.port
    except ValueError as error:
        raise InputError(f"not an address: {error}", where=where, hint=hint) from None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise InputError("not the address of a server", where=where, hint=hint)
    if parts.query or parts.fragment:
        raise InputError("an address with a query", where=where, hint=hint)
    if parts.username is not None or parts.password is not None:
        raise InputError("an address with a password in it", where="URL", hint="--api-key, or --header")
    path = parts.path.rstrip("/").removesuffix("/v1")
    return f"{parts.scheme}://{parts.netloc}{path}"


@asynccontextmanager
async def session_of(base: str, headers: Mapping[str, str]) -> AsyncIterator[aiohttp.ClientSession]:
    """A session with the server at ``base`` that fills in a request's ``Passing``; raises ``InputError``
    without aiohttp."""
    try:
        import aiohttp
    except ImportError:
        raise InputError(
            "recording a server needs aiohttp", where="tokensim record", hint="pip install 'tokensim[record]'"
        ) from None
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_S, ttl_dns_cache=None)
    session = aiohttp.ClientSession(
        base,
        connector=connector,
        timeout=aiohttp.ClientTimeout(total=None),
        headers={"Accept-Encoding": "identity", "User-Agent": "tokensim-record", **headers},
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        trace_configs=[_trace()],
    )
    async with session:
        yield session


@dataclass(slots=True)
class Passing:
    """What a session notes of a request on its way, by the request's own ``clock``: how long its new
    connection took, or that it had an old one, and when its body was written (None: it was not)."""

    clock: Callable[[], float]
    started_s: float = 0.0
    took_s: float = 0.0
    reused: bool = False
    sent_s: float | None = None


def _trace() -> aiohttp.TraceConfig:
    """A trace that fills in the request's ``Passing``."""
    import aiohttp

    config = aiohttp.TraceConfig()

    async def start(session: object, context: object, params: object) -> None:
        if isinstance(noted := getattr(context, "trace_request_ctx", None), Passing):
            noted.started_s = noted.clock()

    async def end(session: object, context: object, params: object) -> None:
        if isinstance(noted := getattr(context, "trace_request_ctx", None), Passing):
            noted.took_s = noted.clock() - noted.started_s

    async def reuse(session: object, context: object, params: object) -> None:
        if isinstance(noted := getattr(context, "trace_request_ctx", None), Passing):
            noted.reused = True

    async def sent(session: object, context: object, params: object) -> None:
        if isinstance(noted := getattr(context, "trace_request_ctx", None), Passing):
            noted.sent_s = noted.clock()

    config.on_connection_reuseconn.append(reuse)
    config.on_connection_create_start.append(start)
    config.on_connection_create_end.append(end)
    config.on_request_chunk_sent.append(sent)
    return config


async def page(session: aiohttp.ClientSession, path: str, timeout_s: float) -> tuple[int, bytes]:
    """Status and content of ``path``, status 0 if there is no answer in time or it is too long."""
    import aiohttp

    with suppress(aiohttp.ClientError, OSError, ValueError, TimeoutError):
        async with (
            asyncio.timeout(timeout_s),
            session.get(path, allow_redirects=False) as response,
        ):
            content = await some(response.content, MOST_PAGE_BYTES)
            return (response.status, content) if len(content) < MOST_PAGE_BYTES else (0, b"")
    return 0, b""


async def some(content: aiohttp.StreamReader, most: int) -> bytes:
    """The first ``most`` bytes of ``content``, or all if it has fewer."""
    found = bytearray()
    while len(found) < most and (more := await content.read(most - len(found))):
        found += more
    return bytes(found)


def raise_file_limit(streams: int) -> None:
    """Allow this process as many open connections as it may have, if it needs more than it has; a system
    without such limits needs nothing."""
    try:
        import resource
    except ImportError:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = streams + 256
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(most, soft), hard))
