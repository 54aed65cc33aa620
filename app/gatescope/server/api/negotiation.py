"""Content negotiation: which of several formats a client prefers, by its `Accept` header."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from gatescope.errors import NotAcceptable
from gatescope.server.api import codecs
from gatescope.server.api.codecs.codec import Codec, ReplyWriter, StreamWriter, TokenWriter
from gatescope.server.api.messages import Head

Writer = TypeVar("Writer", bound=Codec)


def _choose_writer(head: Head, writers: Sequence[Writer]) -> Writer:
    """The codec that writes the reply to a request with this head; the first where the client has no wish.

    Raises:
        NotAcceptable: the client takes none of these formats.
    """
    if head.get(b"accept") in (None, b"*/*"):
        return writers[0]
    accept = b",".join(head.all(b"accept")).decode("latin-1")
    if not accept.strip():
        return writers[0]
    by_media_type = {writer.media_type: writer for writer in writers}
    for media_type in by_preference(accept):
        if media_type in by_media_type:
            return by_media_type[media_type]
        if media_type in ("*/*", "application/*"):
            return writers[0]
    raise NotAcceptable(f"this is written as {', '.join(by_media_type)}; asked for was {accept}")


def prediction_writer(head: Head) -> ReplyWriter:
    """The codec that writes a prediction for a request with this head; raises `NotAcceptable`."""
    return _choose_writer(head, codecs.PREDICTION_WRITERS)


def predict_writer(head: Head) -> ReplyWriter | TokenWriter:
    """The codec that writes a prediction, or the tokens of one as they are drawn; raises `NotAcceptable`."""
    writers: tuple[ReplyWriter | TokenWriter, ...] = (*codecs.PREDICTION_WRITERS, *codecs.TOKEN_WRITERS)
    return _choose_writer(head, writers)


def trace_writer(head: Head) -> ReplyWriter | StreamWriter:
    """The codec that writes a trace for a request with this head; raises `NotAcceptable`."""
    return _choose_writer(head, codecs.TRACE_WRITERS)


def analysis_writer(head: Head) -> ReplyWriter:
    """The codec that writes the result of an analysis for a request with this head; raises `NotAcceptable`."""
    return _choose_writer(head, codecs.ANALYSIS_WRITERS)


def intervention_writer(head: Head) -> ReplyWriter:
    """The codec that writes two runs and their difference for this head; raises `NotAcceptable`."""
    return _choose_writer(head, codecs.INTERVENTION_WRITERS)


def json_writer(head: Head) -> ReplyWriter:
    """JSON, for what is written in no other format; raises `NotAcceptable`."""
    return _choose_writer(head, (codecs.JSON,))


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
