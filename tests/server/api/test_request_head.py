"""Heads that are known again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatescope.server.api.messages import Head
from gatescope.server.api.request_head import KnownHead

LINES = b"POST /a HTTP/1.1\r\nHost: b\r\nContent-Length: %d\r\nX: y\r\n\r\n"
HEAD = Head("POST", "/a", b"", [(b"host", b"b")])


def request(body, lines=LINES):
    return lines % len(body) + body


def known_of(first):
    return KnownHead.of(first, HEAD)


@pytest.fixture
def known():
    return known_of(request(b"12345"))


@given(st.binary(max_size=200))
def test_whatever_the_body(body):
    assert known_of(request(b"12345")).body_of(request(body)) == body
    assert known_of(request(body)).body_of(request(b"12345")) == b"12345"
    assert known_of(request(body)).head is HEAD


@pytest.mark.parametrize(
    "other",
    [
        b"",
        LINES,
        request(b"12345")[:-1],
        request(b"12345") + b"6",
        request(b"12345") * 2,
        b"\r\n" + request(b"12345"),
        request(b"12345").replace(b"Host: b", b"Host: c"),
        request(b"12345").replace(b"X: y", b"X: z"),
        request(b"12345").replace(b"X: y", b"X: y\r\nZ: 1"),
        request(b"12345").replace(b": 5", b":5"),
        request(b"12345").replace(b": 5", b": +5"),
        request(b"12345").replace(b": 5", b": 000000005"),
        request(b"12345").replace(b": 5", b": "),
        request(b"12345").replace(b": 5", b": 5\r\nContent-Length: 5"),
    ],
)
def test_another_request_is_not_known(known, other):
    assert known.body_of(other) is None


@pytest.mark.parametrize(
    "lines",
    [
        b"POST /a HTTP/1.1\r\ncontent-length:%d\r\n\r\n",
        b"POST /a HTTP/1.1\r\nCONTENT-LENGTH:  \t%d \r\nInference-Header-Content-Length: 3\r\n\r\n",
        b"POST /a HTTP/1.1\r\nInference-Header-Content-Length: 3\r\nContent-Length: %d\r\n\r\n",
    ],
)
def test_however_the_length_is_written(lines):
    assert known_of(request(b"12345", lines)).body_of(request(b"123", lines)) == b"123"


@pytest.mark.parametrize(
    "first",
    [
        b"",
        b"POST /a HTTP/1.1\r\n\r\n",
        b"POST /a HTTP/1.1\r\nContent-Length: 5\r\n",
        request(b"12345") + b"6",
        request(b"12345")[:-1],
        request(b"12345").replace(b"X: y", b"Expect: 100-continue"),
        request(b"12345").replace(b"Host: b\r\n", b"Host: b\n"),
        request(b"12345").replace(b"\r\n\r\n", b"\n\n"),
        b"POST /a HTTP/1.1\nContent-Length: 33\n\n\r\nContent-Length: 5\r\n\r\n12345",
        b"POST /a HTTP/1.1\r\nInference-Header-Content-Length: 5\r\n\r\n12345",
    ],
)
def test_none_is_learnt_from_what_is_not_one_plain_request(first):
    assert known_of(first) is None
