"""What every route works with, kept on the application by `create_app`."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import Request

from app.api.limits import Limits
from app.errors import InvalidInput, Place
from app.serving.engine import Engine

TIMEOUT_HEADER = "X-Request-Timeout-Ms"


@dataclass(frozen=True)
class Context:
    """The engine behind the API and the operator's bounds."""

    engine: Engine
    limits: Limits


def of(request: Request) -> Context:
    """The context of the application that serves this request."""
    context: Context = request.app.state.context
    return context


def timeout_s(request: Request) -> float:
    """Seconds that this request may take: what its header asks for, at most what the operator allows.

    Raises:
        InvalidInput: the header is no positive number of milliseconds.
    """
    most = of(request).limits.request_timeout_s
    given = request.headers.get(TIMEOUT_HEADER)
    if given is None:
        return most
    if not given.isdecimal() or int(given) == 0:
        message = f"must be a positive whole number of milliseconds, not {given!r}"
        raise InvalidInput.at(Place(("header", TIMEOUT_HEADER), message))
    return min(int(given) / 1000, most)
