"""`HttpProtocol`: HTTP/1.1 over one connection, as uvicorn runs it, without ASGI between it and the exchange.

httptools parses. What is bounded here, for every connection and all of them together, is what a client can make the
server hold: heads, bodies, requests sent ahead, replies that nobody reads, and connections that say nothing.
"""

from __future__ import annotations

import asyncio
from collections import deque
from http import HTTPStatus
from ipaddress import ip_address
from time import monotonic
from typing import Any
from urllib.parse import unquote

import httptools
import structlog
from starlette.types import Scope
from uvicorn.config import Config
from uvicorn.protocols.utils import get_local_addr, get_remote_addr, is_ssl
from uvicorn.server import ServerState

from gatescope.errors import AppError, BadRequest, HeadTooLarge, NotReady, TooSlow
from gatescope.server.api import problems
from gatescope.server.api.bodies import ArrivingBody, WholeBody
from gatescope.server.api.eager_task import EagerTask
from gatescope.server.api.edge import Edge
from gatescope.server.api.exchange import new_request_id
from gatescope.server.api.messages import REQUEST_ID, ClientLeft, Content, Head, Headers, Reply, Request
from gatescope.server.api.request_head import KnownHead

log = structlog.get_logger(__name__)

PROBES_S = (0.1, 0.05, 0.5)
"""When to see whether a client that sends no more has left: after so many seconds, and then after as many again. The
first write to one that has is answered by its system, and the second one fails."""

LINGER_S = 2.0
"""How long a client may go on sending what nobody reads, so that it gets to read why."""

PIECE_BYTES, PIPELINED_PIECE_BYTES = 4096, 512
"""How much is parsed at once while heads are read, and while a request is being answered: heads can be tiny."""

CHUNKED_PIECE_BYTES = 16 * 1024
"""How much is parsed at once of a body in chunks: a trailer may follow it."""

JOINED_BYTES = 32 * 1024
"""A reply of so many bytes is written at once: to copy it costs less than another system call."""

KNOWN_AFTER_MISSES = 8
"""So many heads in a row that are not repeated, and the connection's heads are not remembered any more."""

_STATUS_LINES = {status: b"HTTP/1.1 %d \r\n" % status for status in range(100, 600)}
_STATUS_LINES |= {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_CLOSE = b"connection: close\r\n\r\n"
_INVALID = "Invalid HTTP request received."


class HttpProtocol(asyncio.Protocol):
    """One connection: its requests are answered one after the other. Created by uvicorn."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        if not config.loaded:
            config.load()
        self._config, self._server_state, self._app_state = config, server_state, app_state
        self.loop = _loop or asyncio.get_event_loop()
        self.edge: Edge = config.app.state.edge  # type: ignore[union-attr]
        self._limits, self._exchange = self.edge.limits, self.edge.exchange
        self._parser = self._new_parser()
        self._transport: asyncio.Transport = None  # type: ignore[assignment]  # there is one before anything happens
        self._is_loopback = self._is_draining = self._is_half_closed = self._is_lingering = False
        # reading
        self._unparsed = b""
        self._is_reading_paused = False
        self._target = b""
        self._headers: Headers = []
        self._is_in_head = self._is_body_chunked = self._has_body_data = False
        self._head_bytes = 0  # of the head that is being read, as far as it was parsed
        self._upgrade: Head | None = None  # of a request that offers another protocol
        self._refusal: AppError | None = None  # why nothing more is read; told behind the replies that come first
        self._arriving: ArrivingBody | None = None  # the body that is being read
        self._known: KnownHead | None = None
        self._known_misses = 0
        # answering
        self._queue: deque[Request] = deque()
        self._current: Request | None = None
        self._task: EagerTask | None = None
        self._has_started = self._is_chunked = self._is_closing = False
        # writing
        self._writable: asyncio.Future[None] | None = None  # while the client reads too slowly
        self._default_headers: tuple[Headers, bytes] = [], b""
        self.progressed_at = 0.0
        """When the client last read something, where it reads too slowly."""
        self._last_unsent = 0
        # what must happen until when
        self._awaited, self._awaited_until = "head", 0.0

    # what uvicorn calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected."""
        self._transport = transport  # type: ignore[assignment]
        self._server_state.connections.add(self)  # type: ignore[arg-type]
        self._is_loopback = _is_loopback(get_local_addr(self._transport))
        self._await("head", self._limits.head_timeout_s)
        if self.edge.is_full:
            self._refuse(NotReady(f"this server has {self._limits.max_connections:,} connections; try again later"))
        self.edge.add(self, self.loop)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - as asyncio calls it
        """The client has left, or the connection was closed from here."""
        self.edge.discard(self)
        self._server_state.connections.discard(self)
        self._unparsed = b""
        if self._arriving is not None:
            self._arriving.fail()
        for request in (*self._queue, self._current):
            _release_body(request)
        self._queue.clear()
        if self._writable is not None:
            self._writable.cancel()
        if self._current is not None:
            self._current.give_up(ClientLeft())
        self._parser = self._known = None

    def eof_received(self) -> bool:
        """The client sends no more; what it waits for may still be written."""
        if self._is_lingering or (self._current is None and not self._queue):
            return False
        self._is_half_closed = True
        if self._arriving is not None:
            self._arriving.fail()
        self.loop.call_later(PROBES_S[0], self._probe, 1)
        return True

    def _probe(self, times: int) -> None:
        """See whether the client still waits: an interim response (RFC 9110, 15.2) fails where it has left."""
        request = self._current
        if request is None or self._transport.is_closing() or self._has_started or request.head.http_version == "1.0":
            return
        self._transport.write(_CONTINUE)
        self.loop.call_later(PROBES_S[min(times, len(PROBES_S) - 1)], self._probe, times + 1)

    def shutdown(self) -> None:
        """Close the connection as soon as what is being answered is answered."""
        self._is_draining = True
        if self._current is None:
            self._transport.close()

    def pause_writing(self) -> None:
        """The client reads more slowly than it is written to."""
        self._writable = self.loop.create_future()
        self.progressed_at, self._last_unsent = monotonic(), self.unsent_bytes
        self.edge.hold(self)

    def resume_writing(self) -> None:
        """The client has read most of it."""
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        self._writable = None
        self.edge.release(self)
        if self._current is None:
            self._answer_next()

    # what the edge calls

    @property
    def unsent_bytes(self) -> int:
        """What was written and not yet taken by the client."""
        return self._transport.get_write_buffer_size()

    def look(self, now: float) -> None:
        """End what takes too long."""
        if self._writable is not None:
            self._look_at_writing(now)
        elif self._awaited and now >= self._awaited_until and not self._is_reading_paused:
            self._end_late()

    def abort(self) -> None:
        """Close the connection at once, whatever is unsent."""
        self._transport.abort()

    def cancel(self) -> None:
        """Give up what is being answered: the service ends."""
        if self._task is not None:
            self._task.cancel()

    def _look_at_writing(self, now: float) -> None:
        unsent = self.unsent_bytes
        if unsent < self._last_unsent:
            self.progressed_at, self._last_unsent = now, unsent
        elif now - self.progressed_at >= self._limits.send_timeout_s:
            log.info("a reply was given up that nobody reads", unsent_bytes=unsent)
            self.abort()

    def _end_late(self) -> None:
        awaited, self._awaited = self._awaited, ""
        if awaited == "head" and self._is_in_head:
            self._refuse(TooSlow(f"the head did not arrive within {self._limits.head_timeout_s:g} seconds"))
        elif awaited == "body" and self._current is not None and self._current.may_be_slow:
            self._await("upload", self._limits.upload_timeout_s - self._limits.body_timeout_s)
        elif awaited == "body":
            self._refuse(TooSlow(f"the body did not arrive within {self._limits.body_timeout_s:g} seconds"))
        elif awaited == "upload":
            self._refuse(TooSlow(f"the body did not arrive within {self._limits.upload_timeout_s:g} seconds"))
        else:
            self._transport.abort()

    def _await(self, what: str, seconds: float) -> None:
        self._awaited, self._awaited_until = what, monotonic() + seconds

    # reading

    def data_received(self, data: bytes) -> None:
        """Some bytes came."""
        if self._is_lingering or self._refusal is not None:
            return
        if self._current is None and not self._is_in_head and not self._unparsed:
            if self._begins_with_known_head(data):
                return
            self._parse(data)
            self._learn_head(data)
        else:
            self._parse(self._unparsed + data if self._unparsed else data)
        self._begin()

    def want_body(self) -> None:
        """Somebody waits for more of the body."""
        request = self._current
        if request is not None and request.head.expects_continue and not self._has_started:
            request.head.expects_continue = False
            self._transport.write(_CONTINUE)
        self.go_on_reading()

    def go_on_reading(self) -> None:
        """Read what may be read by now."""
        if self._unparsed:
            self._parse(self._unparsed)
            self._begin()
        elif self._is_reading_paused and not self._is_full:
            self._resume_reading()

    def _resume_reading(self) -> None:
        self._is_reading_paused = False
        if self._arriving is not None:
            self._await("body", self._limits.body_timeout_s)  # it could not come meanwhile
        self._transport.resume_reading()

    def _begins_with_known_head(self, data: bytes) -> bool:
        """Whether this is one whole request whose head is that of an earlier one: nothing is parsed for it."""
        if self._known is None or self._arriving is not None or self._writable is not None:
            return False
        content = self._known.body_of(data)
        if content is None:
            return False
        self._known_misses = 0
        self._answer(Request(self._known.head, WholeBody(content), is_loopback=self._is_loopback))
        return True

    def _learn_head(self, data: bytes) -> None:
        is_one_request = len(self._queue) == 1 and not self._unparsed and self._arriving is None
        if not is_one_request or self._refusal is not None or not self._queue[0].head.keep_alive:
            return
        if self._known_misses < KNOWN_AFTER_MISSES:
            self._known_misses += 1
            self._known = KnownHead.of(data, self._queue[0].head)

    @property
    def _is_full(self) -> bool:
        """Whether no more is to be read for now."""
        is_body_full = self._arriving is not None and self._arriving.is_full
        return is_body_full or len(self._queue) >= self._limits.max_pipelined_requests

    def _parse(self, data: bytes) -> None:
        """Parse as much as may be read for now, and keep the rest as it is."""
        self._unparsed, start = b"", 0
        try:
            while start < len(data) and not self._is_full and not self._transport.is_closing():
                size = self._piece_size()
                piece = data[start : start + size] if size else data[start:]
                start += len(piece)
                self._feed(piece)
        except httptools.HttpParserUpgrade as upgrade:
            start += upgrade.args[0] - len(piece)
            self._take_upgrade(data[start:])
            return
        except httptools.HttpParserError as error:
            refusal = error.__context__  # what a callback raised
            self._refuse(refusal if isinstance(refusal, AppError) else BadRequest(_INVALID))
            return
        except HeadTooLarge as error:
            self._refuse(error)
            return
        if self._transport.is_closing():
            return
        self._unparsed = data[start:]
        if self._is_full and not self._is_reading_paused:
            self._is_reading_paused = True
            self._transport.pause_reading()
        elif self._is_reading_paused and not self._is_full:
            self._resume_reading()

    def _piece_size(self) -> int:
        """How much to parse at once; 0 for all: in a body of known length nothing is found that must be counted."""
        if self._arriving is not None:
            return CHUNKED_PIECE_BYTES if self._is_body_chunked else 0
        return PIECE_BYTES if self._current is None and not self._queue else PIPELINED_PIECE_BYTES

    def _feed(self, piece: bytes) -> None:
        self._has_body_data = False
        self._parser.feed_data(piece)
        if self._is_in_head or (self._is_body_chunked and self._arriving is not None and not self._has_body_data):
            self._head_bytes += len(piece)  # of a head, or of what frames a chunked body and follows it
            if self._head_bytes > self._limits.max_head_bytes:
                raise HeadTooLarge(f"the head or the trailer has more than {self._limits.max_head_bytes:,} bytes")

    # what the parser calls

    def on_message_begin(self) -> None:
        """The first byte of a request is there."""
        if self._current is None and not self._queue:
            self._await("head", self._limits.head_timeout_s)
        self._is_in_head, self._head_bytes = True, 0
        self._target, self._headers, self._upgrade = b"", [], None

    def on_url(self, target: bytes) -> None:
        """Some of the target is there."""
        self._target += target

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header is there; one of a trailer is passed over."""
        if not self._is_in_head:
            return
        self._headers.append((name.lower(), value))
        if len(self._headers) > self._limits.max_head_lines:
            raise HeadTooLarge(f"the head has more than {self._limits.max_head_lines} lines")

    def on_headers_complete(self) -> None:
        """A head is there."""
        self._is_in_head = False
        size = len(self._target) + sum(len(name) + len(value) for name, value in self._headers)
        if size > self._limits.max_head_bytes:
            raise HeadTooLarge(f"the head has more than {self._limits.max_head_bytes:,} bytes")
        head = self._head()
        if self._parser.should_upgrade():
            self._upgrade = head
            return
        self._arriving = ArrivingBody(self)
        self._is_body_chunked, self._head_bytes = head.get(b"transfer-encoding") is not None, 0
        request = Request(head, self._arriving, is_loopback=self._is_loopback)
        request.stated_bytes = head.content_length or 0
        self._queue.append(request)
        self._await("body", self._limits.body_timeout_s)

    def on_body(self, data: bytes) -> None:
        """Some of a body is there."""
        self._has_body_data, self._head_bytes = True, 0
        if self._arriving is not None:
            self._arriving.feed(data)

    def on_message_complete(self) -> None:
        """A request is there as a whole."""
        if self._arriving is not None:
            self._arriving.complete()
            self._arriving = None
            self._awaited = ""

    def _new_parser(self) -> Any:
        parser = httptools.HttpRequestParser(self)
        # what follows a request with `Connection: close` is not read, but is no reason to refuse that request
        parser.set_dangerous_leniencies(lenient_data_after_close=True)
        return parser

    def _head(self) -> Head:
        parsed = httptools.parse_url(self._target)
        raw_path = parsed.path
        path = raw_path.decode("ascii")
        version = self._parser.get_http_version()
        head = Head(
            self._parser.get_method().decode("ascii"),
            unquote(path) if "%" in path else path,
            parsed.query or b"",
            self._headers,
            version,
            raw_path,
            keep_alive=version != "1.0" and self._parser.should_keep_alive(),
        )
        head.expects_continue = (head.get(b"expect") or b"").lower() == b"100-continue"
        return head

    # other protocols

    def _take_upgrade(self, rest: bytes) -> None:
        """Hand over to a WebSocket, refuse what cannot be one, and ignore any other offer (RFC 9110, 7.8)."""
        head = self._upgrade
        if head is None or head.method == "CONNECT":
            self._refuse(BadRequest(_INVALID))
        elif (head.get(b"upgrade") or b"").lower() != b"websocket":
            self._parser, self._upgrade = self._new_parser(), None
            self._parse(_without_upgrade(head, self._target) + rest)
        elif head.method != "GET" or head.has_body or self._current is not None or self._queue:
            self._refuse(BadRequest("a WebSocket begins with a GET without a body, as the only request on its way"))
        else:
            self._become_websocket(head, rest)

    def _become_websocket(self, head: Head, rest: bytes) -> None:
        self._server_state.connections.discard(self)
        self.edge.discard(self)
        lines = [b"GET %b HTTP/1.1" % self._target, *(b"%b: %b" % header for header in head.headers), b"", b""]
        protocol = self._config.ws_protocol_class(  # type: ignore[call-arg, misc]
            config=self._config, server_state=self._server_state, app_state=self._app_state
        )
        protocol.connection_made(self._transport)
        protocol.data_received(b"\r\n".join(lines) + rest)
        self._transport.set_protocol(protocol)

    # answering

    def _begin(self) -> None:
        """Answer what was read, where nothing is being answered."""
        if self._current is None and not self._is_lingering:
            self._answer_next()

    def _answer_next(self) -> None:
        """Begin with the next request, where the last one is answered and its client reads."""
        if self._writable is not None or self._transport.is_closing():
            return
        if self._queue:
            self._answer(self._queue.popleft())
        elif self._refusal is not None:
            self._write_refusal(self._refusal)

    def _answer(self, request: Request) -> None:
        self._current = request
        self._has_started = False
        if self._arriving is None:
            self._awaited = ""
        task = EagerTask(self._exchange.handle(request, self, self._scope), self.loop)
        request.task = self._task = task
        task.start()

    def _finish(self) -> None:
        """The reply to the current request is written."""
        request, self._current, self._task = self._current, None, None
        _release_body(request)
        if self._is_closing:
            self._close()
            return
        if self._arriving is None:
            self._await("head", self._limits.keep_alive_timeout_s)
        if self._queue or self._refusal is not None:
            self._answer_next()
        if self._unparsed or self._is_reading_paused:
            self.go_on_reading()

    def _scope(self) -> Scope:
        """The current request as ASGI has it."""
        head = self._current_head
        return {
            "type": "http",
            "asgi": {"version": self._config.asgi_version, "spec_version": "2.3"},
            "http_version": head.http_version,
            "server": get_local_addr(self._transport),
            "client": get_remote_addr(self._transport),
            "scheme": "https" if is_ssl(self._transport) else "http",
            "root_path": self._config.root_path,
            "headers": head.headers,
            "state": self._app_state.copy(),
            "method": head.method,
            "path": self._config.root_path + head.path,
            "raw_path": self._config.root_path.encode("ascii") + head.raw_path,
            "query_string": head.query,
        }

    # the `Responder` of the current request

    @property
    def has_started(self) -> bool:
        """Whether the client has the head of a reply."""
        return self._has_started

    async def send(self, reply: Reply) -> None:
        """Write a whole reply."""
        is_head = self._current is not None and self._current.head.method == "HEAD"
        lines, pieces = self._head_lines(reply.status, reply.headers), () if is_head else reply.pieces
        if reply.bytes <= JOINED_BYTES:
            self._transport.write(b"".join((*lines, *pieces)))
        else:
            self._transport.writelines((b"".join(lines), *pieces))
        self._finish()

    async def start(self, status: int, headers: Headers) -> None:
        """Write the head of a reply."""
        self._is_chunked = not any(name == b"content-length" for name, _ in headers)
        further = [(b"transfer-encoding", b"chunked")] if self._is_chunked else []
        self._transport.write(b"".join(self._head_lines(status, [*headers, *further])))

    async def write(self, piece: Content) -> None:
        """Write a piece of the body; waits while the client reads slowly."""
        if self._current is not None and self._current.head.method != "HEAD" and piece:
            if self._is_chunked:
                self._transport.writelines((b"%x\r\n" % len(piece), piece, b"\r\n"))
            else:
                self._transport.write(piece)
        if self._writable is not None:
            await asyncio.shield(self._writable)

    async def end(self) -> None:
        """End the body."""
        if self._is_chunked and self._current is not None and self._current.head.method != "HEAD":
            self._transport.write(b"0\r\n\r\n")
        self._finish()

    @property
    def _current_head(self) -> Head:
        if self._current is None:
            raise RuntimeError("no request is being answered")
        return self._current.head

    def _head_lines(self, status: int, headers: Headers) -> list[bytes]:
        """The head of a reply; says whether the connection is closed behind it."""
        request = self._current
        self._has_started = True
        self._is_closing = (
            request is None
            or not request.head.keep_alive
            or self._is_draining
            or (self._is_half_closed and not self._queue)
        )
        end = _CLOSE if self._is_closing else b"\r\n"
        return [_STATUS_LINES[status], self._default_lines(), *[b"%b: %b\r\n" % header for header in headers], end]

    def _default_lines(self) -> bytes:
        """Of the headers that every reply has; there are others every second."""
        headers, lines = self._default_headers
        if headers is not self._server_state.default_headers:
            headers = self._server_state.default_headers
            lines = b"".join(b"%b: %b\r\n" % header for header in headers)
            self._default_headers = headers, lines
        return lines

    # refusing what is no request

    def _refuse(self, error: AppError) -> None:
        """Read nothing more; tell why behind the replies to what came first, and close the connection."""
        self._refusal, self._unparsed, self._awaited = error, b"", ""
        arriving, self._arriving = self._arriving, None
        if arriving is not None and arriving.is_dropped and self._current is None:  # its request is answered already
            self._linger()
        elif self._queue and self._queue[-1].body is arriving:
            _release_body(self._queue.pop())
        elif self._current is not None and self._current.body is arriving and not self._has_started:
            self._current.head.keep_alive = False
            self._current.give_up(error)
        self._begin()

    def _write_refusal(self, error: AppError) -> None:
        request_id, reply = new_request_id(), problems.reply(error)
        log.info("a connection was refused", reason=str(error), request_id=request_id)
        self._is_draining = True
        headers = [*reply.headers, (REQUEST_ID.lower().encode(), request_id.encode())]
        self._transport.write(b"".join((*self._head_lines(reply.status, headers), *reply.pieces)))
        self._linger()

    def _close(self) -> None:
        """Close the connection behind the last reply."""
        if self._arriving is None and not self._unparsed and self._refusal is None:
            self._await("end", self._limits.send_timeout_s)
            self._transport.close()
        else:
            self._linger()

    def _linger(self) -> None:
        """End the sending side, and the other one a little later: to close at once would take the reply away."""
        self._is_lingering, self._unparsed = True, b""
        if self._is_half_closed or not self._transport.can_write_eof():
            self._transport.close()
            return
        self._transport.write_eof()
        if self._is_reading_paused:
            self._is_reading_paused = False
            self._transport.resume_reading()
        self._await("end", LINGER_S)


def _release_body(request: Request | None) -> None:
    """Release what is held of the body of a request that is answered, or never will be."""
    if request is not None and type(request.body) is ArrivingBody:
        request.body.drop()


def _is_loopback(address: tuple[str, int | None] | None) -> bool:
    try:
        return address is not None and ip_address(address[0].partition("%")[0]).is_loopback
    except ValueError:  # the path of a Unix socket: its permissions say who reaches it
        return False


def _without_upgrade(head: Head, target: bytes) -> bytes:
    """The same head without the offer of another protocol."""
    lines = [b"%b %b HTTP/1.1" % (head.method.encode(), target)]
    for name, value in head.headers:
        if name == b"connection":
            tokens = [token for token in value.split(b",") if token.strip().lower() != b"upgrade"]
            lines.append(b"connection: " + b",".join(tokens))
        elif name != b"upgrade":
            lines.append(b"%b: %b" % (name, value))
    return b"\r\n".join([*lines, b"", b""])
