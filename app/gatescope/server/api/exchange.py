"""`Exchange`: one request's life, for every route and both adapters.

It gives a request its id, finds its route, checks Host, Origin and key, holds its deadline, admits it, calls its
endpoint, maps its error to a reply, counts and logs it.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from functools import partial
from itertools import count
from time import perf_counter

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Scope

from gatescope.errors import AppError, InvalidInput, NotReady, Place
from gatescope.server import logs
from gatescope.server.api import problems, respond_async
from gatescope.server.api.auth import Guard
from gatescope.server.api.context import Context
from gatescope.server.api.cors import Cors
from gatescope.server.api.deadlines import Deadlines
from gatescope.server.api.messages import (
    REQUEST_ID,
    TIMEOUT,
    ClientLeft,
    Endpoint,
    Head,
    Headers,
    Reply,
    Request,
    Responder,
    StreamedReply,
)
from gatescope.server.api.routes import Route, Routes
from gatescope.server.serving.deadline import Deadline

log = structlog.get_logger(__name__)


_PROCESS, _COUNTER = secrets.token_hex(4), count()
_PLAIN_ID = re.compile(rb"[\w.:/+=-]{1,128}")
_ID, _TIMEOUT = REQUEST_ID.lower().encode(), TIMEOUT.lower().encode()
_MILLISECONDS = re.compile(rb"[0-9]{1,15}")


class Exchange:
    """Answers requests.

    Args:
        context: what stands behind the endpoints.
        routes: all of them.
        framework: the ASGI application that serves the routes without an endpoint of our own.
        guard: says who may ask for what.
        cors: says which pages may read replies; None where none of another origin may.
    """

    def __init__(
        self,
        context: Context,
        routes: Routes,
        framework: ASGIApp,
        guard: Guard,
        cors: Cors | None,
    ) -> None:
        self._context, self._routes, self._framework = context, routes, framework
        self._guard, self._cors = guard, cors
        self._admission, self._metrics = context.admission, context.metrics
        self._deadlines = Deadlines()

    async def handle(self, request: Request, responder: Responder, scope: Callable[[], Scope]) -> None:
        """Answer one request.

        Args:
            request: it, with the task that this is run in.
            responder: where the reply goes.
            scope: the request as ASGI has it, for the framework.
        """
        began, head = perf_counter(), request.head
        request.id = _request_id(head)
        logs.request_id.set(request.id)  # each task has a context of its own
        request.context = self._context
        sent = _Sent(responder, [(_ID, request.id.encode())] if self._cors is None else self._cors_headers(request))
        try:
            endpoint = self._endpoint(request)
            if endpoint is None:
                await self._call_framework(request, sent, scope())
            else:
                reply = await endpoint(request, **head.path_values)
                await (sent.reply(reply) if type(reply) is Reply else sent.stream(reply))
        except BaseException as error:  # noqa: BLE001 - whatever it is, the client gets an answer and the log the trace
            await self._fail(request, sent, error)
        finally:
            self._deadlines.discard(request)
            if request.is_admitted:
                self._admission.release()
        self._record(request, sent.status, perf_counter() - began)

    def _endpoint(self, request: Request) -> Endpoint | None:
        """What answers a request that may pass; None where the framework does.

        Raises:
            AppError: it may not pass.
        """
        head = request.head
        if not head.is_allowed:
            self._allow(request)
        route = head.route
        if route is not None:
            request.route_path = route.path
        if (deadline := self._deadline(head, route)) is not None:
            request.deadline = deadline
            self._deadlines.add(request)
        if route is None:
            return None
        if route.computes:
            request.admission = self._admission
        if route.may_be_job and head.get(b"prefer") is not None and head.find(respond_async.is_preferred):
            return partial(respond_async.begin, route)
        return route.endpoint

    def _allow(self, request: Request) -> None:
        """Find the route of a head that was not seen before on this connection, and let it pass."""
        head = request.head
        if self._cors is not None and (preflight := self._cors.preflight(head)) is not None:
            raise _Preflight(preflight)
        self._routes.find(head)
        if head.route is not None:
            request.route_path = head.route.path
        head.owner = self._guard.check(head, is_loopback=request.is_loopback)
        head.is_allowed = True

    def _deadline(self, head: Head, route: Route | None) -> Deadline | None:
        """What the request's header asks for, at most what the operator allows; loading takes as long as it takes.

        Raises:
            InvalidInput: the header is no positive number of milliseconds.
        """
        given = head.get(_TIMEOUT)
        most_s = self._context.limits.request_timeout_s
        if given is None:
            return None if route is None or route.watching or route.takes_long else Deadline.after(most_s)
        if not _MILLISECONDS.fullmatch(given) or int(given) == 0:
            shown = given[:20].decode("latin-1")
            message = f"must be a positive whole number of milliseconds, of at most 15 digits, not {shown!r}"
            raise InvalidInput.at(Place(("header", TIMEOUT), message))
        seconds = int(given) / 1000
        return Deadline.after(seconds if route is None or route.takes_long else min(seconds, most_s))

    async def _call_framework(self, request: Request, sent: _Sent, scope: Scope) -> None:
        framework = _FrameworkCall(request, sent)
        if scope["method"] == "HEAD":  # whatever can be got has a head; the adapter leaves the body out
            scope = {**scope, "method": "GET"}
        try:  # in a task of asyncio's own, which anyio needs
            await asyncio.ensure_future(self._framework(scope, framework.receive, framework.send))
        finally:
            request.route_path = getattr(scope.get("route"), "path", request.route_path)

    async def _fail(self, request: Request, sent: _Sent, error: BaseException) -> None:
        """Tell the client what went wrong, if it can still be told."""
        head = request.head
        if isinstance(error, _Preflight):
            await sent.preflight(error.reply)
            return
        if isinstance(error, asyncio.CancelledError):
            error = request.take_failure() or NotReady("the service is shutting down")
            if request.task is not None:
                request.task.uncancel()
        if isinstance(error, ClientLeft | ClientDisconnect):
            log.info("the client left", method=head.method, path=head.path)
            sent.abort(problems.CLIENT_LEFT)
            return
        if isinstance(error, HTTPException):
            reply = problems.of_http(error, head, self._routes.methods_at(head.path))
        elif isinstance(error, AppError):
            reply = problems.reply(error, head.path)
        else:
            log.error("request failed", method=head.method, path=head.path, exc_info=error)
            reply = problems.internal(head.path)
        if sent.status:
            await sent.break_off(reply)
        else:
            await sent.reply(reply)

    def _cors_headers(self, request: Request) -> Headers:
        """What every reply to this request says, where pages of other origins may read some."""
        return [*(self._cors.headers(request.head) if self._cors else ()), (_ID, request.id.encode())]

    def _record(self, request: Request, status: int, seconds: float) -> None:
        head = request.head
        self._metrics.observe(head.method, request.route_path, status, seconds)
        if not head.path.startswith("/health"):
            logs.access(head.method, head.path, status, seconds, request.id)


class _Preflight(Exception):
    """A browser asks before it sends a page's request."""

    def __init__(self, reply: Reply) -> None:
        super().__init__()
        self.reply = reply


class _Sent:
    """What was sent of a reply; adds the headers that every reply has."""

    __slots__ = ("_failure", "_further", "responder", "status")

    def __init__(self, responder: Responder, further: Headers) -> None:
        self.responder, self._further = responder, further
        self._failure: Callable[[bytes], bytes] | None = None  # of a reply that is being sent piece by piece
        self.status = 0

    def reply(self, reply: Reply) -> Awaitable[None]:
        """Send a whole reply."""
        self.status = reply.status
        reply.headers += self._further
        return self.responder.send(reply)

    async def preflight(self, reply: Reply) -> None:
        """Send what a browser asked before its page's request: it has its own CORS headers."""
        self._further = self._further[-1:]
        await self.reply(reply)

    def abort(self, status: int) -> None:
        """Close the connection; the status is for metrics and the log."""
        self.status = self.status or status
        self.responder.abort()

    async def stream(self, reply: StreamedReply) -> None:
        """Send a reply piece by piece."""
        async with aclosing(reply.pieces) as pieces:
            await self.start(200, [(b"content-type", reply.media_type.encode())])
            self._failure = reply.failure
            async for piece in pieces:
                self._failure = reply.failure if piece.endswith(b"\n") else None  # nothing is told within a line
                await self.responder.write(piece)
            self._failure = None
            await self.responder.end()

    async def break_off(self, problem: Reply) -> None:
        """End a reply that has begun with what went wrong, where its format can tell that."""
        failure, self._failure = self._failure, None
        if failure is None:
            self.abort(self.status)
            return
        try:
            await self.responder.write(failure(bytes(problem.pieces[0])))
            await self.responder.end()
        except ClientLeft:
            self.abort(problems.CLIENT_LEFT)

    async def start(self, status: int, headers: Headers) -> None:
        """Send the head of a reply."""
        self.status = status
        await self.responder.start(status, [*headers, *self._further])


class _FrameworkCall:
    """The two callables of ASGI for one request."""

    def __init__(self, request: Request, sent: _Sent) -> None:
        self._request, self._sent = request, sent
        self._is_read = False
        self._head: tuple[int, Headers] | None = None  # of a reply of which no body has come yet

    async def receive(self) -> Message:
        """ASGI: the body, and then that the client has left, when it has."""
        if self._is_read:
            await asyncio.get_running_loop().create_future()  # the request is given up when its client leaves
        piece = await self._request.body.next()
        self._is_read = not piece
        return {"type": "http.request", "body": piece, "more_body": bool(piece)}

    async def send(self, message: Message) -> None:
        """ASGI: a head and a body that come together are sent together."""
        if message["type"] == "http.response.start":
            self._head = message["status"], list(message.get("headers", ()))
            return
        piece, goes_on = message.get("body", b""), message.get("more_body", False)
        if self._head is not None:
            status, headers = self._head
            self._head = None
            if not goes_on:
                await self._sent.reply(Reply(status, (piece,), None, headers))
                return
            await self._sent.start(status, headers)
        if piece:
            await self._sent.responder.write(piece)
        if not goes_on:
            await self._sent.responder.end()


def _request_id(head: Head) -> str:
    """The id that a request brings, if it can be one, else another."""
    given = head.get(_ID)
    if given is not None and _PLAIN_ID.fullmatch(given):
        return given.decode()
    return new_request_id()


def new_request_id() -> str:
    """An id that no other request has."""
    return f"{_PROCESS}{next(_COUNTER):08x}"
