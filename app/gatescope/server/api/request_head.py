"""`Head`: what a request says before its body; clients say the same again and again."""

from __future__ import annotations

import re

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)[ \t]*\r\n", re.IGNORECASE)
_END = b"\r\n\r\n"


class Head:
    """A head that was parsed once, to be known again whatever its content-length.

    Args:
        before: its bytes up to the number of the content-length.
        after: the rest, with the empty line that ends it.
        longest: so many digits that number may have.
    """

    __slots__ = ("_after", "_before", "_longest")

    def __init__(self, before: bytes, after: bytes, longest: int) -> None:
        self._before, self._after, self._longest = before, after, longest

    @classmethod
    def of(cls, request: bytes, longest: int) -> Head | None:
        """Of these bytes, if they are one whole request with a content-length, as most write it."""
        head = request[: request.find(_END) + len(_END)]
        length = _LENGTH.search(head)
        if length is None or head.count(b"\n") != head.count(b"\r\n"):
            return None
        known = cls(head[: length.start(1)], head[length.end(1) :], longest)
        return known if known.body_of(request) is not None else None

    def body_of(self, request: bytes) -> bytes | None:
        """The body of a request with the same head; None of one with another, of less than one and of more."""
        before, after = self._before, self._after
        if not request.startswith(before):
            return None
        start = len(before)
        end = request.find(after[:1], start, start + self._longest + 1)
        length, begins = request[start:end], end + len(after)
        if end < 0 or not length.isdigit() or not request.startswith(after, end):
            return None
        return request[begins:] if len(request) - begins == int(length) else None
