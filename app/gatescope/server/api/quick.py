"""`Quick`: requests like most others, begun and answered by plain calls, without a task or a framework for each.

What a request costs beyond its numbers is nearly all in the layers that it passes through. So the server asks here
first (`protocol.py`); whatever is out of the ordinary is left to the layers, and whatever is not must be answered here
as they would answer it, byte for byte.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from time import monotonic, perf_counter
from typing import Any, NamedTuple

import structlog
from starlette.responses import Response

from gatescope.errors import AppError
from gatescope.pipeline.query import Answer
from gatescope.server import logs
from gatescope.server.api import aside, problems, reply
from gatescope.server.api.context import TIMEOUT_HEADER, Context
from gatescope.server.api.headers import REQUEST_ID_NAME, PlainHeaders, request_id_of
from gatescope.server.api.keys import Keys
from gatescope.server.api.metrics import Metrics
from gatescope.server.api.patience import unanswered
from gatescope.server.api.ways import Way, Ways
from gatescope.server.api.written import Content

log = structlog.get_logger(__name__)

MOST_BYTES = 60_000
"""Of a body; what is larger costs more to compute than to pass on."""

LONGEST_LENGTH = len(str(MOST_BYTES))

_TOLD = frozenset((b"content-encoding", b"expect", b"origin", b"transfer-encoding", TIMEOUT_HEADER.lower().encode()))
"""Headers that say how a request is to be treated."""

ACCEPTED = {
    None: reply.JSON,
    b"*/*": reply.JSON,
    reply.JSON.encode(): reply.JSON,
    reply.SAFETENSORS.encode(): reply.SAFETENSORS,
}
"""What a prediction is written as where the header says nothing out of the ordinary."""

Scope = Mapping[str, Any]
Headers = Mapping[bytes, bytes]
Reply = Callable[[int, bytes, Sequence[Content]], None]
"""Takes the status, the lines of the headers and the body in pieces."""


class Encoded(NamedTuple):
    """The body of a reply in pieces, and what its headers say of it."""

    pieces: Sequence[Content]
    media_type: str
    more: bytes = b""
    """Further lines of the headers."""

    @property
    def lines(self) -> bytes:
        """Of the headers."""
        told = self.more, sum(map(len, self.pieces)), self.media_type.encode()
        return b"%bcontent-length: %d\r\ncontent-type: %b\r\n" % told


Encode = Callable[[], Encoded]


class Asked(NamedTuple):
    """What is computed for a request, and how the reply is made of it."""

    answer: asyncio.Future[Any]
    encode: Callable[[Any], Encoded | Encode]
    """Makes the reply of the answer; where that takes long, tells what makes it on another thread."""


def encoded(told: reply.Reply, answer: Answer, media_type: str) -> Encoded | Encode:
    """What a reply tells of an answer in this format, as `Asked.encode` has it."""
    if not reply.is_slight(answer) and reply.is_large(told, media_type):
        return lambda: Encoded(reply.pieces(told, media_type), media_type)
    return Encoded((reply.encode(told, media_type),), media_type)


class Taken(NamedTuple):
    """A request that may be answered quickly: where it goes, and what its headers say."""

    way: Way
    names: Mapping[str, str]
    begin: Callable[..., Asked | None]
    headers: Headers


class Quick:
    """Takes the requests that it knows.

    Args:
        context: of the application.
        metrics: in which requests are counted.
        ways: to what answers them.
        keys: of which a request needs one, unless there are none.
        more: lines that the headers of every reply have.
    """

    def __init__(self, context: Context, metrics: Metrics, ways: Ways, keys: Keys, more: bytes = b"") -> None:
        self.context, self.metrics, self.more = context, metrics, more
        self._ways, self._keys = ways, keys
        self._most_bytes = min(MOST_BYTES, context.limits.max_body_bytes)

    def takes(self, scope: Scope) -> Taken | None:
        """A request with these headers, if it may be one of them."""
        found = self._ways.of(scope["path"]) if scope["method"] == "POST" else None
        if found is None:
            return None
        (way, names), given = found, scope["headers"]
        headers = dict(given)
        begin = way.quick.get(headers.get(b"content-type", b""))
        length = headers.get(b"content-length", b"")
        is_plain = (
            len(headers) == len(given)
            and headers.keys().isdisjoint(_TOLD)
            and length.isdigit()
            and len(length) <= LONGEST_LENGTH
            and self.fits(int(length))
            and (not self._keys or self._keys.fit(PlainHeaders(raw=given)))
        )
        return Taken(way, names, begin, headers) if begin is not None and is_plain else None

    def fits(self, length: int) -> bool:
        """Whether a body may have so many bytes."""
        return length <= self._most_bytes

    def begin(self, taken: Taken, scope: Scope, content: bytes, respond: Reply) -> Pending | None:
        """Begin what this request asks for; None of one that the layers are to answer, or to refuse."""
        try:
            asked = taken.begin(self.context, content, taken.headers, **taken.names)
        except AppError:
            return None
        return None if asked is None else Pending(self, scope, taken.way, asked, respond)


class Pending:
    """One request that is under way."""

    __slots__ = (
        "_asked",
        "_awaited",
        "_began",
        "_is_over",
        "_quick",
        "_request_id",
        "_scope",
        "_since",
        "_way",
        "_write",
        "loop",
    )

    def __init__(self, quick: Quick, scope: Scope, way: Way, asked: Asked, respond: Reply) -> None:
        self._quick, self._scope, self._way, self._asked, self._write = quick, scope, way, asked, respond
        self._began, self._since, self._is_over = perf_counter(), monotonic(), False
        self._request_id = request_id_of(scope["headers"])
        self.loop = asked.answer.get_loop()
        self._awaited = asked.answer  # the answer, or the reply that is made of it
        quick.context.patience.add(self)
        asked.answer.add_done_callback(self._answered)

    def look(self, now: float) -> None:
        """See whether its time is over."""
        seconds = self._quick.context.patience.most_s
        if now - self._since >= seconds:
            self._refuse(unanswered(seconds))
            self._awaited.cancel()

    def leave(self) -> None:
        """Nobody waits any more."""
        if not self._is_over:
            self._end(problems.CLIENT_LEFT)
            log.info("the client left", method="POST", path=self._scope["path"], request_id=self._request_id)
            self._awaited.cancel()

    def _answered(self, answer: asyncio.Future[Any]) -> None:
        self._go_on(answer, self._asked.encode)

    def _go_on(self, done: asyncio.Future[Any], encode: Callable[[Any], Encoded | Encode]) -> None:
        if self._is_over:
            done.cancelled() or done.exception()  # nobody else will ask for it
            return
        try:
            encoded = encode(done.result())
        except AppError as error:
            self._refuse(error)
        except (Exception, asyncio.CancelledError):
            log.exception("request failed", method="POST", path=self._scope["path"], request_id=self._request_id)
            self._respond(problems.internal(self._scope["path"]))
        else:
            if isinstance(encoded, Encoded):
                self._send(200, encoded.lines, encoded.pieces)
            else:
                self._awaited = self.loop.run_in_executor(aside.WRITERS, encoded)
                self._awaited.add_done_callback(lambda made: self._go_on(made, lambda encoded: encoded))

    def _refuse(self, error: AppError) -> None:
        self._respond(problems.response(error, self._scope["path"]))

    def _respond(self, response: Response) -> None:
        lines = b"".join(b"%b: %b\r\n" % header for header in response.raw_headers)
        self._send(response.status_code, lines, (bytes(response.body),))

    def _send(self, status: int, lines: bytes, pieces: Sequence[Content]) -> None:
        self._write(
            status, b"%b%b%b: %b\r\n" % (lines, self._quick.more, REQUEST_ID_NAME, self._request_id.encode()), pieces
        )
        self._end(status)

    def _end(self, status: int) -> None:
        self._is_over = True
        self._quick.context.patience.remove(self)
        seconds, path = perf_counter() - self._began, self._scope["path"]
        self._quick.metrics.observe("POST", self._way.path, status, seconds)
        logs.access("POST", path, status, seconds, self._request_id)
