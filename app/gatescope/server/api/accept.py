"""The `Accept` header: which of the formats that there are a client likes best."""

from __future__ import annotations

from collections.abc import Sequence

from gatescope.errors import NotAcceptable
from gatescope.server.api.messages import Head


def of(head: Head, formats: Sequence[str]) -> str:
    """What the reply to a request with this head is written as; raises `NotAcceptable`."""
    if head.get(b"accept") in (None, b"*/*"):
        return formats[0]
    return choose(b",".join(head.all(b"accept")).decode("latin-1"), formats)


def choose(accept: str | None, formats: Sequence[str]) -> str:
    """The most preferred of these media types; the first of them where the client has no wish.

    Raises:
        NotAcceptable: none of those that are asked for is among them.
    """
    if accept is None or not accept.strip():
        return formats[0]
    for media_type in by_preference(accept):
        if media_type in formats:
            return media_type
        if media_type in ("*/*", "application/*"):
            return formats[0]
    raise NotAcceptable(f"this is written as {', '.join(formats)}; asked for was {accept}")


def by_preference(accept: str) -> list[str]:
    """What an `Accept` header or one of its kind names, the most preferred first, without what it rules out."""
    weighted = []
    for part in accept.split(","):
        media_type, *parameters = (piece.strip().lower() for piece in part.split(";"))
        weight = next((piece.removeprefix("q=") for piece in parameters if piece.startswith("q=")), "1")
        try:
            weighted.append((float(weight), media_type))
        except ValueError:
            continue
    ordered = sorted(weighted, key=lambda pair: -pair[0])
    return [media_type for weight, media_type in ordered if weight > 0]
