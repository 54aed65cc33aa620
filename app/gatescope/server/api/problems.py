"""Errors on the wire, from one table: `application/problem+json` (RFC 9457), or what Open Inference clients read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

import orjson
from fastapi import Request, Response
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from gatescope import errors
from gatescope.errors import AppError, InvalidInput, Place
from gatescope.server.api.nested import MAX_PLACES

MEDIA_TYPE, PROTOCOL_TYPE = "application/problem+json", "application/json"

STATUS: dict[type[AppError], HTTPStatus] = {
    errors.InvalidJSON: HTTPStatus.BAD_REQUEST,
    errors.Unauthorized: HTTPStatus.UNAUTHORIZED,
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

HEADERS: dict[type[AppError], dict[str, str]] = {
    errors.Overloaded: {"Retry-After": "1"},
    errors.Unauthorized: {"WWW-Authenticate": "Bearer"},
}
"""As with the status, the nearest class decides."""

CLOSE_CODES = 4000
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


def status_of(error: AppError) -> HTTPStatus:
    """The HTTP status of an error, by its nearest listed ancestor."""
    return next(STATUS[ancestor] for ancestor in type(error).__mro__ if ancestor in STATUS)


def close_code(error: AppError) -> int:
    """The code that closes a WebSocket on an error: those of applications begin at 4000."""
    return CLOSE_CODES + status_of(error)


def response(error: AppError, path: str = "") -> Response:
    """The reply that carries this error to whoever asked for this path."""
    places = [{"loc": place.loc, "msg": place.message} for place in error.places]
    headers = next((HEADERS[ancestor] for ancestor in type(error).__mro__ if ancestor in HEADERS), None)
    return _response(path, status_of(error), type(error).__name__, error.detail, places, headers)


def internal(path: str = "") -> Response:
    """The reply to an error that nobody foresaw; it says nothing of what happened inside."""
    detail = "something went wrong in the server; its log has the details under this request's X-Request-ID"
    return _response(path, HTTPStatus.INTERNAL_SERVER_ERROR, "InternalError", detail)


async def on_app_error(request: Request, error: Exception) -> Response:
    """FastAPI's handler for the tree of `AppError`."""
    if not isinstance(error, AppError):
        raise error
    return response(error, request.url.path)


async def on_http_exception(methods_at: Callable[[str], Sequence[str]], request: Request, error: Exception) -> Response:
    """FastAPI's handler for what the framework itself refuses: unknown paths and methods.

    `methods_at` tells those of all routes that a path has; the framework names those of the first alone.
    """
    if not isinstance(error, HTTPException):
        raise error
    status = HTTPStatus(error.status_code)
    detail = {
        HTTPStatus.NOT_FOUND: f"there is nothing at {request.url.path}; /docs lists every route",
        HTTPStatus.METHOD_NOT_ALLOWED: f"{request.url.path} does not take {request.method}",
    }.get(status, error.detail)
    title, headers = status.phrase.title().replace(" ", ""), error.headers
    if status == HTTPStatus.METHOD_NOT_ALLOWED and (methods := methods_at(request.url.path)):
        headers = {"Allow": ", ".join(methods)}
    return _response(request.url.path, status, title, detail, headers=headers)


async def on_unforeseen(request: Request, error: Exception) -> Response:
    """FastAPI's handler for whatever else is raised; it raises it again, for `Guarded` to log."""
    if isinstance(error, ClientDisconnect):
        return Response(status_code=CLIENT_LEFT)
    return internal(request.url.path)


def from_validation(error: ValidationError) -> InvalidInput:
    """What pydantic found wrong with a body, at up to `MAX_PLACES` places, in our words where its own do not help."""
    lines = error.errors(include_url=False, include_input=False, include_context=False)
    return InvalidInput.at(*map(_place, lines[:MAX_PLACES]))


def _place(line: Mapping[str, Any]) -> Place:
    loc = ("body", *line["loc"])
    if line["type"] == "missing":
        return Place(loc, f"'{loc[-1]}' is missing")
    return Place(loc, line["msg"].removeprefix("Value error, "))


def _response(
    path: str,
    status: HTTPStatus,
    title: str,
    detail: str,
    places: list[dict[str, Any]] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    if path == PROTOCOL or path.startswith(f"{PROTOCOL}/"):
        status = PROTOCOL_STATUS.get(status, status)
        return Response(orjson.dumps({"error": detail}), status.value, dict(headers or {}), media_type=PROTOCOL_TYPE)
    problem: dict[str, Any] = {
        "type": f"urn:gatescope:{title}",
        "title": title,
        "status": status.value,
        "detail": detail,
    }
    if places:
        problem["errors"] = places
    return Response(orjson.dumps(problem), status.value, dict(headers or {}), media_type=MEDIA_TYPE)
