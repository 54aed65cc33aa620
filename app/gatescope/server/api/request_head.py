"""`KnownHead`: a head that clients send again and again, with another content-length each time."""

from __future__ import annotations

import re

from gatescope.server.api.messages import Head

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)[ \t]*\r\n", re.IGNORECASE)
_END = b"\r\n\r\n"
_LONGEST_LENGTH = 8  # digits


class KnownHead:
    """A head that was parsed once, to be known again whatever its content-length.

    Args:
        head: as it was parsed.
        before: its bytes up to the number of the content-length.
        after: the rest, with the empty line that ends it.
    """

    __slots__ = ("_after", "_before", "head")

    def __init__(self, head: Head, before: bytes, after: bytes) -> None:
        self.head, self._before, self._after = head, before, after

    @classmethod
    def of(cls, request: bytes, head: Head) -> KnownHead | None:
        """Of these bytes, if they are one whole request with a content-length, as most write it."""
        text = request[: request.find(_END) + len(_END)]
        length = _LENGTH.search(text)
        if length is None or text.count(b"\n") != text.count(b"\r\n") or b"expect" in text.lower():
            return None
        known = cls(head, text[: length.start(1)], text[length.end(1) :])
        return known if known.body_of(request) is not None else None

    def body_of(self, request: bytes) -> bytes | None:
        """The body of a request with the same head; None of one with another, of less than one and of more."""
        before, after = self._before, self._after
        if not request.startswith(before):
            return None
        start = len(before)
        end = request.find(after[:1], start, start + _LONGEST_LENGTH + 1)
        length, begins = request[start:end], end + len(after)
        if end < 0 or not length.isdigit() or not request.startswith(after, end):
            return None
        return request[begins:] if len(request) - begins == int(length) else None
