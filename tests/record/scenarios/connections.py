"""How bytes come: in pieces, ahead of replies, in chunks, in other versions of HTTP, and as no HTTP at all."""

import json
from collections.abc import Iterator

from conversation import HOST, SLOWLY, Conversation, Cut, Request, Talk, request
from sequences import rows

PREDICT, TRACE = "/v1/models/founding/predict", "/v1/models/founding/trace"
INFER, EXPLAIN = "/v2/models/founding/infer", "/v1/models/founding/explain"
GOOD = b'{"inputs":[[1,2,3,4,5]]}'
CLOSE, KEEP = ("Connection", "close"), ("Connection", "keep-alive")
CHUNKED = ("Transfer-Encoding", "chunked")
EXPECT = ("Expect", "100-continue")

BODIES = {
    PREDICT: {"inputs": rows(2, 5)},
    TRACE: {"inputs": rows(1, 5)},
    INFER: {"inputs": [{"name": "inputs", "shape": [1, 1, 5], "datatype": "FP32", "data": [1, 2, 3, 4, 5]}]},
    EXPLAIN: {"inputs": rows(2, 5), "time_step": 1, "unit": 0},
    "/v1/traces/": {},
    "/v1/sessions": {"model": "nobody"},
}


def conversations() -> Iterator[Conversation]:
    """All of them."""
    yield _pieces()
    yield _pauses()
    yield _ahead()
    yield _known_heads()
    yield _alive()
    yield _closing()
    yield _chunks()
    yield _announced()
    yield _no_http()
    yield _lengths()
    yield _deadlines()


def numbered(number: int, steps: int = 1, path: str = PREDICT, *headers: tuple[str, str]) -> Request:
    """A request for numbers that no other one asks for."""
    row = [number / 10, 0.1, 0.2, 0.3, 0.4]
    return request("POST", path, {"inputs": [[row] * steps]}, *headers)


def _pieces() -> Conversation:
    """However it is cut."""
    talk = Talk("plain", "connections/pieces")
    for path, body in BODIES.items():
        talk.post(f"{path} whole", path, body)
        for name, cut in {
            "behind its head": Cut(at=(-len(json.dumps(body, separators=(",", ":"))),), pause=0.01),
            "in its first line": Cut(at=(9,), pause=0.01),
            "in its body": Cut(at=(-7,), pause=0.01),
            "before its end": Cut(at=(-1,), pause=0.01),
            "in three": Cut(at=(30, -9), pause=0.01),
            "in sevens": Cut(every=7),
        }.items():
            talk.post(f"{path} cut {name}", path, body, cut=cut)
    for path in (PREDICT, INFER):
        talk.dial()
        talk.post(f"{path} byte by byte", path, BODIES[path], cut=Cut(every=1, pause=0.0005))
        talk.post(f"{path} byte by byte, known", path, BODIES[path], cut=Cut(every=1, pause=0.0005))
    talk.get("head byte by byte", "/health/live", cut=Cut(every=1, pause=0.0005))
    for size in (1, 7, 64, 1000):
        talk.dial()
        several = [(f"four cut in {size}", numbered(i, 1, PREDICT, *([SLOWLY] if i == 2 else []))) for i in range(4)]
        talk.together(*several, cut=Cut(every=size))
    return talk.done()


def _pauses() -> Conversation:
    """A body that takes longer than most."""
    talk = Talk("plain", "connections/pauses")
    for path in (PREDICT, TRACE, INFER):
        for at in (-1, -10):
            talk.post(f"{path} pausing {at}", path, BODIES[path], cut=Cut(at=(at,), pause=0.25))
            talk.post(f"{path} after that", path, BODIES[path])
    talk.post("head pausing", PREDICT, BODIES[PREDICT], cut=Cut(at=(30,), pause=0.25))
    talk.post("slow pausing", PREDICT, BODIES[PREDICT], SLOWLY, cut=Cut(at=(-5,), pause=0.25))
    talk.post("broken pausing", PREDICT, b'{"inputs":[[1,2,3,4,01]]}', cut=Cut(at=(-5,), pause=0.25))
    ahead = numbered(2)
    talk.together(("first", numbered(1)), ("second, pausing", ahead), cut=Cut(at=(-9,), pause=0.25))
    return talk.done()


def _ahead() -> Conversation:
    """Requests that do not wait for the reply to the one before."""
    talk = Talk("plain", "connections/ahead")
    for name, slow in {
        "none slow": (),
        "all slow": range(10),
        "even slow": range(0, 10, 2),
        "odd slow": range(1, 10, 2),
        "some slow": (0, 1, 2, 7),
    }.items():
        talk.dial()
        many = [(name, numbered(i, i % 3 + 1, PREDICT, *([SLOWLY] if i in slow else []))) for i in range(10)]
        talk.together(*many)
    for path in (PREDICT, TRACE, INFER, EXPLAIN):
        talk.dial()
        talk.together(*[(f"{path} five times", request("POST", path, BODIES[path]))] * 5)
    talk.dial()
    talk.together(*[("live", request("GET", "/health/live"))] * 8)
    mixed = [
        ("mixed good", numbered(1)),
        ("mixed broken", request("POST", PREDICT, b'{"inputs":[[1,2,3,4,01]]}')),
        ("mixed nobody", request("POST", "/v1/models/nobody/predict", GOOD)),
        ("mixed info", request("GET", "/v1/models/founding")),
        ("mixed head", request("HEAD", "/health/live")),
        ("mixed other model", request("POST", "/v1/models/forecaster/predict", b'{"inputs":[[1,2]]}')),
        ("mixed trace", request("POST", TRACE, GOOD, ("Accept", "application/json"))),
        ("mixed lines", request("POST", TRACE, GOOD, ("Accept", "application/x-ndjson"))),
        ("mixed infer", request("POST", INFER, BODIES[INFER])),
        ("mixed explain", request("POST", EXPLAIN, BODIES[EXPLAIN])),
        ("mixed nowhere", request("GET", "/nothing")),
        ("mixed method", request("PUT", PREDICT, GOOD)),
        ("mixed good again", numbered(2)),
    ]
    talk.dial()
    talk.together(*mixed)
    talk.dial()
    talk.together(*mixed[::-1])
    talk.dial()
    talk.together(*mixed, cut=Cut(every=100))
    talk.dial()
    talk.together(*mixed, ("mixed last", numbered(3, 1, PREDICT, CLOSE)))
    talk.dial()
    talk.together(("closing first", numbered(3, 1, PREDICT, CLOSE)), ("closing second", numbered(4)))
    talk.dial()
    nonsense = Request(raw=b"nonsense\r\n\r\n")
    talk.together(("nonsense behind", numbered(3)), ("nonsense itself", nonsense))
    talk.dial()
    talk.together(
        ("lines first", request("POST", TRACE, GOOD, ("Accept", "application/x-ndjson"))), ("then numbers", numbered(5))
    )
    return talk.done()


def _known_heads() -> Conversation:
    """Heads that are the same again and again, and some that are not quite."""
    talk = Talk("plain", "connections/known heads")
    for number in range(8):
        talk.post("longer and longer", PREDICT, {"inputs": rows(number + 1, 5, number)})
    for body in (b'{"inputs":[[1,2,3,4,01]]}', b'{"inputs":[[1,2,3,4]]}', b"", b"1", b'{"inputs":[[1,2,3,4,5]],"a":1}'):
        talk.dial()
        for each in (GOOD, body, GOOD, body):
            talk.post(f"with {body!r}", PREDICT, each)
    for header in (("X-Request-ID", "mine"), ("x-other", "\xfc"), ("Accept", "*/*"), ("X-Request-ID", "")):
        talk.dial()
        talk.post(f"with {header}", PREDICT, GOOD, header, times=3)
        talk.post(f"without {header}", PREDICT, GOOD, times=2)
    talk.dial()
    for number in range(3):
        talk.post("in turn", PREDICT, {"inputs": rows(1, 5, number)})
        talk.get("in turn, info", "/v1/models/founding")
        talk.post("in turn, slowly", PREDICT, {"inputs": rows(1, 5, number)}, SLOWLY)
        talk.post("in turn, other model", "/v1/models/forecaster/predict", b'{"inputs":[[1,2]]}')
    for cut in (1, 30, -20, -1):
        talk.dial()
        talk.post(f"whole before {cut}", PREDICT, GOOD)
        talk.post(f"cut at {cut}", PREDICT, {"inputs": rows(1, 5)}, cut=Cut(at=(cut,), pause=0.02))
    talk.dial()
    talk.post("followed by others", PREDICT, GOOD)
    last = numbered(4)
    written = last.written({})
    asked = [("three", numbered(number)) for number in range(3)]
    beginning = Request("POST", raw=b"".join(each.written({}) for _, each in asked) + written[:20])
    talk.send(beginning)
    for name, each in asked:
        talk.read(name, each)
    talk.together(("and the beginning of one", Request("POST", raw=written[20:])))
    return talk.done()


def _alive() -> Conversation:
    talk = Talk("plain", "connections/alive")
    for number in range(30):
        talk.post("predict", PREDICT, {"inputs": rows(1, 5, number)})
        if number % 5 == 0:
            talk.post("infer", INFER, BODIES[INFER])
            talk.get("live", "/health/live")
            talk.post("refused", PREDICT, b"{")
    return talk.done()


def _closing() -> Conversation:
    """Connections that end with the reply, and other versions of HTTP."""
    talk = Talk("plain", "connections/closing")
    lines = ("Accept", "application/x-ndjson")
    asked = {
        "predict": ("POST", PREDICT, GOOD, ()),
        "broken": ("POST", PREDICT, b"{", ()),
        "trace": ("POST", TRACE, GOOD, ()),
        "lines": ("POST", TRACE, GOOD, (lines,)),
        "infer": ("POST", INFER, BODIES[INFER], ()),
        "live": ("GET", "/health/live", None, ()),
        "head": ("HEAD", "/health/live", None, ()),
        "info": ("GET", "/v1/models/founding", None, ()),
        "nothing": ("GET", "/nothing", None, ()),
        "no session": ("DELETE", "/v1/sessions/none", None, ()),
    }
    for name, (method, path, body, more) in asked.items():
        for how, headers, version in (
            ("closed", (CLOSE,), "1.1"),
            ("in 1.0", (), "1.0"),
            ("in 1.0, kept alive", (KEEP,), "1.0"),
            ("in 1.0, closed", (CLOSE,), "1.0"),
            ("kept alive", (KEEP,), "1.1"),
        ):
            talk.dial()
            talk.ask(f"{name} {how}", method, path, body, *more, *headers, version=version)
    talk.dial()
    talk.post("closed in capitals", PREDICT, GOOD, ("CONNECTION", "Close"))
    talk.dial()
    talk.post("closed among others", PREDICT, GOOD, ("Connection", "x, close"))
    talk.dial()
    talk.post("in 1.0 without a host", PREDICT, GOOD, version="1.0", host=None)
    talk.dial()
    talk.post("without a host", PREDICT, GOOD, host=None)
    talk.dial()
    talk.get("live without a host", "/health/live", host=None)
    talk.dial()
    talk.post("with two hosts", PREDICT, GOOD, ("Host", "other"))
    talk.dial()
    talk.post("with an empty host", PREDICT, GOOD, host="")
    for host in ("models.example", "127.0.0.1", "[::1]:8000", "localhost", "10.0.0.1:1", "a b", "xn--caf-dma.example"):
        talk.dial()
        talk.post(f"of host {host}", PREDICT, GOOD, host=host)
        talk.get(f"live of host {host}", "/health/live", host=host)
    for version in ("1.2", "2.0", "0.9", "1", "11", "1.1.1"):
        talk.dial()
        talk.get(f"in {version}", "/health/live", version=version)
    return talk.done()


def _chunked(*pieces: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + end


def _chunks() -> Conversation:
    talk = Talk("plain", "connections/chunks")
    for path in (PREDICT, EXPLAIN, INFER):
        body = json.dumps(BODIES[path], separators=(",", ":")).encode()
        encoded = {
            "one": _chunked(body),
            "two": _chunked(body[:9], body[9:]),
            "many": _chunked(*[bytes([byte]) for byte in body]),
            "none": _chunked(),
            "with an extension": b"%x;name=value\r\n%b\r\n0\r\n\r\n" % (len(body), body),
            "with a trailer": _chunked(body, end=b"0\r\nX-Trailer: x\r\n\r\n"),
            "with zeros in front": b"00%X\r\n%b\r\n000\r\n\r\n" % (len(body), body),
            "broken JSON": _chunked(b"{"),
            "narrow": _chunked(b'{"inputs":[[1]]}'),
        }
        for name, content in encoded.items():
            talk.post(f"{path} {name}", path, content, CHUNKED)
            talk.post(f"{path} {name}, cut", path, content, CHUNKED, cut=Cut(at=(-20, -9), pause=0.005))
    talk.post("in capitals", PREDICT, _chunked(GOOD), ("TRANSFER-ENCODING", "Chunked"))
    talk.post("byte by byte", PREDICT, _chunked(GOOD), CHUNKED, cut=Cut(every=1, pause=0.0005))
    talk.post("pausing", PREDICT, _chunked(GOOD), CHUNKED, cut=Cut(at=(-12,), pause=0.25))
    talk.together(
        ("ahead, in chunks", request("POST", PREDICT, _chunked(GOOD), CHUNKED)),
        ("ahead, behind it", numbered(3)),
        ("ahead, in chunks", request("POST", INFER, _chunked(json.dumps(BODIES[INFER]).encode()), CHUNKED)),
    )
    broken = {
        "no size": b"x\r\n" + GOOD + b"\r\n0\r\n\r\n",
        "negative size": b"-5\r\n" + GOOD + b"\r\n0\r\n\r\n",
        "another size": b"5\r\n" + GOOD + b"\r\n0\r\n\r\n",
        "a huge size": b"f" * 20 + b"\r\n" + GOOD,
    }
    for name, content in broken.items():
        talk.dial()
        talk.post(name, PREDICT, content, CHUNKED)
    for name, headers in {
        "and a length": (CHUNKED, ("Content-Length", "24")),
        "and a length before": (("Content-Length", "24"), CHUNKED),
        "of gzip": (("Transfer-Encoding", "gzip, chunked"),),
        "of nothing known": (("Transfer-Encoding", "identity"),),
        "said twice": (CHUNKED, CHUNKED),
    }.items():
        talk.dial()
        talk.post(name, PREDICT, _chunked(GOOD), *headers)
    talk.dial()
    talk.post("in 1.0", PREDICT, _chunked(GOOD), CHUNKED, version="1.0")
    talk.dial()
    talk.ask("GET with chunks", "GET", "/health/live", _chunked(GOOD), CHUNKED)
    talk.ask("GET with a body", "GET", "/health/live", GOOD)
    talk.ask("HEAD with a body", "HEAD", "/health/live", GOOD)
    talk.ask("DELETE with a body", "DELETE", "/v1/sessions/none", GOOD)
    return talk.done()


def _announced() -> Conversation:
    """Bodies that wait to be asked for."""
    talk = Talk("plain", "connections/announced")
    for path in (PREDICT, TRACE, INFER, EXPLAIN):
        talk.post(f"{path} waited for", path, BODIES[path], EXPECT, cut=Cut(interim=True))
        talk.post(f"{path} at once", path, BODIES[path], EXPECT)
        talk.post(f"{path} after that", path, BODIES[path])
    talk.post("in capitals", PREDICT, GOOD, ("EXPECT", "100-Continue"), cut=Cut(interim=True))
    talk.post("in chunks", PREDICT, _chunked(GOOD), EXPECT, CHUNKED, cut=Cut(interim=True))
    talk.post("broken", PREDICT, b"{", EXPECT, cut=Cut(interim=True))
    talk.post("something else", PREDICT, GOOD, ("Expect", "201-created"))
    talk.get("without a body", "/health/live", EXPECT)
    refused = {
        "wrong type": (PREDICT, GOOD, ("Content-Type", "text/plain")),
        "nobody": ("/v1/models/nobody/predict", GOOD, ("Content-Type", "application/json")),
        "nowhere": ("/nothing", GOOD, ("Content-Type", "application/json")),
    }
    for name, (path, body, header) in refused.items():
        talk.dial()
        talk.post(f"{name}, at once", path, body, header, EXPECT, content_type=None)
        talk.dial()
        asked = request("POST", path, None, header, EXPECT, ("Content-Length", str(len(body))))
        talk.together((f"{name}, never sent", asked))
        talk.abandon()
    return talk.done()


def _no_http() -> Conversation:
    talk = Talk("plain", "connections/no HTTP")
    host = f"Host: {HOST}\r\n".encode()
    ends = b"\r\n\r\n"
    for name, content in {
        "nonsense": b"nonsense" + ends,
        "binary": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 40,
        "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "a lone line": b"GET /health/live" + ends,
        "no version": b"GET /health/live\r\n" + host + b"\r\n",
        "no path": b"GET  HTTP/1.1\r\n" + host + b"\r\n",
        "no slash": b"GET health/live HTTP/1.1\r\n" + host + b"\r\n",
        "method in small letters": b"get /health/live HTTP/1.1\r\n" + host + b"\r\n",
        "unknown method": b"BREW /health/live HTTP/1.1\r\n" + host + b"\r\n",
        "space in the path": b"GET /health/li ve HTTP/1.1\r\n" + host + b"\r\n",
        "umlaut in the path": b"GET /v1/models/caf\xc3\xa9 HTTP/1.1\r\n" + host + b"\r\n",
        "zero in the path": b"GET /health/live\x00 HTTP/1.1\r\n" + host + b"\r\n",
        "half an escape": b"GET /v1/models/%4 HTTP/1.1\r\n" + host + b"\r\n",
        "no escape": b"GET /v1/models/%zz HTTP/1.1\r\n" + host + b"\r\n",
        "whole address": b"GET http://localhost:8000/health/live HTTP/1.1\r\n" + host + b"\r\n",
        "whole address of another": b"GET http://other.example/v1/models/tiny HTTP/1.1\r\n" + host + b"\r\n",
        "star": b"OPTIONS * HTTP/1.1\r\n" + host + b"\r\n",
        "connect": b"CONNECT localhost:8000 HTTP/1.1\r\n" + host + b"\r\n",
        "no colon": b"GET /health/live HTTP/1.1\r\nHost localhost\r\n\r\n",
        "space before the colon": b"GET /health/live HTTP/1.1\r\nHost : localhost\r\n\r\n",
        "no name": b"GET /health/live HTTP/1.1\r\n: localhost\r\n\r\n",
        "folded": b"GET /health/live HTTP/1.1\r\n" + host + b"X-A: 1\r\n  2\r\n\r\n",
        "zero in a header": b"GET /health/live HTTP/1.1\r\n" + host + b"X-A: 1\x002\r\n\r\n",
        "umlaut in a name": b"GET /health/live HTTP/1.1\r\n" + host + b"X-\xc3\xa9: 1\r\n\r\n",
        "lines that end otherwise": b"GET /health/live HTTP/1.1\nHost: localhost\n\n",
        "lines before": b"\r\n\r\nGET /health/live HTTP/1.1\r\n" + host + b"\r\n",
        "space before": b" GET /health/live HTTP/1.1\r\n" + host + b"\r\n",
        "tabs": b"GET\t/health/live\tHTTP/1.1\r\n" + host + b"\r\n",
        "another protocol": b"GET /health/live FTP/1.1\r\n" + host + b"\r\n",
        "protocol in small letters": b"GET /health/live http/1.1\r\n" + host + b"\r\n",
    }.items():
        talk.raw(name, content)
        talk.abandon()
    for name, count, size in (("many headers", 90, 10), ("a long header", 1, 20_000), ("long headers", 20, 1000)):
        more = b"".join(b"X-%d: %b\r\n" % (index, b"v" * size) for index in range(count))
        talk.raw(name, b"GET /health/live HTTP/1.1\r\n" + host + more + b"\r\n")
    talk.dial()
    talk.post("predict with a long header", PREDICT, GOOD, ("X-Long", "v" * 8000), times=2)
    talk.dial()
    talk.send(Request(raw=b"GET /health/live HTTP/1.1\r\nHo"))
    talk.abandon()
    talk.dial()
    talk.send(Request(raw=request("POST", PREDICT, GOOD).written({})[:-4]))
    talk.abandon()
    talk.dial()
    talk.get("after those that left", "/health/live")
    return talk.done()


def _lengths() -> Conversation:
    """A content-length that is none, on a new connection and behind a known head."""
    talk = Talk("plain", "connections/lengths")
    for length in ("+24", "-24", "2 4", "0x18", "24, 24", "", "x", "24.0", "9" * 25):
        for known in (False, True):
            talk.dial()
            if known:
                talk.post(f"good before {length!r}", PREDICT, GOOD)
            sent = request("POST", PREDICT, GOOD, ("Content-Length", length))
            talk.together((f"{length!r} {'behind a known head' if known else 'alone'}", sent))
            talk.abandon()
    for length in ("000024", " 24 "):
        talk.dial()
        talk.post(f"good before {length!r}", PREDICT, GOOD)
        talk.post(f"{length!r}", PREDICT, GOOD, ("Content-Length", length), times=2)
    talk.dial()
    talk.post("twice the same", PREDICT, GOOD, ("Content-Length", "24"), ("Content-Length", "24"))
    talk.abandon()
    talk.dial()
    talk.post("twice", PREDICT, GOOD, ("Content-Length", "24"), ("Content-Length", "25"))
    talk.abandon()
    talk.dial()
    talk.post("too short", PREDICT, GOOD, ("Content-Length", "23"))
    talk.abandon()
    talk.dial()
    talk.post("none", PREDICT, None, ("Content-Type", "application/json"))
    talk.post("of no body", PREDICT, None, ("Content-Type", "application/json"), ("Content-Length", "0"))
    talk.dial()
    talk.post(
        "larger than is taken", PREDICT, None, ("Content-Type", "application/json"), ("Content-Length", "16777217")
    )
    talk.abandon()
    talk.dial()
    talk.post("larger than is taken by v2", INFER, None, ("Content-Length", "99999999"))
    talk.abandon()
    return talk.done()


def _deadlines() -> Conversation:
    """Bodies that do not come before the deadline; nothing here is quick enough to be near it."""
    talk = Talk("plain", "connections/deadlines")
    deadline = ("X-Request-Timeout-Ms", "150")
    for path in (PREDICT, TRACE, EXPLAIN, INFER, "/v1/traces", "/v1/sessions"):
        talk.dial()
        whole = request("POST", path, GOOD, deadline)
        cut = Request("POST", headers=whole.headers, raw=whole.written({})[:-3])
        talk.together((f"{path} without its end", cut))
        talk.abandon()
    talk.dial()
    whole = request("POST", PREDICT, GOOD, deadline)
    first = numbered(1)
    cut = Request("POST", raw=first.written({}) + whole.written({})[:-3])
    talk.send(cut)
    talk.read("before one without its end", first)
    talk.read("without its end, behind another", whole)
    talk.abandon()
    return talk.done()
