"""What is looked at before anything is read: when it came, the API key, and the size of the body."""

from __future__ import annotations

import json
from secrets import compare_digest
from time import perf_counter
from typing import Any

from tokensim.serve.asking import ApiError

CAME = "tokensim.came"
"""Where the scope, and its ``state``, say when the request came, by the real clock."""

GUARDED = ("/v1/", "/admin/")


def stamping(protocol: type[Any]) -> type[Any]:
    """``protocol`` of uvicorn, noting when bytes come in: a request's task runs a quarter of a millisecond
    after that at best, and much later when others are read before it. Every implementation gives a request
    a copy of ``app_state`` when it begins."""

    class Stamping(protocol):  # type: ignore[misc]
        def data_received(self, data: bytes) -> None:
            self.app_state[CAME] = perf_counter()
            super().data_received(data)

    return Stamping


class Gate:
    """ASGI middleware. ``api_key`` None: anybody; a body of more than ``max_bytes`` is refused."""

    def __init__(self, app: Any, api_key: str | None, max_bytes: int) -> None:
        self._app = app
        self._key = None if api_key is None else api_key.encode()
        self._max_bytes = max_bytes

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope[CAME] = scope.get("state", {}).get(CAME) or perf_counter()
        headers = dict(scope["headers"])
        guarded = self._key is not None and scope["path"].startswith(GUARDED)
        if guarded and not compare_digest(_bearer(headers.get(b"authorization", b"")), self._key or b""):
            await _refuse(send, ApiError(401, "Unauthorized"))
            return
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > self._max_bytes:
            await _refuse(send, self._too_large())
            return
        read, started, too_large = 0, False, False

        async def counted() -> Any:
            nonlocal read, too_large
            message = await receive()
            read += len(message.get("body", b""))
            if read > self._max_bytes and not started:
                too_large = True
                return {"type": "http.disconnect"}  # whoever reads stops reading
            return message

        async def noted(message: Any) -> None:
            nonlocal started
            if not too_large:
                started = True
                await send(message)

        await self._app(scope, counted, noted)
        if too_large:
            await _refuse(send, self._too_large())

    def _too_large(self) -> ApiError:
        return ApiError(413, f"The body is larger than {self._max_bytes} bytes.")


def _bearer(authorization: bytes) -> bytes:
    """The token of the header; nothing if it is of another scheme, whose name may be in any case."""
    scheme, _, token = authorization.partition(b" ")
    return token.strip() if scheme.lower() == b"bearer" else b""


async def _refuse(send: Any, error: ApiError) -> None:
    body = json.dumps(error.body).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),  # what is left of the body is not read
    ]
    if error.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
