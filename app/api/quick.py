"""`Quick`: requests like most others, begun and answered by plain calls, without a task or a framework for each.

What a request costs beyond its numbers is nearly all in the layers that it passes through. So the server asks here
first (`app/protocol.py`); whatever is out of the ordinary is left to the layers, and whatever is not must be answered
here as they would answer it, byte for byte.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from time import monotonic, perf_counter
from typing import Any, NamedTuple

import structlog
from starlette.responses import Response

from app import logs
from app.api import problems
from app.api.context import TIMEOUT_HEADER, Context
from app.api.headers import REQUEST_ID_NAME, PlainHeaders, request_id_of
from app.api.keys import Keys
from app.api.metrics import Metrics
from app.api.ways import Way, Ways
from app.errors import AppError, DeadlineExceeded

log = structlog.get_logger(__name__)

MOST_BYTES = 60_000
"""Of a body; what is larger costs more to compute than to pass on."""

_JSON = b"application/json"
_OK = b"content-length: %d\r\ncontent-type: application/json\r\n"
_ACCEPTED = (None, b"*/*", _JSON)
_TOLD = frozenset((b"content-encoding", b"expect", b"origin", b"transfer-encoding", TIMEOUT_HEADER.lower().encode()))
"""Headers that say how a request is to be treated."""

Scope = Mapping[str, Any]
Headers = list[tuple[bytes, bytes]]
Reply = Callable[[int, bytes, bytes], None]
"""Takes the status, the lines of the headers and the body."""


class Asked(NamedTuple):
    """What is computed for a request, and how the reply is made of it."""

    answer: asyncio.Future[Any]
    encode: Callable[[Any], bytes]


class Quick:
    """Takes the requests that it knows.

    Args:
        context: of the application.
        metrics: in which requests are counted.
        ways: to what answers them.
        keys: of which a request needs one, unless there are none.
    """

    def __init__(self, context: Context, metrics: Metrics, ways: Ways, keys: Keys) -> None:
        self.context, self.metrics = context, metrics
        self._ways, self._keys = ways, keys

    def takes(self, scope: Scope) -> bool:
        """Whether a request with these headers may be one of them."""
        if scope["method"] != "POST":
            return False
        found = self._ways.of(scope["path"])
        return found is not None and found[0].quick is not None and self._is_plain(scope["headers"])

    def begin(self, scope: Scope, content: bytes, reply: Reply) -> Pending | None:
        """Begin what this request asks for; None of one that the layers are to answer, or to refuse."""
        found = self._ways.of(scope["path"])
        if found is None or found[0].quick is None:
            return None
        (way, names), quick = found, found[0].quick
        try:
            asked = quick(self.context, content, **names)
        except AppError:
            return None
        return None if asked is None else Pending(self, scope, way, asked, reply)

    def _is_plain(self, headers: Headers) -> bool:
        """Whether some JSON comes, JSON may be answered, and nothing else is said that would make a difference."""
        given = dict(headers)
        length = given.get(b"content-length", b"")
        return (
            given.get(b"content-type") == _JSON
            and given.get(b"accept") in _ACCEPTED
            and given.keys().isdisjoint(_TOLD)
            and len(given) == len(headers)
            and length.isdigit()
            and int(length) <= min(MOST_BYTES, self.context.limits.max_body_bytes)
            and (not self._keys or self._keys.fit(PlainHeaders(raw=headers)))
        )


class Pending:
    """One request that is under way."""

    __slots__ = ("_asked", "_began", "_is_over", "_quick", "_reply", "_request_id", "_scope", "_since", "_way", "loop")

    def __init__(self, quick: Quick, scope: Scope, way: Way, asked: Asked, reply: Reply) -> None:
        self._quick, self._scope, self._way, self._asked, self._reply = quick, scope, way, asked, reply
        self._began, self._since, self._is_over = perf_counter(), monotonic(), False
        self._request_id = request_id_of(scope["headers"])
        self.loop = asked.answer.get_loop()
        quick.context.patience.add(self)
        asked.answer.add_done_callback(self._answered)

    def look(self, now: float) -> None:
        """See whether its time is over."""
        seconds = self._quick.context.patience.most_s
        if now - self._since >= seconds:
            self._refuse(DeadlineExceeded(f"there was no answer within {seconds:g} seconds"))
            self._asked.answer.cancel()

    def leave(self) -> None:
        """Nobody waits any more."""
        if not self._is_over:
            self._end(problems.CLIENT_LEFT)
            log.info("the client left", method="POST", path=self._scope["path"], request_id=self._request_id)
            self._asked.answer.cancel()

    def _answered(self, answer: asyncio.Future[Any]) -> None:
        if self._is_over:
            return
        try:
            content = self._asked.encode(answer.result())
        except AppError as error:
            self._refuse(error)
        except (Exception, asyncio.CancelledError):
            log.exception("request failed", method="POST", path=self._scope["path"], request_id=self._request_id)
            self._respond(problems.internal(self._scope["path"]))
        else:
            self._send(200, _OK % len(content), content)

    def _refuse(self, error: AppError) -> None:
        self._respond(problems.response(error, self._scope["path"]))

    def _respond(self, response: Response) -> None:
        lines = b"".join(b"%b: %b\r\n" % header for header in response.raw_headers)
        self._send(response.status_code, lines, bytes(response.body))

    def _send(self, status: int, lines: bytes, content: bytes) -> None:
        self._reply(status, b"%b%b: %b\r\n" % (lines, REQUEST_ID_NAME, self._request_id.encode()), content)
        self._end(status)

    def _end(self, status: int) -> None:
        self._is_over = True
        self._quick.context.patience.remove(self)
        seconds, path = perf_counter() - self._began, self._scope["path"]
        self._quick.metrics.observe("POST", self._way.path, status, seconds)
        logs.access("POST", path, status, seconds, self._request_id)
