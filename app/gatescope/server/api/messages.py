"""HTTP messages as endpoints know them: `Request` and `Reply`, whichever adapter carries them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from urllib.parse import parse_qsl

from gatescope.errors import BodyTooLarge, DeadlineExceeded
from gatescope.server.serving.deadline import Deadline
from gatescope.server.serving.owner import Owner

if TYPE_CHECKING:
    from gatescope.server.api.admission import Admission
    from gatescope.server.api.context import Context
    from gatescope.server.api.routes import Route

Found = TypeVar("Found")
Content = bytes | memoryview
Headers = list[tuple[bytes, bytes]]
"""Names in small letters and values, in the order in which they came."""

_MOST_DIGITS = 18  # of a content-length: what has more is too large for whatever it counts

UNKNOWN_ROUTE = "unknown"
"""What metrics call the route of a path that no route has."""


REQUEST_ID, TIMEOUT = "X-Request-ID", "X-Request-Timeout-Ms"
"""Headers that every request may have."""


class ClientLeft(Exception):
    """The client closed its connection before it had the whole reply."""


class Head:
    """What a request says before its body.

    The protocol gives the same `Head` again for the same bytes, so that what depends on the head alone is found out
    once: `route`, `path_values`, `is_allowed` and `owner` are set by the exchange.
    """

    __slots__ = (
        "_first",
        "_found",
        "expects_continue",
        "headers",
        "http_version",
        "is_allowed",
        "keep_alive",
        "method",
        "owner",
        "path",
        "path_values",
        "query",
        "raw_path",
        "route",
    )

    def __init__(
        self,
        method: str,
        path: str,
        query: bytes,
        headers: Headers,
        http_version: str = "1.1",
        raw_path: bytes = b"",
        *,
        keep_alive: bool = True,
    ) -> None:
        self.method, self.path, self.query, self.raw_path = method, path, query, raw_path
        self.headers, self.http_version, self.keep_alive = headers, http_version, keep_alive
        self._first = dict(reversed(headers))
        self._found: dict[Callable[[Head], Any], Any] = {}
        self.expects_continue = False
        self.route: Route | None = None
        self.path_values: Mapping[str, str] = {}
        self.is_allowed, self.owner = False, Owner()

    def find(self, what: Callable[[Head], Found]) -> Found:
        """What a function finds of this head; it is asked once."""
        found = self._found
        if what not in found:
            found[what] = what(self)
        answer: Found = found[what]
        return answer

    def get(self, name: bytes) -> bytes | None:
        """The first value of a header."""
        return self._first.get(name)

    def text(self, name: bytes) -> str | None:
        """The same as text."""
        value = self._first.get(name)
        return None if value is None else value.decode("latin-1")

    def all(self, name: bytes) -> list[bytes]:
        """Every value of a header."""
        return [value for known, value in self.headers if known == name] if name in self._first else []

    @property
    def content_length(self) -> int | None:
        """What the head says of the body's length; None where it says nothing, or no number."""
        given = self._first.get(b"content-length")
        return int(given[:_MOST_DIGITS]) if given is not None and given.isdigit() else None

    @property
    def has_body(self) -> bool:
        """Whether a body follows."""
        return bool(self.content_length) or b"transfer-encoding" in self._first

    @property
    def query_values(self) -> list[tuple[str, str]]:
        """The parameters of the query, in their order."""
        return parse_qsl(self.query.decode("latin-1"), keep_blank_values=True)


class Body(Protocol):
    """The body of a request, as an adapter receives it."""

    @property
    def whole(self) -> bytes | None:
        """All of it, where it has arrived."""

    async def all(self, max_bytes: int) -> bytes:
        """All of it, once it has arrived; raises `BodyTooLarge`, `ClientLeft`."""

    async def next(self) -> bytes:
        """What has come since; waits for some; empty at the end. Raises `ClientLeft`."""


class Cancellable(Protocol):
    """A task, as far as a request needs to know it."""

    def cancel(self) -> bool:
        """Raise `CancelledError` where it waits."""

    def uncancel(self) -> int:
        """Take that back."""


class Request:
    """One request that is being answered.

    Args:
        head: what was said before the body.
        body: as the adapter receives it.
    """

    __slots__ = (
        "_failure",
        "admission",
        "body",
        "context",
        "deadline",
        "head",
        "id",
        "is_admitted",
        "is_loopback",
        "on_checked",
        "on_progress",
        "route_path",
        "stated_bytes",
        "task",
    )

    def __init__(self, head: Head, body: Body, *, is_loopback: bool = False) -> None:
        self.head, self.body, self.is_loopback = head, body, is_loopback
        self.id, self.route_path = "", UNKNOWN_ROUTE
        self.stated_bytes = 0
        """What the head says of a body that is still arriving."""
        self.deadline: Deadline | None = None
        self.admission: Admission | None = None
        self.is_admitted = False
        self.task: Cancellable | None = None
        self._failure: Exception | None = None
        self.context: Context
        self.on_checked: Callable[[], Awaitable[None]] | None = None
        """Of one that is answered by a job: waits until that has its turn."""
        self.on_progress: Callable[[float, float], None] | None = None
        """Is told how much is done, of how much; may be called on any thread."""

    @property
    def owner(self) -> Owner:
        """Who sent it."""
        return self.head.owner

    async def checked(self) -> None:
        """To be awaited when all was refused that can be without long work: a job is told of here, and waits here."""
        if self.on_checked is not None:
            await self.on_checked()

    async def content(self, max_bytes: int) -> bytes:
        """The whole body, once it has arrived and the request is admitted.

        Raises:
            BodyTooLarge: it has more than `max_bytes`.
            ClientLeft: the client left before it was complete.
            Overloaded: too many requests are being answered.
        """
        if self.stated_bytes > max_bytes:
            raise BodyTooLarge.than(max_bytes)
        content = self.body.whole
        if content is None or len(content) > max_bytes:
            content = await self.body.all(max_bytes)
        if self.admission is not None and not self.is_admitted:
            if not self.admission.take_place():
                await self.admission.wait()
            self.is_admitted = True
        return content

    async def pieces(self, max_bytes: int, timeout_s: float) -> AsyncIterator[bytes]:
        """The body as it arrives, for what is too large to be held.

        Args:
            max_bytes: the most that is read.
            timeout_s: seconds that the next piece may take.

        Raises:
            BodyTooLarge: it has more than `max_bytes`.
            DeadlineExceeded: nothing came for `timeout_s`.
            ClientLeft: the client left before it was complete.
        """
        if self.stated_bytes > max_bytes:
            raise BodyTooLarge.than(max_bytes)
        size = 0
        while piece := await self._next(timeout_s):
            size += len(piece)
            if size > max_bytes:
                raise BodyTooLarge.than(max_bytes)
            yield piece

    @property
    def may_be_slow(self) -> bool:
        """Whether its body is an upload, which takes as long as the client's network needs."""
        return self.head.route is not None and self.head.route.takes_long

    async def _next(self, timeout_s: float) -> bytes:
        try:
            async with asyncio.timeout(timeout_s):
                return await self.body.next()
        except TimeoutError:
            raise DeadlineExceeded(f"no more of the body came within {timeout_s:g} seconds") from None

    def give_up(self, failure: Exception) -> None:
        """Stop answering: `failure` is what the client is told, or `ClientLeft`."""
        if self._failure is None and self.task is not None:
            self._failure = failure
            self.task.cancel()

    def take_failure(self) -> Exception | None:
        """Why it was given up, once; None where somebody else cancelled its task."""
        failure, self._failure = self._failure, None
        return failure


class Reply:
    """A whole reply: its status, headers and body, the body in pieces.

    Args:
        status: of HTTP.
        pieces: the body.
        media_type: of the body; None where there is none.
        headers: further ones.
    """

    __slots__ = ("bytes", "headers", "pieces", "status")

    def __init__(
        self,
        status: int,
        pieces: Sequence[Content],
        media_type: str | None,
        headers: Sequence[tuple[bytes, bytes]] = (),
    ) -> None:
        self.status, self.pieces = status, pieces
        self.bytes = sum(map(len, pieces))
        """How long the body is."""
        self.headers: Headers = [*headers]
        if media_type is not None:
            self.headers.append((b"content-length", b"%d" % self.bytes))
            self.headers.append((b"content-type", media_type.encode()))


class StreamedReply:
    """A reply of which the length is not known when it begins; its status is 200.

    Args:
        pieces: the body as it is made; what raises is an error after its head.
        media_type: of the body.
        failure: the last piece in place of what such an error has left out, of the problem in JSON.
    """

    __slots__ = ("failure", "media_type", "pieces")

    def __init__(self, pieces: AsyncGenerator[bytes, None], media_type: str, failure: Callable[[bytes], bytes]) -> None:
        self.pieces, self.media_type, self.failure = pieces, media_type, failure


class Responder(Protocol):
    """Where the reply to one request goes."""

    @property
    def has_started(self) -> bool:
        """Whether the client has the head of a reply."""

    async def send(self, reply: Reply) -> None:
        """Write a whole reply."""

    async def start(self, status: int, headers: Headers) -> None:
        """Write the head of a reply."""

    async def write(self, piece: Content) -> None:
        """Write a piece of its body; waits while the client reads slowly. Raises `ClientLeft`."""

    async def end(self) -> None:
        """End the body."""

    def abort(self) -> None:
        """Close the connection: what was begun cannot be ended."""


Endpoint = Callable[..., Any]
"""A coroutine: a `Request` and the values of its path -> `Reply` or `StreamedReply`; raises `AppError`."""
