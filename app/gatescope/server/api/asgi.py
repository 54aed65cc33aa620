"""`AsgiApplication`: the exchange as an ASGI application, for other servers, tests and use in this process."""

from __future__ import annotations

import asyncio
from ipaddress import ip_address

from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from gatescope.errors import AppError, BodyTooLarge
from gatescope.server.api import problems
from gatescope.server.api.auth import Guard
from gatescope.server.api.context import OWNER
from gatescope.server.api.exchange import Exchange
from gatescope.server.api.messages import ClientLeft, Content, Head, Headers, Reply, Request
from gatescope.server.api.routes import Routes

WATCHED_AFTER_S = 0.1
"""What takes longer is given up when its client leaves; to watch for that costs more than less is worth."""


class AsgiApplication:
    """Runs every HTTP request through the exchange, and lets WebSockets in.

    Args:
        exchange: answers the requests.
        framework: the ASGI application behind it: it serves WebSockets and the lifespan.
        guard: says who may open a WebSocket.
        routes: all of them.
    """

    def __init__(self, exchange: Exchange, framework: ASGIApp, guard: Guard, routes: Routes) -> None:
        self._exchange, self._framework, self._guard, self._routes = exchange, framework, guard, routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "http":
            await self._answer(scope, receive, send)
        elif scope["type"] != "websocket":
            await self._framework(scope, receive, send)
        elif (refusal := self._refusal(scope)) is not None:
            await WebSocket(scope, receive, send).send_denial_response(problems.response(refusal))
        else:
            await self._framework(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = AsgiBody(receive)
        request = Request(_head(scope), body, is_loopback=_is_loopback(scope))
        request.stated_bytes, request.task = request.head.content_length or 0, asyncio.current_task()
        watching = asyncio.get_running_loop().call_later(WATCHED_AFTER_S, body.watch, request)
        try:
            await self._exchange.handle(request, AsgiResponder(send), lambda: scope)
        finally:
            watching.cancel()
            body.stop_watching()

    def _refusal(self, scope: Scope) -> AppError | None:
        """Why a WebSocket may not be opened; of one that may, it is noted in the scope whose it is."""
        head = _head(scope)
        self._routes.find(head)
        try:
            scope[OWNER] = self._guard.check(head, is_loopback=_is_loopback(scope), is_websocket=True)
        except AppError as error:
            return error
        return None


class AsgiBody:
    """A body as ASGI receives it."""

    __slots__ = ("_is_complete", "_receive", "_watcher")

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._is_complete = False
        self._watcher: asyncio.Task[None] | None = None

    @property
    def whole(self) -> bytes | None:
        """It must be received."""
        return None

    async def all(self, max_bytes: int) -> bytes:
        """All of it; raises `BodyTooLarge`, `ClientLeft`."""
        pieces: list[bytes] = []
        size = 0
        while not self._is_complete:
            pieces.append(await self.next())
            size += len(pieces[-1])
            if size > max_bytes:
                raise BodyTooLarge.than(max_bytes)
        return b"".join(pieces)

    async def next(self) -> bytes:
        """What has come since; empty at the end. Raises `ClientLeft`."""
        while not self._is_complete:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientLeft
            self._is_complete = not message.get("more_body", False)
            if piece := message.get("body", b""):
                return bytes(piece)
        return b""

    def watch(self, request: Request) -> None:
        """Give the request up when its client leaves; only where nobody else reads the body."""
        if self._is_complete:
            self._watcher = asyncio.get_running_loop().create_task(self._watch(request))

    def stop_watching(self) -> None:
        """The request is answered."""
        if self._watcher is not None:
            self._watcher.cancel()

    async def _watch(self, request: Request) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        request.give_up(ClientLeft())


class AsgiResponder:
    """The `Responder` of a request that came by ASGI."""

    __slots__ = ("_send", "has_started")

    def __init__(self, send: Send) -> None:
        self._send, self.has_started = send, False

    async def send(self, reply: Reply) -> None:
        """Send a whole reply."""
        await self.start(reply.status, reply.headers)
        for piece in reply.pieces[:-1]:
            await self.write(piece)
            await asyncio.sleep(0)  # sending to a fast reader waits for nothing: others must get their turn
        last = bytes(reply.pieces[-1]) if reply.pieces else b""
        await self._send({"type": "http.response.body", "body": last, "more_body": False})

    async def start(self, status: int, headers: Headers) -> None:
        """Send the head of a reply."""
        self.has_started = True
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def write(self, piece: Content) -> None:
        """Send a piece of the body."""
        await self._send({"type": "http.response.body", "body": bytes(piece), "more_body": True})

    async def end(self) -> None:
        """End the body."""
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    def abort(self) -> None:
        """The server closes the connection, for the reply is not ended."""


def _head(scope: Scope) -> Head:
    return Head(
        scope.get("method", "WEBSOCKET"),
        scope["path"],
        scope["query_string"],
        list(scope["headers"]),
        scope.get("http_version", "1.1"),
        scope.get("raw_path") or b"",
    )


def _is_loopback(scope: Scope) -> bool:
    """Whether only this machine reaches the socket; false where the server does not tell."""
    server = scope.get("server")
    try:
        return server is not None and ip_address(server[0]).is_loopback
    except ValueError:
        return False
