"""`Protocol`: uvicorn's HTTP, which hands the requests that `Quick` takes to it, and the others to the application."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import structlog
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from app.api.quick import Content, Pending, Quick, Taken

PATIENCE_S = 0.1
"""So long the rest of a body may take until the application waits for it, with all of its deadlines."""

MOST_JOINED = 32 * 1024
"""A body of so many bytes is written together with its headers: to copy it costs less than another call."""

log = structlog.get_logger(__name__)


class Protocol(HttpToolsProtocol):
    """One connection.

    uvicorn's own keeps the order of pipelined requests, keeps connections alive and closes them; a request that is
    answered quickly is a cycle to it like any other, only that no task runs the application for it.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._quick: Quick = self.config.app.state.quick  # type: ignore[union-attr]
        self._incomplete: tuple[RequestResponseCycle, Taken] | None = None  # of which the body is still to come
        self._waiting: asyncio.TimerHandle | None = None
        self._is_reading = False
        self._pending: Pending | None = None

    def data_received(self, data: bytes) -> None:
        """Some bytes came."""
        self._is_reading = True
        super().data_received(data)
        self._is_reading = False
        if self._incomplete is not None:
            self._wait()

    def on_message_complete(self) -> None:
        """A request is there as a whole."""
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
        try:
            self._pending = self._quick.begin(taken, cycle.scope, bytes(cycle.body), partial(self._reply, cycle))
        except Exception:  # the application's layers know what to do with it, whatever it is
            log.exception("a request could not be begun quickly", path=cycle.scope["path"])
            self._pending = None
        if self._pending is None:
            super()._start_asgi_task(cycle, self.app)

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

    def _reply(self, cycle: RequestResponseCycle, status: int, lines: bytes, content: Content) -> None:
        """Write a whole reply at once."""
        self._pending = None
        defaults = [b"%b: %b\r\n" % header for header in self.server_state.default_headers]
        close = b"" if cycle.keep_alive else b"connection: close\r\n"
        head = STATUS_LINE[status], *defaults, lines, close, b"\r\n"
        if len(content) <= MOST_JOINED:
            self.transport.write(b"".join((*head, content)))
        else:
            self.transport.write(b"".join(head))
            self.transport.write(content)
        cycle.response_started = cycle.response_complete = True
        cycle.message_event.set()
        if not cycle.keep_alive:
            self.transport.close()
        self.on_response_complete()
