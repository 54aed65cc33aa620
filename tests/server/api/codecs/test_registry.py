"""Every list of wire formats follows from the registry of codecs."""

import numpy as np
import pytest

from gatescope.errors import UnsupportedMediaType
from gatescope.server.api import codecs, table_bodies
from gatescope.server.api.codecs.codec import BodyReader, Codec, ReplyWriter

JSON, SAFETENSORS, NPZ, NDJSON, EVENTS = (
    "application/json",
    "application/vnd.safetensors",
    "application/x-npz",
    "application/x-ndjson",
    "text/event-stream",
)


def media_types(known):
    return [codec.media_type for codec in known]


def test_each_kind_of_body_has_its_formats():
    assert media_types(codecs.PREDICTION_WRITERS) == [JSON, SAFETENSORS]
    assert media_types(codecs.TOKEN_WRITERS) == [EVENTS]
    assert media_types(codecs.TRACE_WRITERS) == [JSON, SAFETENSORS, NPZ, NDJSON]
    assert media_types(codecs.BODY_READERS) == [JSON, SAFETENSORS]


def test_no_two_codecs_have_one_media_type():
    assert len({*media_types(codecs.CODECS)}) == len(codecs.CODECS)


@pytest.mark.parametrize(
    ("content_type", "reader"),
    [
        (b"application/json", codecs.JSON),
        (b"Application/JSON; charset=utf-8", codecs.JSON),
        (b"application/problem+json", codecs.JSON),
        (b"application/vnd.safetensors", codecs.SAFETENSORS),
        (b" application/vnd.safetensors ;a=b", codecs.SAFETENSORS),
    ],
)
def test_a_content_type_names_its_reader(content_type, reader):
    assert codecs.reader_of(content_type) is reader


@pytest.mark.parametrize("content_type", [None, b"", b"text/plain", b"application/x-npz", b"image/svg+json"])
def test_other_content_types_are_refused_with_those_that_are_read(content_type):
    with pytest.raises(UnsupportedMediaType, match=f"'Content-Type: {JSON}' or '{SAFETENSORS}', not"):
        codecs.reader_of(content_type)


def test_the_document_names_the_formats_of_the_registry(client):
    paths = client.get("/openapi.json").json()["paths"]
    predict, trace = (paths[f"/v1/models/{{name}}/{verb}"]["post"] for verb in ("predict", "trace"))
    assert list(predict["requestBody"]["content"]) == [*media_types(codecs.BODY_READERS), *table_bodies.FORMATS]
    predictions = media_types([*codecs.PREDICTION_WRITERS, *codecs.TOKEN_WRITERS])
    assert list(predict["responses"]["200"]["content"]) == predictions
    assert list(trace["responses"]["200"]["content"]) == media_types(codecs.TRACE_WRITERS)


def test_a_reader_needs_only_decode():
    class Texts(BodyReader):
        media_type = "text/plain"

        def decode(self, content):
            return {"text": content.decode()}

    reader = Texts()
    assert isinstance(reader, Codec)
    assert reader.decode(b"a") == {"text": "a"}
    assert reader.sequences(b"a", None) is None
    assert not reader.is_template(reader.template_key(b"a"))


def test_a_writer_needs_only_encode():
    class Lengths(ReplyWriter):
        media_type = "text/plain"
        writes = frozenset(("prediction",))
        max_loop_bytes = 8

        def encode(self, reply):
            return b"%d" % len(reply["values"])

    writer = Lengths()
    assert writer.encode_pieces({"values": [1, 2]}) == [b"2"]
    assert not writer.is_large({"values": np.zeros(2, dtype=np.float32)})
    assert writer.is_large({"values": np.zeros(3, dtype=np.float32)})
