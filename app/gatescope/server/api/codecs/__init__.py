"""The wire formats of bodies. A new one is a file here and a line in `CODECS`."""

from __future__ import annotations

from gatescope.errors import UnsupportedMediaType
from gatescope.server.api.codecs.codec import BodyReader, Codec, ReplyWriter, StreamWriter, TokenWriter
from gatescope.server.api.codecs.events import Events
from gatescope.server.api.codecs.json.codec import Json
from gatescope.server.api.codecs.ndjson import Ndjson
from gatescope.server.api.codecs.npz import Npz
from gatescope.server.api.codecs.safetensors import Safetensors

JSON, SAFETENSORS = Json(), Safetensors()

CODECS: tuple[Codec, ...] = (JSON, SAFETENSORS, Npz(), Ndjson(), Events())
"""Every wire format. The first that can write a reply does so where the client has no wish."""

PREDICTION_WRITERS = tuple(codec for codec in CODECS if isinstance(codec, ReplyWriter) and "prediction" in codec.writes)
TOKEN_WRITERS = tuple(codec for codec in CODECS if isinstance(codec, TokenWriter))
TRACE_WRITERS = tuple(
    codec for codec in CODECS if isinstance(codec, ReplyWriter | StreamWriter) and "trace" in codec.writes
)
ANALYSIS_WRITERS = tuple(codec for codec in CODECS if isinstance(codec, ReplyWriter) and "analysis" in codec.writes)
INTERVENTION_WRITERS = tuple(
    codec for codec in CODECS if isinstance(codec, ReplyWriter) and "intervention" in codec.writes
)
BODY_READERS = tuple(codec for codec in CODECS if isinstance(codec, BodyReader))

_READERS = {reader.media_type: reader for reader in BODY_READERS}
_READERS_OF_HEADERS = {reader.media_type.encode(): reader for reader in BODY_READERS}


def reader_of(content_type: bytes | None) -> BodyReader:
    """The codec that reads bodies of this `Content-Type`.

    Raises:
        UnsupportedMediaType: none does.
    """
    return _READERS_OF_HEADERS.get(content_type or b"") or _reader_of((content_type or b"").decode("latin-1"))


def _reader_of(content_type: str) -> BodyReader:
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type.startswith("application/") and media_type.endswith("+json"):
        return JSON
    reader = _READERS.get(media_type)
    if reader is None:
        known = "' or '".join(_READERS)
        raise UnsupportedMediaType(f"send the body with 'Content-Type: {known}', not {content_type or 'without one'}")
    return reader
