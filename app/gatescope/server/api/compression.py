"""Compressed bodies: gzip and deflate, which on the web means zlib's own format."""

from __future__ import annotations

import zlib
from collections.abc import Iterable

from gatescope.errors import BadRequest, BodyTooLarge, UnsupportedMediaType
from gatescope.server.api.negotiation import by_preference

CODINGS = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
"""What zlib calls them."""

_LEVEL = 1  # a reply should not take longer to pack than to compute


def inflate(content: bytes, encoding: str | None, max_bytes: int) -> bytes:
    """A body as it was before it was compressed.

    Args:
        content: as it came.
        encoding: its `Content-Encoding`.
        max_bytes: the most that it may become.

    Raises:
        UnsupportedMediaType: it is compressed in another way.
        BadRequest: it is not what its encoding says, has no end, or goes on behind it.
        BodyTooLarge: it becomes larger.
    """
    coding = (encoding or "identity").strip().lower()
    if coding == "identity":
        return content
    if coding not in CODINGS:
        raise UnsupportedMediaType(f"'Content-Encoding: {coding}' is not read here; known are {', '.join(CODINGS)}")
    inflating = zlib.decompressobj(CODINGS[coding])
    try:
        inflated = inflating.decompress(content, max_bytes + 1)
    except zlib.error as error:
        raise BadRequest(f"the body is no {coding}: {error}") from None
    if len(inflated) > max_bytes:
        raise BodyTooLarge(f"the body has, unpacked, more than the {max_bytes:,} bytes that this server takes")
    if not inflating.eof:
        raise BadRequest(f"the body is no whole {coding}: its end is missing")
    if inflating.unused_data:
        raise BadRequest(f"the body goes on behind the end of its {coding}")
    return inflated


def choose(accept_encoding: str | None) -> str | None:
    """The coding that a client likes best of those that there are; None to send a body as it is."""
    for coding in by_preference(accept_encoding or ""):
        if coding in CODINGS:
            return coding
        if coding == "identity":
            return None
    return None


def deflate(pieces: Iterable[bytes | memoryview], coding: str) -> list[bytes]:
    """A body in one of `CODINGS`, in pieces as it came."""
    deflating = zlib.compressobj(_LEVEL, wbits=CODINGS[coding])
    return [*map(deflating.compress, pieces), deflating.flush()]
