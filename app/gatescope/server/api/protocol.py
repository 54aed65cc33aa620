"""`Protocol`: uvicorn's HTTP, which hands the requests that `Quick` takes to it, and the others to the application."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any

import structlog
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from gatescope.server.api.quick import LONGEST_LENGTH, Pending, Quick, Taken
from gatescope.server.api.request_head import Head
from gatescope.server.api.written import Content

PATIENCE_S = 0.1
"""So long the rest of a body may take until the application waits for it, with all of its deadlines."""

MOST_JOINED = 32 * 1024
"""A body of so many bytes is written together with its headers: to copy it costs less than another call."""

log = structlog.get_logger(__name__)


class Protocol(HttpToolsProtocol):
    """One connection.

    uvicorn's own keeps the order of pipelined requests, keeps connections alive and closes them; a request that is
    answered quickly is a cycle to it like any other, only that no task runs the application for it. Where the head is
    that of an earlier one, it is that one's cycle once more.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._quick: Quick = self.config.app.state.quick  # type: ignore[union-attr]
        self._incomplete: tuple[RequestResponseCycle, Taken] | None = None  # of which the body is still to come
        self._waiting: asyncio.TimerHandle | None = None
        self._is_reading = False
        self._is_between = True  # two requests: the parser has seen the end of the last one
        self._pending: Pending | None = None
        self._begun: tuple[RequestResponseCycle, Taken] | None = None  # of which `_pending` is
        self._defaults: tuple[list[tuple[bytes, bytes]], bytes] = [], b""
        self._known: tuple[Head, RequestResponseCycle, Taken] | None = None

    def data_received(self, data: bytes) -> None:
        """Some bytes came."""
        if self._is_between and self._begins_again(data):
            return
        was_between, self._begun = self._is_between, None
        self._is_reading = True
        super().data_received(data)
        self._is_reading = False
        if self._incomplete is not None:
            self._wait()
        elif was_between and self._begun is not None:
            self._learn(data, *self._begun)

    def on_message_begin(self) -> None:
        """The first byte of a request is there."""
        self._is_between = False
        super().on_message_begin()

    def on_message_complete(self) -> None:
        """A request is there as a whole."""
        self._is_between = True
        super().on_message_complete()
        if self._incomplete is not None and self._incomplete[0] is self.cycle:
            self._begin(*self._no_more_incomplete())

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has left."""
        super().connection_lost(exc)
        if self._incomplete is not None:  # the layers tell of clients that leave
            super()._start_asgi_task(self._no_more_incomplete()[0], self.app)
        if self._pending is not None:
            self._pending.leave()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        """Begin with a request: its headers are there, and it is its turn."""
        taken = self._quick.takes(cycle.scope) if app is self.app and not self.flow.write_paused else None
        if taken is None:
            super()._start_asgi_task(cycle, app)
        elif cycle.more_body:
            self._incomplete = cycle, taken
            if not self._is_reading:  # it had to wait for its turn: the rest may never come
                self._wait()
        else:
            self._begin(cycle, taken)

    def _begin(self, cycle: RequestResponseCycle, taken: Taken) -> None:
        if self._is_begun(cycle, taken, bytes(cycle.body)):
            self._begun = cycle, taken
        else:
            super()._start_asgi_task(cycle, self.app)

    def _is_begun(self, cycle: RequestResponseCycle, taken: Taken, content: bytes) -> bool:
        try:
            self._pending = self._quick.begin(taken, cycle.scope, content, partial(self._reply, cycle))
        except Exception:  # the application's layers know what to do with it, whatever it is
            log.exception("a request could not be begun quickly", path=cycle.scope["path"])
            self._pending = None
        return self._pending is not None

    def _learn(self, data: bytes, cycle: RequestResponseCycle, taken: Taken) -> None:
        """Know the head again, where these bytes are one request and others may follow."""
        head = Head.of(data, LONGEST_LENGTH) if cycle is self.cycle and cycle.keep_alive else None
        if head is not None:
            cycle.body = bytearray()
            self._known = head, cycle, taken

    def _begins_again(self, data: bytes) -> bool:
        """Whether this is a request with the known head, which is begun: nothing is parsed for it."""
        if self._known is None or self.flow.write_paused or not self.cycle.response_complete:
            return False
        head, cycle, taken = self._known
        content = head.body_of(data)
        if content is None or not self._quick.fits(len(content)) or not self._is_begun(cycle, taken, content):
            return False
        self._unset_keepalive_if_required()
        self.cycle, cycle.response_started, cycle.response_complete = cycle, False, False
        return True

    def _wait(self) -> None:
        if self._waiting is None:
            self._waiting = self.loop.call_later(PATIENCE_S, self._give_up)

    def _give_up(self) -> None:
        """The body takes long: let the application wait for it."""
        self._waiting = None
        if self._incomplete is not None:
            super()._start_asgi_task(self._no_more_incomplete()[0], self.app)

    def _no_more_incomplete(self) -> Any:
        incomplete, self._incomplete = self._incomplete, None
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
        return incomplete

    def _reply(self, cycle: RequestResponseCycle, status: int, lines: bytes, pieces: Sequence[Content]) -> None:
        """Write a whole reply at once."""
        self._pending = None
        close = b"" if cycle.keep_alive else b"connection: close\r\n"
        head = STATUS_LINE[status], self._default_lines(), lines, close, b"\r\n"
        if sum(map(len, pieces)) <= MOST_JOINED:
            self.transport.write(b"".join((*head, *pieces)))
        else:
            self.transport.writelines((b"".join(head), *pieces))
        cycle.response_started = cycle.response_complete = True
        cycle.message_event.set()
        if not cycle.keep_alive:
            self.transport.close()
        self.on_response_complete()

    def _default_lines(self) -> bytes:
        """Of the headers that every reply has; there are others every second."""
        headers, lines = self._defaults
        if headers is not self.server_state.default_headers:
            headers = self.server_state.default_headers
            lines = b"".join(b"%b: %b\r\n" % header for header in headers)
            self._defaults = headers, lines
        return lines
