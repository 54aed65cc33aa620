"""`Direct`: the way of the requests that come by the thousand, past the framework's own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api import problems
from app.api.context import TIMEOUT_HEADER, Context
from app.errors import AppError

Endpoint = Callable[..., Awaitable[Response]]
"""Takes the request and what stands for the names of its path."""

Quick = Callable[..., Awaitable[bytes | None]]
"""Takes the context, a body in JSON and what stands for the names, and gives the reply in JSON; None gives up."""

PATHS_KNOWN = 4096

_JSON = b"application/json"
_TYPE = (b"content-type", _JSON)
_ACCEPTED = (None, b"*/*", _JSON)
_TOLD = frozenset((b"content-encoding", TIMEOUT_HEADER.lower().encode()))
"""Headers that say how a request is to be treated."""


@dataclass(frozen=True)
class Way:
    """What answers a path with names in braces."""

    path: str  # called as Starlette's routes call it: metrics read it
    endpoint: Endpoint
    quick: Quick | None = None
    """Tried first where the headers say nothing out of the ordinary."""

    @cached_property
    def parts(self) -> list[str]:
        """Of the path."""
        return self.path.split("/")

    def names(self, parts: list[str]) -> dict[str, str] | None:
        """What stands for the names in a path with as many parts; None if it is not this one's."""
        names = {}
        for wanted, part in zip(self.parts, parts, strict=True):
            if wanted.startswith("{"):
                names[wanted[1:-1]] = part
            elif wanted != part:
                return None
        return names if all(names.values()) else None


class Direct:
    """Calls the endpoints of some POST routes itself; every other request goes on to the framework.

    The framework looks at one route after the other, solves what an endpoint depends on and validates what it gives:
    for these routes, which read and write their bodies themselves, all of that is work without a result.

    Args:
        app: what all other requests go to.
        ways: the routes.
        context: for those that are quick.
    """

    def __init__(self, app: ASGIApp, ways: list[Way], context: Context) -> None:
        self._app, self._context = app, context
        self._ways = {(way.parts[-1], len(way.parts)): way for way in ways}
        self._known = lru_cache(PATHS_KNOWN)(self._found)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        found = self._known(scope["path"]) if scope["type"] == "http" and scope["method"] == "POST" else None
        if found is None:
            await self._app(scope, receive, send)
            return
        way, names = found
        scope["route"] = way
        try:
            if way.quick is not None and _is_plain(scope["headers"]):
                message, content = await self._quickly(way.quick, names, receive)
                if content is not None:
                    length = b"content-length", b"%d" % len(content)
                    await send({"type": "http.response.start", "status": 200, "headers": [length, _TYPE]})
                    await send({"type": "http.response.body", "body": content})
                    return
                receive = _again(message, receive)
            response = await way.endpoint(_Request(scope, receive), **names)
        except AppError as error:
            response = problems.response(error, scope["path"])
        await response(scope, receive, send)

    async def _quickly(self, quick: Quick, names: Mapping[str, str], receive: Receive) -> tuple[Message, bytes | None]:
        """The first message of the body, and the answer where there is one."""
        with self._context.patience.hold(receive) as held:
            message = await receive()
            content = message.get("body", b"")
            if message["type"] == "http.disconnect" or message.get("more_body"):
                return message, None
            if len(content) > self._context.limits.max_body_bytes:
                return message, None
            held.watch()
            return message, await quick(self._context, content, **names)

    def _found(self, path: str) -> tuple[Way, dict[str, str]] | None:
        """The way that the path fits, and what stands for its names."""
        parts = path.split("/")
        way = self._ways.get((parts[-1], len(parts)))
        names = None if way is None else way.names(parts)
        return None if way is None or names is None else (way, names)


def _is_plain(headers: list[tuple[bytes, bytes]]) -> bool:
    """Whether JSON comes, may be answered, and nothing else is said that would make a difference."""
    given = dict(headers)
    return (
        given.get(b"content-type") == _JSON
        and given.get(b"accept") in _ACCEPTED
        and given.keys().isdisjoint(_TOLD)
        and len(given) == len(headers)
    )


def _again(message: Message, receive: Receive) -> Receive:
    """`receive` before this message was taken from it."""
    messages = [message]

    async def receive_again() -> Message:
        return messages.pop() if messages else await receive()

    return receive_again


class _Request(Request):
    """One whose headers are looked up once."""

    @cached_property
    def headers(self) -> Headers:
        """By their names in small letters."""
        return _Headers(raw=self.scope["headers"])


class _Headers(Headers):
    """Headers in a dictionary: a request asks for half a dozen of them."""

    def __init__(self, *, raw: list[tuple[bytes, bytes]]) -> None:
        super().__init__(raw=raw)
        self._first = {name: value.decode("latin-1") for name, value in reversed(raw)}

    def get(self, key: str, default: Any = None) -> Any:
        """The first of this name."""
        return self._first.get(key.lower().encode("latin-1"), default)
