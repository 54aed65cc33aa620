"""What every route works with, kept on the application by `create_app`."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import TracebackType

from fastapi import Request
from starlette.requests import ClientDisconnect, HTTPConnection

from app.api.keys import Administration
from app.api.limits import Limits
from app.errors import DeadlineExceeded, InvalidInput, Place
from app.serving.engine import Engine
from app.serving.sessions import Sessions
from app.serving.traces import Traces

TIMEOUT_HEADER = "X-Request-Timeout-Ms"
INSTANT_S = 0.02
_MILLISECONDS = re.compile(r"[0-9]{1,15}")


@dataclass(frozen=True)
class Context:
    """The engine, sessions and stored traces behind the API, the operator's bounds, who may change what is served."""

    engine: Engine
    limits: Limits
    administration: Administration
    sessions: Sessions
    traces: Traces


def of(request: HTTPConnection) -> Context:
    """The context of the application that serves this request, or this WebSocket."""
    context: Context = request.app.state.context
    return context


class deadline:  # noqa: N801 - as a function would be, but quicker: every request passes through it
    """Hold a request to its deadline, reading included; gives the seconds it may take.

    Raises:
        DeadlineExceeded: they are over.
        InvalidInput: the header is no positive number of milliseconds.
    """

    __slots__ = ("_seconds", "_timeout")

    def __init__(self, request: Request) -> None:
        self._seconds = timeout_s(request)
        self._timeout = asyncio.timeout(self._seconds)

    async def __aenter__(self) -> float:
        await self._timeout.__aenter__()
        return self._seconds

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            await self._timeout.__aexit__(kind, error, traceback)
        except TimeoutError:
            raise DeadlineExceeded(f"there was no answer within {self._seconds:g} seconds") from None


class while_connected:  # noqa: N801 - likewise
    """Cancel what is done inside when the client leaves; the body must have been read before.

    What is done in an instant is not watched over: that would cost more than it could save.

    Raises:
        ClientDisconnect: it has left.
    """

    __slots__ = ("_beginning", "_here", "_left", "_request", "_watcher")

    def __init__(self, request: Request) -> None:
        self._request, self._left = request, False
        self._watcher: asyncio.Task[None] | None = None

    async def __aenter__(self) -> None:
        self._here = asyncio.current_task()
        self._beginning = asyncio.get_running_loop().call_later(INSTANT_S, self._begin)

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._beginning.cancel()
        if self._watcher is not None:
            self._watcher.cancel()
        if self._left and self._here is not None and kind is asyncio.CancelledError:
            self._here.uncancel()
            raise ClientDisconnect from None

    def _begin(self) -> None:
        self._watcher = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        while (await self._request.receive())["type"] != "http.disconnect":
            pass
        self._left = True
        if self._here is not None:
            self._here.cancel()


@asynccontextmanager
async def own_deadline(request: Request) -> AsyncIterator[None]:
    """Hold a request to the deadline that its header asks for, where it does: loading takes as long as it takes.

    Raises:
        DeadlineExceeded: it has passed.
        InvalidInput: the header is no positive number of milliseconds.
    """
    seconds = _asked_s(request)
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise DeadlineExceeded(f"this was not done within {seconds:g} seconds; what has begun goes on") from None


def timeout_s(request: Request) -> float:
    """Seconds that this request may take: what its header asks for, at most what the operator allows.

    Raises:
        InvalidInput: the header is no positive number of milliseconds.
    """
    most, asked = of(request).limits.request_timeout_s, _asked_s(request)
    return most if asked is None else min(asked, most)


def _asked_s(request: Request) -> float | None:
    """Seconds that the request's header asks for."""
    given = request.headers.get(TIMEOUT_HEADER)
    if given is None:
        return None
    if not _MILLISECONDS.fullmatch(given) or int(given) == 0:
        message = f"must be a positive whole number of milliseconds, of at most 15 digits, not {given[:20]!r}"
        raise InvalidInput.at(Place(("header", TIMEOUT_HEADER), message))
    return int(given) / 1000
