"""Around every request: its id, its log line and metrics, a clean answer to whatever goes wrong, and its key."""

from __future__ import annotations

from collections.abc import Awaitable
from time import perf_counter

import structlog
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from gatescope.errors import Unauthorized
from gatescope.server import logs
from gatescope.server.api import problems
from gatescope.server.api.headers import REQUEST_ID, REQUEST_ID_NAME, request_id_of
from gatescope.server.api.keys import HOW, Keys
from gatescope.server.api.metrics import Metrics

log = structlog.get_logger(__name__)

EXPOSED = (REQUEST_ID, "Retry-After")
"""Headers that pages of other origins may read."""


class Exchange:
    """What is known of one request and its answer; `scope["exchange"]`."""

    __slots__ = ("_header", "_send", "request_id", "status")

    def __init__(self, request_id: str, send: Send) -> None:
        self.request_id, self._header, self._send = request_id, (REQUEST_ID_NAME, request_id.encode()), send
        self.status = 0
        """Of the answer, as far as it has begun."""

    def send(self, message: Message) -> Awaitable[None]:
        """ASGI's, with the request's id among the headers."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message["headers"], self._header]
        return self._send(message)


class Observed:
    """Echo or make `X-Request-ID`, count and log the request."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id, started = request_id_of(scope["headers"]), perf_counter()
        logs.request_id.set(request_id)  # the server makes each request a context of its own
        exchange = scope["exchange"] = Exchange(request_id, send)
        await self._app(scope, receive, exchange.send)
        self._record(scope, exchange, perf_counter() - started)

    def _record(self, scope: Scope, exchange: Exchange, seconds: float) -> None:
        route, method, path = scope.get("route"), scope["method"], scope["path"]
        self._metrics.observe(method, getattr(route, "path", "unknown"), exchange.status, seconds)
        if not path.startswith("/health"):
            logs.access(method, path, exchange.status, seconds, exchange.request_id)


class Guarded:
    """Answer 500 to an unforeseen error, and end the request of a client that has left; goes within `Observed`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        try:
            await self._app(scope, receive, send)
        except ClientDisconnect:
            if scope["type"] != "http":
                raise
            log.info("the client left", method=scope["method"], path=scope["path"])
            if not scope["exchange"].status:
                await Response(status_code=problems.CLIENT_LEFT)(scope, receive, send)
        except Exception:  # the last resort: whatever it is, the client gets an answer and the log the trace
            if scope["type"] != "http":
                raise
            log.exception("request failed", method=scope["method"], path=scope["path"])
            if not scope["exchange"].status:
                await problems.internal(scope["path"])(scope, receive, send)


class Keyed:
    """Let in only requests that carry one of the keys; health, the documentation and the page are open."""

    OPEN = ("/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready", "/", "/docs", "/openapi.json")
    STATIC = ("/static-offline-docs/", "/inspector/")

    def __init__(self, app: ASGIApp, keys: Keys) -> None:
        self._app, self._keys = app, keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "lifespan" or self._is_open(scope["path"]) or self._keys.fit(Headers(scope=scope)):
            await self._app(scope, receive, send)
            return
        refused = problems.response(Unauthorized(f"send one of this server's keys {HOW}"), scope["path"])
        if scope["type"] == "websocket":
            await WebSocket(scope, receive, send).send_denial_response(refused)
        else:
            await refused(scope, receive, send)

    def _is_open(self, path: str) -> bool:
        return path in self.OPEN or path.startswith(self.STATIC)
