"""What was wrong with a request, in words, and in the form that OpenAI's API gives errors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from tokensim.serve.asking import ApiError

PROMPTS = (
    "prompt: expected a text, a list of texts, a list of token ids (whole numbers from 0), or a list of such"
    " lists, none of them empty"
)

MOST_TOLD = 5


def add_error_handlers(app: FastAPI) -> None:
    """Let ``app`` answer with JSON whatever goes wrong."""
    app.add_exception_handler(ApiError, _api_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http_error)


def error_response(error: ApiError) -> Response:
    """``error`` as JSON, of ASCII only: a message may quote half a surrogate pair."""
    headers = {"WWW-Authenticate": "Bearer"} if error.status == 401 else {}
    return Response(json.dumps(error.body), error.status, headers, "application/json")


async def _api_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return error_response(error)


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    found = error.errors()
    fields = [str(one["loc"][1]) for one in found if len(one["loc"]) > 1 and one["type"] != "json_invalid"]
    told = list(dict.fromkeys(_told(one, request) for one in found))  # a prompt is wrong in four ways at once
    more = f" (and {len(told) - MOST_TOLD} more)" if len(told) > MOST_TOLD else ""
    return error_response(
        ApiError(400, "; ".join(told[:MOST_TOLD]) + more, param=fields[0] if fields else None)
    )


def _told(one: Mapping[str, Any], request: Request) -> str:
    """One complaint of pydantic's, with its place."""
    kind, place = one["type"], one["loc"][1:]
    if kind == "json_invalid":
        return f"the body is not JSON: {one['ctx']['error']} at character {place[0]}"
    if not place:
        if kind == "missing":
            return "the body is empty; expected a JSON object"
        if isinstance(one.get("input"), bytes):  # nobody has tried to read it
            came = request.headers.get("content-type")
            was = f"is '{came}'" if came else "is missing"
            return f"the header Content-Type {was}; expected application/json"
        return "the body is not a JSON object"
    if place[0] == "prompt" and kind != "missing":
        return PROMPTS
    return f"{'.'.join(map(str, place))}: {one['msg']}"


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    answer = error_response(ApiError(error.status_code, str(error.detail)))
    answer.headers.update(error.headers or {})
    return answer
