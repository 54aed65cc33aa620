"""`Direct`: the way of the requests that come by the thousand, past the framework's own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api import problems
from app.errors import AppError

Endpoint = Callable[..., Awaitable[Response]]


@dataclass(frozen=True)
class _Template:
    """A path with names in braces; what stands there is for the endpoint."""

    path: str  # called as Starlette's routes call it: metrics read it
    endpoint: Endpoint

    @property
    def parts(self) -> list[str]:
        return self.path.split("/")


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


class Direct:
    """Calls the endpoints of some POST routes itself; every other request goes on to the framework.

    The framework looks at one route after the other, solves what an endpoint depends on and validates what it gives:
    for these routes, which read and write their bodies themselves, all of that is work without a result.

    Args:
        app: what all other requests go to.
        routes: paths with names in braces, and their endpoints, which take the request and what stands for the names.
    """

    def __init__(self, app: ASGIApp, routes: dict[str, Endpoint]) -> None:
        self._app = app
        self._templates: dict[tuple[str, int], _Template] = {}
        for path, endpoint in routes.items():
            template = _Template(path, endpoint)
            self._templates[template.parts[-1], len(template.parts)] = template

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        found = self._found(scope) if scope["type"] == "http" and scope["method"] == "POST" else None
        if found is None:
            await self._app(scope, receive, send)
            return
        scope["route"], names = found
        response = await _answer(found[0].endpoint, _Request(scope, receive), names)
        await response(scope, receive, send)

    def _found(self, scope: Scope) -> tuple[_Template, dict[str, str]] | None:
        """The template that the path fits, and what stands for its names."""
        parts = scope["path"].split("/")
        template = self._templates.get((parts[-1], len(parts)))
        if template is None:
            return None
        names = {}
        for wanted, part in zip(template.parts, parts, strict=True):
            if wanted.startswith("{"):
                names[wanted[1:-1]] = part
            elif wanted != part:
                return None
        return (template, names) if all(names.values()) else None


async def _answer(endpoint: Endpoint, request: Request, names: dict[str, Any]) -> Response:
    try:
        return await endpoint(request, **names)
    except AppError as error:
        return problems.response(error, request.scope["path"])
