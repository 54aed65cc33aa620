"""The bodies of requests as `HttpProtocol` receives them: one that has arrived, and one that arrives."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from gatescope.errors import BodyTooLarge
from gatescope.server.api.messages import ClientLeft

if TYPE_CHECKING:
    from gatescope.server.api.protocol import HttpProtocol

HIGH_WATER_BYTES = 64 * 1024
"""Of a body that nobody reads yet: then the connection is read no further."""


class WholeBody:
    """A body that has arrived."""

    __slots__ = ("_content",)

    def __init__(self, content: bytes) -> None:
        self._content = content

    @property
    def whole(self) -> bytes:
        """All of it."""
        return self._content

    async def all(self, max_bytes: int) -> bytes:
        """All of it; raises `BodyTooLarge`."""
        if len(self._content) > max_bytes:
            raise BodyTooLarge.than(max_bytes)
        return self._content

    async def next(self) -> bytes:
        """All of it, and then nothing."""
        content, self._content = self._content, b""
        return content


class ArrivingBody:
    """A body as it arrives over a connection."""

    __slots__ = (
        "_buffer",
        "_connection",
        "_counted",
        "_edge",
        "_has_failed",
        "_is_gathered",
        "_waiter",
        "is_complete",
        "is_dropped",
    )

    def __init__(self, connection: HttpProtocol) -> None:
        self._connection: HttpProtocol | None = connection  # as long as more may come
        self._edge = connection.edge
        self._buffer = bytearray()
        self._counted = 0  # bytes that the edge counts, until the request is answered
        self._is_gathered = self._has_failed = False
        self._waiter: asyncio.Future[None] | None = None
        self.is_complete = self.is_dropped = False

    @property
    def is_full(self) -> bool:
        """Whether no more is to be read for now."""
        if len(self._buffer) < HIGH_WATER_BYTES or self._waiter is None:
            return len(self._buffer) >= HIGH_WATER_BYTES
        return self._is_gathered and not self._edge.may_grow(self)

    def feed(self, data: bytes) -> None:
        """Some of it came."""
        if self.is_dropped or self._connection is None:
            return
        self._buffer += data
        if len(self._buffer) > HIGH_WATER_BYTES:
            self._edge.count(self, self._connection, len(self._buffer) - self._counted)
            self._counted = len(self._buffer)
        self._wake()

    def complete(self) -> None:
        """It ends here."""
        self.is_complete, self._connection = True, None
        if self._counted:
            self._edge.forget(self)
        self._wake()

    def drop(self) -> None:
        """Nobody wants it any more: what is held of it is released."""
        self.is_dropped, self._buffer = True, bytearray()
        self._release()

    def fail(self) -> None:
        """No more of it will come."""
        self._has_failed, self._connection = True, None
        self.drop()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(ClientLeft())

    @property
    def whole(self) -> bytes | None:
        """All of it, where it has arrived."""
        return bytes(self._buffer) if self.is_complete else None

    async def all(self, max_bytes: int) -> bytes:
        """All of it, once it has arrived; raises `BodyTooLarge`, `ClientLeft`."""
        self._is_gathered = True
        while not self.is_complete and len(self._buffer) <= max_bytes:
            await self._more()
        if len(self._buffer) > max_bytes:
            raise BodyTooLarge.than(max_bytes)
        content, self._buffer = bytes(self._buffer), bytearray()
        return content

    async def next(self) -> bytes:
        """What has come since; empty at the end. Raises `ClientLeft`."""
        if not self._buffer and not self.is_complete:
            await self._more()
        taken, self._buffer = bytes(self._buffer), bytearray()
        self._release()
        return taken

    async def _more(self) -> None:
        if self._has_failed or self._connection is None:
            raise ClientLeft
        self._waiter = self._connection.loop.create_future()
        self._connection.want_body()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _release(self) -> None:
        if self._counted:
            counted, self._counted = self._counted, 0
            self._edge.forget(self, counted)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
