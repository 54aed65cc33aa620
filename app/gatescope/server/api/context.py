"""What every route works with, kept on the application by `create_app`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from fastapi import Request
from starlette.requests import HTTPConnection

from gatescope.errors import InvalidInput, Place
from gatescope.server.api.keys import Administration
from gatescope.server.api.limits import Limits
from gatescope.server.api.patience import Held, Patience
from gatescope.server.serving.engine import Engine
from gatescope.server.serving.sessions import Sessions
from gatescope.server.serving.trace_store import Traces

TIMEOUT_HEADER = "X-Request-Timeout-Ms"
_MILLISECONDS = re.compile(r"[0-9]{1,15}")


@dataclass(frozen=True)
class Context:
    """What stands behind the API, and the operator's rules for it."""

    engine: Engine
    limits: Limits
    administration: Administration
    sessions: Sessions
    traces: Traces
    patience: Patience


def of(request: HTTPConnection) -> Context:
    """The context of the application that serves this request, or this WebSocket."""
    context: Context = request.app.state.context
    return context


def hold(request: Request) -> Held:
    """Hold a request to its deadline, reading included: what its header asks for, at most what the operator allows.

    Raises:
        InvalidInput: the header is no positive number of milliseconds.
    """
    return of(request).patience.hold(request.receive, _asked_s(request))


def hold_on(request: Request) -> Held:
    """Hold a request to the deadline that its header asks for, where it does: loading takes as long as it takes.

    Raises:
        InvalidInput: the header is no positive number of milliseconds.
    """
    return of(request).patience.hold_on(request.receive, _asked_s(request))


def _asked_s(request: Request) -> float | None:
    """Seconds that the request's header asks for."""
    given = request.headers.get(TIMEOUT_HEADER)
    if given is None:
        return None
    if not _MILLISECONDS.fullmatch(given) or int(given) == 0:
        message = f"must be a positive whole number of milliseconds, of at most 15 digits, not {given[:20]!r}"
        raise InvalidInput.at(Place(("header", TIMEOUT_HEADER), message))
    return int(given) / 1000
