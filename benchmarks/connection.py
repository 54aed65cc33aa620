"""`Connection`: HTTP/1.1 over one connection that stays open, with nothing that a load generator can do without."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import cast
from urllib.parse import urlsplit

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_OK = b"HTTP/1.1 200"


class Refused(Exception):
    """An answer other than 200, or none."""


class Connection(asyncio.Protocol):
    """Sends one prepared request at a time.

    Args:
        answered: called when an answer is there.
    """

    def __init__(self, answered: Callable[[Connection], None]) -> None:
        self._answered = answered
        self._got = bytearray()
        self.failed: str | None = None
        """Why it is of no more use."""

    @classmethod
    async def open(cls, url: str, answered: Callable[[Connection], None]) -> Connection:
        """One to the server at this URL."""
        host, _, port = urlsplit(url).netloc.rpartition(":")
        loop = asyncio.get_running_loop()
        return (await loop.create_connection(lambda: cls(answered), host, int(port)))[1]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """As asyncio says."""
        self._transport = cast(asyncio.Transport, transport)

    def send(self, request: bytes) -> None:
        """Send a whole request; the one before must have been answered."""
        self._transport.write(request)

    def hang_up(self) -> None:
        """Be done with it; nobody is told."""
        self.failed = "it was hung up"
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """As asyncio says: some of an answer, or the end of it."""
        self._got += data
        end = self._got.find(b"\r\n\r\n")
        if end < 0:
            return
        length = _LENGTH.search(self._got, 0, end)
        if length is None or len(self._got) < end + 4 + int(length[1]):
            return
        if not self._got.startswith(_OK):
            self.failed = bytes(self._got[:300]).decode(errors="replace")
        self._got.clear()
        self._answered(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """As asyncio says."""
        if self.failed is None:
            self.failed = f"the connection was lost: {exc}"
            self._answered(self)
