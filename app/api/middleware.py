"""Around every request: its id, its log line and metrics, a clean answer to whatever goes wrong, and its key."""

from __future__ import annotations

import re
import secrets
import time
from itertools import count

import structlog
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from app import logs
from app.api import problems
from app.api.keys import HOW, Keys
from app.api.metrics import Metrics
from app.errors import Unauthorized

log = structlog.get_logger(__name__)

REQUEST_ID = "X-Request-ID"
EXPOSED = (REQUEST_ID, "Retry-After")
"""Headers that pages of other origins may read."""

_PROCESS, _COUNTER = secrets.token_hex(4), count()
_PLAIN_ID = re.compile(r"[\w.:/+=-]{1,128}")


class Observed:
    """Echo or make `X-Request-ID`, count and log the request."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id, status, started = _request_id(scope), 0, time.perf_counter()
        header = (REQUEST_ID.lower().encode(), request_id.encode())

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], header]
            await send(message)

        logs.request_id.set(request_id)  # the server makes each request a context of its own
        await self._app(scope, receive, send_with_id)
        self._record(scope, status, time.perf_counter() - started)

    def _record(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "unknown")
        self._metrics.observe(scope["method"], route, status, seconds)
        if not scope["path"].startswith("/health"):
            logs.access(scope["method"], scope["path"], status, round(seconds * 1000, 2))


def _request_id(scope: Scope) -> str:
    name = REQUEST_ID.lower().encode()
    given = next((value.decode("latin-1") for key, value in scope["headers"] if key == name), "")
    return given if _PLAIN_ID.fullmatch(given) else f"{_PROCESS}{next(_COUNTER):08x}"


class Guarded:
    """Answer 500 to an unforeseen error, and end the request of a client that has left."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def noting_send(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, noting_send)
        except ClientDisconnect:
            log.info("the client left", method=scope["method"], path=scope["path"])
            if not started:
                await Response(status_code=problems.CLIENT_LEFT)(scope, receive, send)
        except Exception:  # the last resort: whatever it is, the client gets an answer and the log the trace
            log.exception("request failed", method=scope["method"], path=scope["path"])
            if not started:
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
