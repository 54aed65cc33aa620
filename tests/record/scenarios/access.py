"""Keys, pages of other origins, and what servers with settings of their own refuse."""

from collections.abc import Iterator
from itertools import product

import numpy as np
from conversation import SLOWLY, Conversation, Request, Talk, request
from folders import tensors
from sequences import batch, rows

from scenarios.infer import BODY, LENGTH
from scenarios.service import PATHS
from scenarios.sessions import CLOSE, shake

PREDICT = "/v1/models/founding/predict"
GOOD = b'{"inputs":[[1,2,3,4,5]]}'
READER, BOSS = ("X-API-Key", "reader"), ("X-API-Key", "boss")
LOAD = "/v1/models/nobody/load"

ADMINISTERS = (
    ("POST", LOAD),
    ("POST", "/v1/models/nobody/versions/1/load"),
    ("POST", "/v1/models/tiny/versions/9/unload"),
    ("POST", "/v1/models/nobody/unload"),
    ("PUT", "/v1/models/.hidden"),
    ("PUT", "/v1/models/tiny/versions/.1"),
    ("POST", "/v2/repository/models/nobody/load"),
    ("POST", "/v2/repository/models/nobody/unload"),
)


def conversations() -> Iterator[Conversation]:
    """All of them."""
    yield _keys()
    yield _keyed_routes()
    yield _keys_of_readers()
    yield _origins()
    yield _preflights()
    yield _all_origins()
    yield _idle()
    yield _administration_of_pages()
    yield _admin_keys()
    yield _bodies()
    yield _steps()
    yield _sizes()
    yield _full()
    yield _late()


def _keys() -> Conversation:
    talk = Talk("keyed", "keys")
    sent = {
        "none": (),
        "reader": (READER,),
        "second": (("X-API-Key", "second"),),
        "boss": (BOSS,),
        "bearer": (("Authorization", "Bearer reader"),),
        "bearer in small letters": (("authorization", "bearer second"),),
        "bearer of an admin": (("Authorization", "Bearer deputy"),),
        "spaces": (("X-API-Key", "  reader  "),),
        "spaces behind the scheme": (("Authorization", "Bearer   reader "),),
        "part": (("X-API-Key", "reade"),),
        "more": (("X-API-Key", "readers"),),
        "capitals": (("X-API-Key", "READER"),),
        "both": (("X-API-Key", "reader,second"),),
        "empty": (("X-API-Key", ""),),
        "basic": (("Authorization", "Basic reader"),),
        "no scheme": (("Authorization", "reader"),),
        "empty bearer": (("Authorization", "Bearer"),),
        "wrong bearer and a key": (("Authorization", "Bearer wrong"), READER),
        "bearer and a wrong key": (("Authorization", "Bearer reader"), ("X-API-Key", "wrong")),
        "other scheme and a key": (("Authorization", "Basic x"), READER),
        "wrong and right": (("X-API-Key", "wrong"), READER),
        "right and wrong": (READER, ("X-API-Key", "wrong")),
        "umlaut": (("X-API-Key", "\xfc"),),
        "in a cookie": (("Cookie", "X-API-Key=reader"),),
    }
    for name, headers in sent.items():
        talk.hot(f"predict with {name}", PREDICT, GOOD, *headers)
        talk.get(f"info with {name}", "/v1/models/tiny", *headers)
        talk.post(f"infer with {name}", "/v2/models/founding/infer", BODY % "[1,2,3,4,5]", *headers)
        talk.post(f"load with {name}", LOAD, None, *headers)
    talk.get("key in the query", "/v1/models/tiny?api_key=reader")
    talk.dial()
    talk.post("known head without a key", PREDICT, GOOD, times=2)
    talk.post("with a key after that", PREDICT, GOOD, READER, times=2)
    talk.post("without a key after that", PREDICT, GOOD)
    return talk.done()


def _keyed_routes() -> Conversation:
    talk = Talk("keyed", "routes")
    for path in PATHS:
        method = "POST" if path.endswith(("predict", "trace", "explain", "infer", "steps", "index", "load")) else "GET"
        talk.ask(f"{method} {path}", method, path)
        talk.ask(f"{method} {path} with a key", method, path, None, READER)
    for method, path in product(
        ("OPTIONS", "HEAD", "DELETE"), ("/v1/models", "/health/live", "/", "/nothing", PREDICT)
    ):
        talk.ask(f"{method} {path}", method, path)
        talk.ask(f"{method} {path} with a key", method, path, None, READER)
    for method, path in ADMINISTERS:
        talk.ask(f"{method} {path}", method, path)
        talk.ask(f"{method} {path} as a reader", method, path, b"unread", READER)
        talk.ask(f"{method} {path} as an admin", method, path, b"unread", BOSS)
        talk.ask(f"{method} {path} from a page", method, path, b"unread", BOSS, ("Origin", "https://a.example"))
    talk.post("opened", "/v1/sessions", {"model": "tiny", "session_id": "k"}, READER)
    for name, headers in {"no key": (), "a key": (READER,), "a bearer": (("Authorization", "Bearer reader"),)}.items():
        talk.dial()
        talk.together((f"stream with {name}", shake("/v1/sessions/k/stream", *headers)))
        if headers:
            talk.frame(f"stream with {name} closed", CLOSE, b"\x03\xe8")
        talk.abandon()
    talk.dial()
    talk.post("announced without a key", PREDICT, GOOD, ("Expect", "100-continue"))
    return talk.done()


def _keys_of_readers() -> Conversation:
    talk = Talk("reading", "keys")
    for name, headers in {"none": (), "reader": (READER,), "boss": (BOSS,)}.items():
        talk.hot(f"predict with {name}", PREDICT, GOOD, *headers)
        for method, path in ADMINISTERS:
            talk.ask(f"{method} {path} with {name}", method, path, None, *headers)
    return talk.done()


def _origins() -> Conversation:
    talk = Talk("origins", "origins")
    for origin in (
        "https://a.example",
        "http://b.example:8080",
        "http://b.example",
        "https://A.example",
        "https://a.example/",
        "https://evil.example",
        "http://localhost:8000",
        "null",
        "",
    ):
        header = ("Origin", origin)
        talk.hot(f"predict from {origin}", PREDICT, GOOD, header)
        talk.post(f"refused from {origin}", PREDICT, b"{", header)
        talk.get(f"info from {origin}", "/v1/models/tiny", header)
        talk.get(f"nothing from {origin}", "/nothing", header)
        talk.get(f"live from {origin}", "/health/live", header)
        talk.get(f"page from {origin}", "/", header)
        talk.post(f"infer from {origin}", "/v2/models/founding/infer", BODY % "[1,2,3,4,5]", header)
        lines = ("Accept", "application/x-ndjson")
        talk.post(f"lines from {origin}", "/v1/models/founding/trace", GOOD, header, lines)
        talk.ask(f"method from {origin}", "PUT", PREDICT, GOOD, header)
    talk.hot("predict from nowhere", PREDICT, GOOD)
    talk.get("info from nowhere", "/v1/models/tiny")
    talk.post("a cookie", PREDICT, GOOD, ("Origin", "https://a.example"), ("Cookie", "a=b"))
    talk.post("without permission to run code", "/v1/models/coded/predict", {"inputs": rows(1, 3)})
    talk.get("code's info", "/v1/models/coded")
    return talk.done()


def _preflights() -> Conversation:
    talk = Talk("origins", "preflights")
    method = "Access-Control-Request-Method"
    for origin, path in product(
        ("https://a.example", "https://evil.example", "null"), (PREDICT, "/nothing", "/v1/sessions/x", "/health/live")
    ):
        asked = [("Origin", origin), (method, "POST")]
        talk.ask(f"{path} from {origin}", "OPTIONS", path, None, *asked)
        more = ("Access-Control-Request-Headers", "content-type, x-api-key, X-Request-ID")
        talk.ask(f"{path} from {origin} with headers", "OPTIONS", path, None, *asked, more)
    own = ("Origin", "https://a.example")
    for wanted in ("DELETE", "PUT", "PATCH", "BREW", ""):
        talk.ask(f"for {wanted}", "OPTIONS", PREDICT, None, own, (method, wanted))
    talk.ask(
        "of a private network",
        "OPTIONS",
        PREDICT,
        None,
        own,
        (method, "POST"),
        ("Access-Control-Request-Private-Network", "true"),
    )
    talk.ask("without an origin", "OPTIONS", PREDICT, None, (method, "POST"))
    talk.ask("without a method", "OPTIONS", PREDICT, None, own)
    talk.ask("with an id", "OPTIONS", PREDICT, None, own, (method, "POST"), ("X-Request-ID", "mine"))
    talk.get("GET that asks for a method", "/v1/models/tiny", own, (method, "POST"))
    return talk.done()


def _all_origins() -> Conversation:
    talk = Talk("reading", "origins")
    for origin, key in product(("https://a.example", "null"), ((), (READER,))):
        header, named = ("Origin", origin), f"{origin} {'with' if key else 'without'} a key"
        talk.hot(f"predict from {named}", PREDICT, GOOD, header, *key)
        talk.get(f"info from {named}", "/v1/models/tiny", header, *key)
        talk.get(f"live from {named}", "/health/live", header, *key)
        talk.post(f"a cookie from {named}", PREDICT, GOOD, header, ("Cookie", "a=b"), *key)
        talk.post(f"refused from {named}", PREDICT, b"{", header, *key)
        asked = ("Access-Control-Request-Method", "POST")
        talk.ask(f"preflight from {named}", "OPTIONS", PREDICT, None, header, asked, *key)
        talk.post(f"load from {named}", LOAD, None, header, *key)
    talk.hot("predict from nowhere", PREDICT, GOOD, READER)
    talk.post("opened", "/v1/sessions", {"model": "tiny", "session_id": "k"}, READER)
    talk.dial()
    talk.together(("stream of any page", shake("/v1/sessions/k/stream", READER, ("Origin", "https://evil.example"))))
    talk.abandon()
    return talk.done()


def _idle() -> Conversation:
    """What nobody looks at for a fifth of a second is gone a second later."""
    talk = Talk("origins", "idle")
    talk.post("session opened", "/v1/sessions", {"model": "tiny", "session_id": "i"})
    talk.post("trace stored", "/v1/traces", {"model": "tiny", "inputs": rows(2, 3)}, capture=("trace", "trace_id"))
    talk.get("session idle", "/v1/sessions/i", pause=1.0)
    talk.post("step idle", "/v1/sessions/i/steps", {"inputs": rows(1, 3)}, times=2)
    talk.ask("session idle, ended", "DELETE", "/v1/sessions/i")
    talk.get("trace idle", "/v1/traces/<<trace>>")
    talk.get("values idle", "/v1/traces/<<trace>>/values")
    talk.ask("trace idle, deleted", "DELETE", "/v1/traces/<<trace>>")
    talk.get("sessions", "/v1/sessions")
    return talk.done()


def _administration_of_pages() -> Conversation:
    """Without keys: whoever reaches the server, but no page of another origin."""
    talk = Talk("origins", "administration")
    for origin, host in (
        (None, "localhost:8000"),
        (None, "models.example"),
        ("http://localhost:8000", "localhost:8000"),
        ("https://localhost:8000", "localhost:8000"),
        ("http://127.0.0.1:8000", "127.0.0.1:8000"),
        ("http://[::1]:8000", "[::1]:8000"),
        ("https://a.example", "localhost:8000"),
        ("https://evil.example", "localhost:8000"),
        ("http://localhost:9", "localhost:8000"),
        ("null", "localhost:8000"),
        ("", "localhost:8000"),
        ("http://evil.example:8000", "evil.example:8000"),
        ("http://[", "["),
        ("http://localhost:8000", ""),
    ):
        header = () if origin is None else (("Origin", origin),)
        for method, path in ADMINISTERS[::3]:
            talk.ask(f"{method} {path} from {origin} at {host}", method, path, None, *header, host=host)
        talk.post(f"predict from {origin} at {host}", PREDICT, GOOD, *header, host=host)
    return talk.done()


def _admin_keys() -> Conversation:
    """Admin keys, and no others: all else is open."""
    talk = Talk("limited", "admin keys")
    talk.get("statistics of nothing", "/v2/models/stats")
    sent = {"none": (), "a key": (BOSS,), "a bearer": (("Authorization", "Bearer deputy"),), "another": (READER,)}
    for name, headers in sent.items():
        talk.get(f"info with {name}", "/v1/models/tiny", *headers)
        talk.hot(f"predict with {name}", PREDICT, GOOD, *headers)
        for method, path in ADMINISTERS:
            talk.ask(f"{method} {path} with {name}", method, path, None, *headers)
    page = ("Origin", "https://evil.example")
    talk.post("load from a page", LOAD, None, BOSS, page)
    talk.post("load from a page without a key", LOAD, None, page)
    return talk.done()


def _bodies() -> Conversation:
    """At most 2,000 bytes."""
    talk = Talk("limited", "bodies")
    spaces = b" " * 2000
    json_type = ("Content-Type", "application/json")
    for path in (PREDICT, "/v1/models/founding/trace", "/v1/models/founding/explain", "/v1/traces", "/v1/sessions"):
        for name, size in (("just fits", 2000), ("one too many", 2001), ("far too many", 5000)):
            talk.post(f"{path} {name}", path, GOOD + b" " * (size - len(GOOD)), times=2)
        talk.dial()
        talk.together((f"{path} announced", request("POST", path, None, json_type, ("Content-Length", "9999"))))
        talk.abandon()
        talk.dial()
        chunks = b"%x\r\n%b\r\n" % (len(spaces), spaces) * 3 + b"0\r\n\r\n"
        talk.post(f"{path} in chunks", path, chunks, ("Transfer-Encoding", "chunked"))
        talk.dial()
    good = (BODY % "[1,2,3,4,5]").encode()
    for name, size in (("just fits", 2000), ("one too many", 2001)):
        talk.post(f"infer {name}", "/v2/models/founding/infer", good + b" " * (size - len(good)), times=2)
    talk.post("infer raw", "/v2/models/founding/infer", bytes(2020), (LENGTH, "0"))
    talk.post("infer unpacked", "/v2/models/founding/infer", _zeros(), ("Content-Encoding", "gzip"), key="zeros")
    tensor = tensors({"inputs": np.zeros((5, 5), dtype=np.float32)})
    kind = "application/vnd.safetensors"
    talk.post("tensor just fits", PREDICT, tensor, content_type=kind, times=2)
    talk.post("tensor too large", PREDICT, tensors({"inputs": np.zeros((100, 5), dtype=np.float32)}), content_type=kind)
    talk.post("opened", "/v1/sessions", {"model": "tiny", "session_id": "b"})
    talk.post("step", "/v1/sessions/b/steps", b'{"inputs":[[1,2,3]]}' + spaces)
    talk.ask("state", "PUT", "/v1/sessions/b/state", b"{}" + spaces)
    talk.ask("ended", "DELETE", "/v1/sessions/b")
    talk.ask("upload", "PUT", "/v1/models/new", b"x" * 1501, BOSS)
    talk.dial()
    upload = request("PUT", "/v1/models/new", None, BOSS, ("Content-Length", "99999"))
    talk.together(("upload announced", upload))
    talk.abandon()
    talk.dial()
    talk.ask("upload that fits", "PUT", "/v1/models/new", b"x" * 1500, BOSS)
    return talk.done()


def _zeros() -> bytes:
    import gzip  # noqa: PLC0415

    return gzip.compress(b" " * 9000, mtime=0)


def _steps() -> Conversation:
    """At most 8 time steps, 16 in a batch, and 1,500 bytes of a trace."""
    talk = Talk("limited", "steps")
    bodies = {
        "eight": {"inputs": rows(8, 1)},
        "nine": {"inputs": rows(9, 1)},
        "nine in a batch": {"inputs": batch(2, 9, width=1)},
        "two by eight": {"inputs": batch(8, 8, width=1)},
        "three by six": {"inputs": batch(6, 6, 6, width=1)},
        "ragged three by six": {"inputs": batch(6, 1, 2, width=1)},
        "many": {"inputs": batch(*[1] * 17, width=1)},
        "nine, time first": {"inputs": batch(*[1] * 9, width=1), "layout": "time_batch_feature"},
        "nine, padded": {"inputs": [rows(9, 1)], "sequence_lengths": [3]},
        "nine, wrong": {"inputs": [[1.0]] * 8 + [["x"]]},
    }
    for name, body in bodies.items():
        for path in ("/v1/models/single/predict", "/v1/models/single/trace"):
            talk.hot(f"{path} {name}", path, body)
        talk.post(f"{name} as lines", "/v1/models/single/trace", body, ("Accept", "application/x-ndjson"))
        talk.post(f"{name} stored", "/v1/traces", body | {"model": "single"}, capture=("trace", "trace_id"))
        talk.ask(f"{name} deleted", "DELETE", "/v1/traces/<<trace>>")
        talk.post(f"{name} explained", "/v1/models/single/explain", body | {"time_step": 0, "unit": 0})
        shape = [len(body["inputs"]), len(body["inputs"][0]), 1]
        flat = np.array(body["inputs"], dtype=object).reshape(-1).tolist() if "ragged" not in name else []
        tensor = {"name": "inputs", "shape": shape, "datatype": "FP32", "data": flat}
        talk.post(f"{name} infer", "/v2/models/single/infer", {"inputs": [tensor]}, times=2)
    for text in ("abcabcab", "abcabcabc", ["ab", "abcabcabc"], ["a"] * 17, ["abcabc"] * 3, "a" * 17):
        talk.post(f"text {text}", "/v1/models/letters/predict", {"text": text}, times=2)
    for horizon in (5, 6, 7, 10**6):
        talk.post(f"horizon {horizon}", "/v1/models/letters/predict", {"text": "abc", "horizon": horizon})
    return talk.done()


def _sizes() -> Conversation:
    talk = Talk("limited", "sizes")
    path = "/v1/models/founding"
    for length in (1, 2, 4, 8):
        body = {"inputs": rows(length, 5)}
        talk.hot(f"predict {length}", f"{path}/predict", body)
        talk.post(f"states {length}", f"{path}/predict", body | {"outputs": ["output", "final_state"]})
        for accept in ("application/json", "application/vnd.safetensors", "application/x-npz", "application/x-ndjson"):
            talk.post(f"trace {length} as {accept}", f"{path}/trace", body, ("Accept", accept), times=2)
        talk.post(f"one unit {length}", f"{path}/trace", body | {"units": [0]}, times=2)
        talk.post(f"stored {length}", "/v1/traces", body | {"model": "founding"}, capture=("trace", "trace_id"))
        for query in ("", "?units=0", "?units=0&bins=1"):
            for accept in ("application/json", "application/x-ndjson"):
                talk.get(
                    f"values {length} {query} as {accept}", f"/v1/traces/<<trace>>/values{query}", ("Accept", accept)
                )
        talk.ask(f"deleted {length}", "DELETE", "/v1/traces/<<trace>>")
    body = {"inputs": batch(8, 8, width=3)}
    for name in ("trace", "predict"):
        talk.post(
            f"both ways {name}",
            f"/v1/models/both-ways/{name}",
            body,
            ("Accept", "application/x-ndjson" if name == "trace" else "*/*"),
        )
    talk.post("both ways stored", "/v1/traces", body | {"model": "both-ways"})
    return talk.done()


def _full() -> Conversation:
    """At most three sessions, and 6,000 bytes of stored traces."""
    talk = Talk("limited", "full")
    for name in ("a", "b", "c", "d"):
        talk.post(f"session {name}", "/v1/sessions", {"model": "tiny", "session_id": name})
    tensor = {"name": "inputs", "shape": [1, 1, 3], "datatype": "FP32", "data": [1, 2, 3]}
    start = {"inputs": [tensor], "parameters": {"sequence_id": "e", "sequence_start": True}}
    talk.post("sequence", "/v2/models/tiny/infer", start)
    talk.ask("session b ended", "DELETE", "/v1/sessions/b")
    talk.post("session d", "/v1/sessions", {"model": "tiny", "session_id": "d"})
    talk.get("sessions", "/v1/sessions")
    for name in ("a", "c", "d"):
        talk.ask(f"session {name} ended", "DELETE", f"/v1/sessions/{name}")
    for name in ("first", "second", "third", "fourth", "fifth"):
        body = {"model": "founding", "inputs": rows(4, 5)}
        talk.post(f"trace {name}", "/v1/traces", body, capture=(name, "trace_id"))
    for name in ("first", "second", "third", "fourth", "fifth"):
        talk.get(f"trace {name} told", f"/v1/traces/<<{name}>>")
    return talk.done()


def _late() -> Conversation:
    """No body comes within the three seconds that a request may take: all wait at the same time."""
    talk = Talk("limited", "late")
    asked = {
        "predict": request("POST", PREDICT, GOOD),
        "predict slowly": request("POST", PREDICT, GOOD, SLOWLY),
        "explain": request("POST", "/v1/models/founding/explain", GOOD),
        "infer": request("POST", "/v2/models/founding/infer", BODY % "[1,2,3,4,5]"),
        "open": request("POST", "/v1/sessions", GOOD),
        "upload": request("PUT", "/v1/models/new", GOOD, BOSS),
    }
    connections = []
    for each in asked.values():
        connections.append(talk.dial())
        talk.send(Request("POST", raw=each.written({})[:-3]))
    for connection, (name, each) in zip(connections, asked.items(), strict=True):
        talk.over(connection)
        talk.read(name, each)
        talk.abandon()
    return talk.done()
