"""Compressed bodies, bounded."""

import gzip
import zlib

import pytest

from gatescope.errors import BadRequest, BodyTooLarge, UnsupportedMediaType
from gatescope.server.api import compression

TEXT = b"forget " * 1000
PACKED = {"gzip": gzip.compress(TEXT, mtime=0), "deflate": zlib.compress(TEXT)}


@pytest.mark.parametrize("coding", PACKED)
def test_what_python_compresses_is_read_and_what_is_written_python_reads(coding):
    assert compression.inflate(PACKED[coding], coding, len(TEXT)) == TEXT
    unpack = {"gzip": gzip.decompress, "deflate": zlib.decompress}[coding]
    for pieces in ([TEXT], [TEXT[:9], memoryview(TEXT[9:])]):
        assert unpack(b"".join(compression.deflate(pieces, coding))) == TEXT


@pytest.mark.parametrize("encoding", [None, "identity", " Identity "])
def test_a_body_that_is_not_compressed_stays_as_it_is(encoding):
    assert compression.inflate(PACKED["gzip"], encoding, 1) == PACKED["gzip"]


@pytest.mark.parametrize("coding", PACKED)
def test_a_body_of_the_most_bytes_is_read_and_one_of_one_more_is_not(coding):
    assert compression.inflate(PACKED[coding], coding.upper(), len(TEXT)) == TEXT
    with pytest.raises(BodyTooLarge, match="unpacked, more than the 6,999 bytes"):
        compression.inflate(PACKED[coding], coding, len(TEXT) - 1)


def test_a_bomb_is_not_unpacked_beyond_the_most_bytes():
    bomb = zlib.compress(bytes(20_000_000))
    with pytest.raises(BodyTooLarge):
        compression.inflate(bomb, "deflate", 1000)


@pytest.mark.parametrize(
    ("content", "coding", "message"),
    [
        (b"plain", "gzip", "is no gzip"),
        (b"", "gzip", "no whole gzip"),
        (PACKED["deflate"], "gzip", "is no gzip"),
        (PACKED["gzip"], "deflate", "is no deflate"),
        (zlib.compress(TEXT, wbits=-15), "deflate", "is no deflate"),
        (PACKED["gzip"][:-1], "gzip", "its end is missing"),
        (PACKED["gzip"] + b"x", "gzip", "goes on behind"),
        (PACKED["gzip"] * 2, "gzip", "goes on behind"),
        (PACKED["gzip"][:-5] + b"\0" * 5, "gzip", "is no gzip"),
    ],
)
def test_what_is_not_as_its_encoding_says_is_refused(content, coding, message):
    with pytest.raises(BadRequest, match=message):
        compression.inflate(content, coding, 1_000_000)


@pytest.mark.parametrize("coding", ["br", "gzip, gzip", "zstd", ""])
def test_other_encodings_are_refused_by_name(coding):
    with pytest.raises(UnsupportedMediaType, match="known are gzip, deflate"):
        compression.inflate(b"", coding or ",", 10)


@pytest.mark.parametrize(
    ("accepted", "chosen"),
    [
        (None, None),
        ("", None),
        ("*", None),
        ("br", None),
        ("identity", None),
        ("gzip", "gzip"),
        ("deflate", "deflate"),
        ("gzip, deflate, br", "gzip"),
        ("br, deflate;q=0.5, gzip;q=0.2", "deflate"),
        ("gzip;q=0", None),
        ("identity, gzip;q=0.5", None),
        ("GZIP", "gzip"),
    ],
)
def test_a_reply_is_compressed_as_the_client_likes_best(accepted, chosen):
    assert compression.choose(accepted) == chosen
