"""Errors on the wire, from one table: `application/problem+json` (RFC 9457), or what Open Inference clients read."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from http import HTTPStatus
from typing import Any

import orjson
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from gatescope import errors
from gatescope.errors import AppError, InvalidInput, Place
from gatescope.server.api.messages import Head, Headers, Reply
from gatescope.server.api.schema.shapes import MAX_PLACES

MEDIA_TYPE, PROTOCOL_TYPE = "application/problem+json", "application/json"

STATUS: dict[type[AppError], HTTPStatus] = {
    errors.InvalidJSON: HTTPStatus.BAD_REQUEST,
    errors.Unauthorized: HTTPStatus.UNAUTHORIZED,
    errors.Forbidden: HTTPStatus.FORBIDDEN,
    errors.TooSlow: HTTPStatus.REQUEST_TIMEOUT,
    errors.HeadTooLarge: HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    errors.NotFound: HTTPStatus.NOT_FOUND,
    errors.Conflict: HTTPStatus.CONFLICT,
    errors.NotAcceptable: HTTPStatus.NOT_ACCEPTABLE,
    errors.BodyTooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.ReplyTooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.TraceTooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.UnsupportedMediaType: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    errors.InvalidInput: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.BadRequest: HTTPStatus.BAD_REQUEST,
    errors.Overloaded: HTTPStatus.TOO_MANY_REQUESTS,
    errors.DeadlineExceeded: HTTPStatus.GATEWAY_TIMEOUT,
    errors.Unavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.ModelError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.AppError: HTTPStatus.INTERNAL_SERVER_ERROR,
}
"""The nearest class of an error's ancestry that stands here decides."""

HEADERS: dict[type[AppError], Headers] = {
    errors.Overloaded: [(b"retry-after", b"1")],
    errors.Unauthorized: [(b"www-authenticate", b"Bearer")],
}
"""As with the status, the nearest class decides."""

CLOSE_CODES = 4000
_LONGEST_NAME = 64
_QUOTED = re.compile("'([^']*)'")
CLIENT_LEFT = 499  # nobody reads it; logs and metrics do

PROTOCOL = "/v2"
"""Under this path every error is `{"error": "…"}`: its clients read nothing else."""

PROTOCOL_STATUS = {
    HTTPStatus.UNPROCESSABLE_ENTITY: HTTPStatus.BAD_REQUEST,
    HTTPStatus.CONFLICT: HTTPStatus.BAD_REQUEST,
}
"""The protocol has one status for all that is wrong with a request."""


class ProblemPlace(BaseModel):
    """One thing that is wrong, and where."""

    loc: list[str | int]
    msg: str


class Problem(BaseModel):
    """The body of every error."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[ProblemPlace] = []


class ProtocolError(BaseModel):
    """The body of every error under `/v2`."""

    error: str


@cache
def status_of(kind: type[AppError]) -> HTTPStatus:
    """The HTTP status of a kind of error, by its nearest listed ancestor."""
    return next(STATUS[ancestor] for ancestor in kind.__mro__ if ancestor in STATUS)


@cache
def headers_of(kind: type[AppError]) -> Headers:
    """The headers that a kind of error has, by its nearest listed ancestor."""
    return next((HEADERS[ancestor] for ancestor in kind.__mro__ if ancestor in HEADERS), [])


def close_code(error: AppError) -> int:
    """The code that closes a WebSocket on an error: those of applications begin at 4000."""
    return CLOSE_CODES + status_of(type(error))  # type: ignore[arg-type]  # a class can be hashed


def reply(error: AppError, path: str = "") -> Reply:
    """The reply that carries this error to whoever asked for this path."""
    kind, places = type(error), [{"loc": place.loc, "msg": place.message} for place in error.places]
    status, headers = status_of(kind), headers_of(kind)  # type: ignore[arg-type]  # a class can be hashed
    return _reply(path, status, kind.__name__, error.detail, places, headers)


def response(error: AppError) -> Response:
    """The same as Starlette's response, for a WebSocket that is not opened."""
    sent = reply(error)
    headers = {name.decode(): value.decode() for name, value in sent.headers if name != b"content-length"}
    return Response(bytes(sent.pieces[0]), sent.status, headers)


def internal(path: str = "") -> Reply:
    """The reply to an error that nobody foresaw; it says nothing of what happened inside."""
    detail = "something went wrong in the server; its log has the details under this request's X-Request-ID"
    return _reply(path, HTTPStatus.INTERNAL_SERVER_ERROR, "InternalError", detail)


def of_http(error: HTTPException, head: Head, methods: Sequence[str]) -> Reply:
    """The reply to what the framework itself refuses: unknown paths and methods.

    Args:
        error: of the framework.
        head: of the request.
        methods: those that the path has, of all routes; the framework names those of the first alone.
    """
    status = HTTPStatus(error.status_code)
    detail = {
        HTTPStatus.NOT_FOUND: f"there is nothing at {head.path}; /docs lists every route",
        HTTPStatus.METHOD_NOT_ALLOWED: f"{head.path} does not take {head.method}",
    }.get(status, error.detail)
    headers = [(name.lower().encode(), value.encode()) for name, value in (error.headers or {}).items()]
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        known = methods or [name.strip() for name in (error.headers or {}).get("Allow", "").split(",")]
        known = sorted({*known, "HEAD"} if "GET" in known else known)
        headers = [(b"allow", ", ".join(known).encode())]
    return _reply(head.path, status, status.phrase.title().replace(" ", ""), detail, headers=headers)


def body_of(error: AppError) -> bytes:
    """The error as JSON, for what has no status of its own: a line of a stream, a message of a WebSocket."""
    return bytes(reply(error).pieces[0])


def from_validation(error: ValidationError) -> InvalidInput:
    """What pydantic found wrong with a body, at up to `MAX_PLACES` places, in our words where its own do not help."""
    lines = error.errors(include_url=False)
    return InvalidInput.at(*map(_place, lines[:MAX_PLACES]))


def _place(line: Mapping[str, Any]) -> Place:
    loc = ("body", *line["loc"])
    if line["type"] == "missing":
        return Place(loc, f"'{loc[-1]}' is missing")
    if line["type"] == "literal_error" and isinstance(given := line["input"], str):
        known = _QUOTED.findall(line["ctx"]["expected"])
        if near := get_close_matches(given[:_LONGEST_NAME], known, n=1):
            return Place(loc, f"there is no '{given[:_LONGEST_NAME]}'; did you mean '{near[0]}'?")
    return Place(loc, line["msg"].removeprefix("Value error, "))


def _reply(
    path: str,
    status: HTTPStatus,
    title: str,
    detail: str,
    places: list[dict[str, Any]] | None = None,
    headers: Sequence[tuple[bytes, bytes]] = (),
) -> Reply:
    if path == PROTOCOL or path.startswith(f"{PROTOCOL}/"):
        status = PROTOCOL_STATUS.get(status, status)
        return Reply(status.value, (orjson.dumps({"error": detail}),), PROTOCOL_TYPE, headers)
    problem: dict[str, Any] = {
        "type": f"urn:gatescope:{title}",
        "title": title,
        "status": status.value,
        "detail": detail,
    }
    if places:
        problem["errors"] = places
    return Reply(status.value, (orjson.dumps(problem),), MEDIA_TYPE, headers)
