"""`Direct`: the way of the requests that come by the thousand, past the framework's own."""

from __future__ import annotations

from functools import cached_property

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from gatescope.errors import AppError
from gatescope.server.api import problems
from gatescope.server.api.headers import PlainHeaders
from gatescope.server.api.ways import Ways


class Direct:
    """Calls the endpoints of some POST routes itself; every other request goes on to the framework.

    The framework looks at one route after the other, solves what an endpoint depends on and validates what it gives:
    for these routes, which read and write their bodies themselves, all of that is work without a result.

    Args:
        app: what all other requests go to.
        ways: the routes.
    """

    def __init__(self, app: ASGIApp, ways: Ways) -> None:
        self._app, self._ways = app, ways

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        found = self._ways.of(scope["path"]) if scope["type"] == "http" and scope["method"] == "POST" else None
        if found is None:
            await self._app(scope, receive, send)
            return
        way, names = found
        scope["route"] = way
        try:
            response = await way.endpoint(_Request(scope, receive), **names)
        except AppError as error:
            response = problems.response(error, scope["path"])
        await response(scope, receive, send)


class _Request(Request):
    """One whose headers are looked up once."""

    @cached_property
    def headers(self) -> Headers:
        """By their names in small letters."""
        return PlainHeaders(raw=self.scope["headers"])
