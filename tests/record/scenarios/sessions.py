"""`/v1/sessions`: opened, stepped, moved and ended; over WebSockets; and as sequences of `/v2`."""

import json
from collections.abc import Iterator

import numpy as np
from conversation import SLOWLY, Conversation, Request, Talk, request
from folders import tensors
from sequences import batch, filled, levels, rows

SAFETENSORS = "application/vnd.safetensors"
STATE = {"hidden_state": filled(1, 1, 5), "cell_state": filled(1, 1, 5, value=-0.5)}
WIDE = {"hidden_state": filled(1, 2, 5), "cell_state": filled(1, 2, 5)}

TEXT, BINARY, CLOSE, PING = 1, 2, 8, 9


def conversations() -> Iterator[Conversation]:
    """All of them."""
    yield _lists()
    yield _openings()
    yield _steps()
    yield _other_steps()
    yield _states()
    yield _handshakes()
    yield _messages()
    yield _sequences()


def _lists() -> Conversation:
    talk = Talk("plain", "sessions/lists")
    talk.get("none", "/v1/sessions")
    for name in ("one", "two"):
        talk.post(f"{name} opened", "/v1/sessions", {"model": "tiny", "session_id": name})
    talk.get("both", "/v1/sessions")
    talk.post("step", "/v1/sessions/one/steps", {"inputs": rows(2, 3)})
    talk.get("both, one used", "/v1/sessions")
    talk.ask("HEAD", "HEAD", "/v1/sessions")
    for name in ("one", "two"):
        talk.ask(f"{name} ended", "DELETE", f"/v1/sessions/{name}", times=2)
    talk.get("none", "/v1/sessions")
    return talk.done()


def _openings() -> Conversation:
    talk = Talk("plain", "sessions/openings")
    good = {
        "named": {"model": "forecaster", "session_id": "mine"},
        "versioned": {"model": "several", "version": "2", "session_id": "v.2"},
        "pinned": {"model": "pinned", "session_id": "p:1~x-y_z"},
        "with a state": {"model": "forecaster", "session_id": "state", "initial_state": STATE},
        "with nulls": {"model": "letters", "session_id": "nulls", "initial_state": None, "version": None},
        "with a long name": {"model": "tiny", "session_id": "n" * 128},
        "of a model without a head": {"model": "founding", "session_id": "headless"},
        "of the last step": {"model": "verdict", "session_id": "verdict"},
        "of a category": {"model": "river", "session_id": "river"},
        "of ids": {"model": "ids", "session_id": "ids"},
    }
    for name, body in good.items():
        path = f"/v1/sessions/{body['session_id']}"
        talk.post(name, "/v1/sessions", body, times=2)
        talk.get(f"{name} told", path)
        talk.get(f"{name} state", f"{path}/state")
        talk.ask(f"{name} ended", "DELETE", path)
        talk.get(f"{name} gone", path)
    talk.post("unnamed", "/v1/sessions", {"model": "tiny"}, capture=("session", "session_id"))
    talk.get("unnamed told", "/v1/sessions/<<session>>")
    talk.post("unnamed step", "/v1/sessions/<<session>>/steps", {"inputs": rows(1, 3)}, times=2)
    talk.ask("unnamed ended", "DELETE", "/v1/sessions/<<session>>")
    wrong = {
        "no model": {},
        "model that is a number": {"model": 3},
        "unknown model": {"model": "tine"},
        "unknown version": {"model": "tiny", "version": "9"},
        "version that is a number": {"model": "tiny", "version": 1},
        "both directions": {"model": "both-ways"},
        "the mean of all": {"model": "mood"},
        "the maximum of all": {"model": "peak"},
        "model that is not there": {"model": "contradicting"},
        "name with a slash": {"model": "tiny", "session_id": "a/b"},
        "empty name": {"model": "tiny", "session_id": ""},
        "long name": {"model": "tiny", "session_id": "n" * 129},
        "name that is a number": {"model": "tiny", "session_id": 7},
        "letters of others": {"model": "tiny", "session_id": "é"},
        "unknown field": {"model": "tiny", "sesion_id": "a"},
        "state of two": {"model": "forecaster", "initial_state": WIDE},
        "narrow state": {"model": "forecaster", "initial_state": STATE | {"hidden_state": filled(1, 1, 4)}},
        "half a state": {"model": "forecaster", "initial_state": {"cell_state": STATE["cell_state"]}},
        "inputs": {"model": "tiny", "inputs": rows(1, 3)},
        "list": [],
        "broken": "{",
        "NaN": '{"model":"tiny","initial_state":{"hidden_state":[[[NaN,0,0,0]]],"cell_state":[[[0,0,0,0]]]}}',
        "nothing": "",
    }
    for name, body in wrong.items():
        talk.post(name, "/v1/sessions", body)
    talk.post("as text", "/v1/sessions", {"model": "tiny"}, content_type="text/plain")
    talk.post("without a body", "/v1/sessions")
    talk.post("deadline that is none", "/v1/sessions", {"model": "tiny"}, ("X-Request-Timeout-Ms", "x"))
    return talk.done()


def _steps() -> Conversation:
    """Streams of numbers: the quick way, the slow way, and both in turn."""
    talk = Talk("plain", "sessions/steps")
    for model, width in (("tiny", 3), ("founding", 5), ("verdict", 2), ("marks", 2), ("unbiased", 2), ("single", 1)):
        for name in ("quick", "slow", "mixed"):
            talk.post(f"{model} {name}", "/v1/sessions", {"model": model, "session_id": name})
        parts = [rows(length, width, length) for length in (1, 3, 1, 2, 2)]
        for index, part in enumerate(parts):
            body = {"inputs": part}
            talk.post(f"{model} quick step", "/v1/sessions/quick/steps", body)
            talk.post(f"{model} slow step", "/v1/sessions/slow/steps", body, SLOWLY)
            talk.post(f"{model} mixed step", "/v1/sessions/mixed/steps", body, *([SLOWLY] if index % 2 else []))
        talk.post(f"{model} in safetensors", "/v1/sessions/quick/steps", {"inputs": parts[0]}, ("Accept", SAFETENSORS))
        content = tensors({"inputs": np.array(parts[1], dtype=np.float32)})
        talk.post(f"{model} a tensor", "/v1/sessions/slow/steps", content, content_type=SAFETENSORS, times=2)
        for name in ("quick", "slow", "mixed"):
            talk.get(f"{model} {name} told", f"/v1/sessions/{name}")
            talk.get(f"{model} {name} state", f"/v1/sessions/{name}/state")
            talk.ask(f"{model} {name} ended", "DELETE", f"/v1/sessions/{name}")
    return talk.done()


def _other_steps() -> Conversation:
    talk = Talk("plain", "sessions/other steps")
    talk.post("opened", "/v1/sessions", {"model": "forecaster", "session_id": "f"})
    path, good = "/v1/sessions/f/steps", levels(3)
    bodies = {
        "plain": {"inputs": good},
        "batch of one": {"inputs": [good]},
        "outputs": {"inputs": good, "outputs": ["prediction", "output", "final_state"]},
        "trace": {"inputs": good, "trace": {"signals": ["cell_state"], "units": "0:3", "time": {"step": 2}}},
        "trace of everything": {"inputs": good[:1], "trace": {}},
        "trace that is null": {"inputs": good[:1], "trace": None},
        "horizon": {"inputs": good, "horizon": 2, "future_inputs": [[None, 3], [None, 4]]},
        "horizon and trace": {
            "inputs": good[:1],
            "horizon": 1,
            "future_inputs": [[None, 3]],
            "trace": {"signals": ["cell_state"], "units": [0]},
        },
        "two sequences": {"inputs": [good, good]},
        "narrow": {"inputs": [[1.0]]},
        "no sequences": {"inputs": []},
        "nothing": {},
        "unknown unit": {"inputs": good, "trace": {"units": [99]}},
        "unknown part of a trace": {"inputs": good, "trace": {"unit": [0]}},
        "trace that is a list": {"inputs": good, "trace": []},
        "signals beside": {"inputs": good, "signals": ["cell_state"]},
        "negative number": {"inputs": good, "step_number": -1},
        "number as a text": {"inputs": good, "step_number": "0"},
        "number of another": {"inputs": good, "step_number": 77},
        "number of the first": {"inputs": good, "step_number": 0},
        "state": {"inputs": good, "initial_state": STATE},
        "text": {"text": "abc"},
        "leading zero": '{"inputs":[[1,01]]}',
        "too large": '{"inputs":[[1,1e39]]}',
        "broken": "{",
        "list": "[]",
        "empty": "",
        "null": "null",
    }
    for name, body in bodies.items():
        talk.post(name, path, body, times=2)
    talk.get("told", "/v1/sessions/f")
    talk.post("numbered", "/v1/sessions", {"model": "forecaster", "session_id": "n"})
    for number in (0, 0, 1, 1, 0, 5, 2):
        body = {"inputs": levels(2, number), "step_number": number}
        talk.post(f"number {number}", "/v1/sessions/n/steps", body)
    talk.post("number 2 with other inputs", "/v1/sessions/n/steps", {"inputs": levels(2, 9), "step_number": 2})
    talk.post("unnumbered", "/v1/sessions/n/steps", {"inputs": levels(2)})
    talk.post("number 3 after that", "/v1/sessions/n/steps", {"inputs": levels(2), "step_number": 3})
    content = tensors({"inputs": np.array(good, dtype=np.float32)}, {"trace": json.dumps({"signals": ["forget_gate"]})})
    for accept in (SAFETENSORS, "application/json", "application/x-npz", "text/html"):
        talk.post(f"tensor as {accept}", path, content, ("Accept", accept), content_type=SAFETENSORS)
    talk.post("as text", path, {"inputs": good}, content_type="text/plain")
    talk.post("compressed", path, {"inputs": good}, ("Content-Encoding", "gzip"))
    talk.post("deadline that is none", path, {"inputs": good}, ("X-Request-Timeout-Ms", "x"))
    talk.get("told in the end", "/v1/sessions/f")
    for name in ("f", "n"):
        talk.ask(f"{name} ended", "DELETE", f"/v1/sessions/{name}")
        talk.post(f"{name} step, gone", f"/v1/sessions/{name}/steps", {"inputs": good}, times=2)
    talk.post("letters", "/v1/sessions", {"model": "letters", "session_id": "t"})
    for text in ("ab", "c", " cab", "", "z", ["ab"], ["a", "b"]):
        talk.post(f"text {text}", "/v1/sessions/t/steps", {"text": text})
    talk.post("ids of text", "/v1/sessions/t/steps", {"inputs": [0, 1]})
    talk.post("horizon of text", "/v1/sessions/t/steps", {"text": "ab", "horizon": 3})
    talk.ask("letters ended", "DELETE", "/v1/sessions/t")
    return talk.done()


def _states() -> Conversation:
    talk = Talk("plain", "sessions/states")
    talk.post("opened", "/v1/sessions", {"model": "forecaster", "session_id": "s"})
    path = "/v1/sessions/s/state"
    bodies = {
        "state": STATE,
        "state of two": WIDE,
        "narrow": STATE | {"cell_state": filled(1, 1, 4)},
        "half": {"hidden_state": STATE["hidden_state"]},
        "empty": {},
        "unknown part": STATE | {"cells": []},
        "NaN": '{"hidden_state":[[[NaN,0,0,0,0]]],"cell_state":[[[0,0,0,0,0]]]}',
        "list": [],
        "broken": "{",
        "nothing": "",
    }
    for name, body in bodies.items():
        talk.ask(name, "PUT", path, body)
        talk.get(f"after {name}", path)
    talk.post("step", "/v1/sessions/s/steps", {"inputs": [[11.0, 3.0]]})
    arrays = {name: np.array(value, dtype=np.float32) for name, value in STATE.items()}
    content = tensors({f"initial_state.{name}": array for name, array in arrays.items()})
    talk.ask("as tensors", "PUT", path, content, content_type=SAFETENSORS)
    talk.ask("as text", "PUT", path, STATE, content_type="text/plain")
    talk.get("in the end", "/v1/sessions/s")
    talk.ask("ended", "DELETE", "/v1/sessions/s")
    talk.ask("state, gone", "PUT", path, STATE)
    return talk.done()


def shake(path: str, *more: tuple[str, str], without: str = "", method: str = "GET", version: str = "1.1") -> Request:
    """A handshake of a WebSocket, perhaps without one of its headers."""
    headers = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version": "13",
    }
    kept = [(name, value) for name, value in headers.items() if name != without]
    return request(method, path, None, *kept, *more, version=version)


def _handshakes() -> Conversation:
    talk = Talk("plain", "sessions/handshakes")
    talk.post("opened", "/v1/sessions", {"model": "tiny", "session_id": "w"})
    path = "/v1/sessions/w/stream"
    own = ("Origin", "http://localhost:8000")
    asked = {
        "plain": shake(path),
        "own page": shake(path, own),
        "own address": shake(path, ("Origin", "https://localhost:8000")),
        "other page": shake(path, ("Origin", "https://evil.example")),
        "other port": shake(path, ("Origin", "http://localhost:9")),
        "null": shake(path, ("Origin", "null")),
        "subprotocol": shake(path, ("Sec-WebSocket-Protocol", "chat, other")),
        "extension": shake(path, ("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits")),
        "request id": shake(path, ("X-Request-ID", "mine")),
        "no session": shake("/v1/sessions/none/stream"),
        "no route": shake("/v1/sessions/w/streams"),
        "another route": shake("/v1/models"),
        "version 8": shake(path, ("Sec-WebSocket-Version", "8"), without="Sec-WebSocket-Version"),
        "short key": shake(path, ("Sec-WebSocket-Key", "eA=="), without="Sec-WebSocket-Key"),
        "h2c": request("GET", "/health/live", None, ("Connection", "Upgrade"), ("Upgrade", "h2c")),
        "h2c to a route that is hot": request(
            "POST",
            "/v1/models/tiny/predict",
            {"inputs": rows(1, 3)},
            ("Connection", "Upgrade, HTTP2-Settings"),
            ("Upgrade", "h2c"),
            ("HTTP2-Settings", "AAMAAABkAARAAAAAAAIAAAAA"),
        ),
    }
    for header in ("Sec-WebSocket-Key", "Sec-WebSocket-Version", "Upgrade", "Connection"):
        asked[f"without {header}"] = shake(path, without=header)
    for name, each in asked.items():
        talk.dial()
        talk.together((name, each))
        if name in ("plain", "own page", "own address", "subprotocol", "extension", "request id"):
            talk.frame(f"{name} closed", CLOSE, b"\x03\xe8", 1)
            talk.abandon()
        if name.startswith("h2c"):
            talk.abandon()
    talk.over(0)
    talk.ask("ended", "DELETE", "/v1/sessions/w")
    return talk.done()


def _messages() -> Conversation:
    talk = Talk("plain", "sessions/messages")
    talk.post("opened", "/v1/sessions", {"model": "forecaster", "session_id": "m"})
    talk.dial()
    talk.together(("open", shake("/v1/sessions/m/stream")))
    body = json.dumps({"inputs": levels(2)}).encode()
    content = tensors({"inputs": np.array(levels(2), dtype=np.float32)})
    for name, opcode, payload in (
        ("numbers", TEXT, body),
        ("numbers", TEXT, body),
        ("other numbers", TEXT, json.dumps({"inputs": levels(2, 3)}).encode()),
        ("trace", TEXT, json.dumps({"inputs": levels(1), "trace": {"units": [0]}}).encode()),
        ("tensor", BINARY, content),
        ("tensor", BINARY, content),
        ("long", TEXT, json.dumps({"inputs": levels(30), "step_number": 6}).encode()),
        ("long again", TEXT, json.dumps({"inputs": levels(30), "step_number": 6}).encode()),
        ("number of another", TEXT, json.dumps({"inputs": levels(1), "step_number": 3}).encode()),
        ("broken", TEXT, b"{"),
        ("list", TEXT, b"[]"),
        ("empty", TEXT, b""),
        ("narrow", TEXT, b'{"inputs":[[1.0]]}'),
        ("unknown field", TEXT, b'{"input":[[1.0,2.0]]}'),
        ("no tensor", BINARY, b""),
        ("no tensor either", BINARY, b"\xff" * 40),
        ("narrow tensor", BINARY, tensors({"inputs": np.zeros((2, 3), dtype=np.float32)})),
        ("unknown tensor", BINARY, tensors({"outputs": np.zeros(2, dtype=np.float32)})),
        ("ping", PING, b"abc"),
        ("numbers in the end", TEXT, body),
    ):
        talk.frame(name, opcode, payload)
    talk.over(0)
    talk.get("told", "/v1/sessions/m")
    talk.ask("ended", "DELETE", "/v1/sessions/m")
    talk.over(1)
    talk.frame("gone", TEXT, body, 2)
    talk.abandon()
    return talk.done()


def _sequences() -> Conversation:
    """Sessions as `/v2` has them."""
    talk = Talk("plain", "sessions/sequences")
    path = "/v2/models/forecaster/infer"

    def step(parameters: dict, length: int = 2, seed: int = 0, **more) -> dict:
        values = levels(length, seed)
        flat = [value for row in values for value in row]
        tensor = {"name": "inputs", "shape": [1, length, 2], "datatype": "FP32", "data": flat}
        return {"inputs": [tensor], "parameters": parameters} | more

    for name in (7, "mine", 2**64 - 1):
        talk.post(f"{name} start", path, step({"sequence_id": name, "sequence_start": True}))
        talk.post(f"{name} on", path, step({"sequence_id": name}, seed=1), times=2)
        talk.get(f"{name} told", f"/v1/sessions/{name}")
        talk.post(f"{name} of another version", "/v2/models/forecaster/versions/1/infer", step({"sequence_id": name}))
        talk.post(f"{name} of another model", "/v2/models/river/infer", step({"sequence_id": name}))
        talk.post(
            f"{name} start of another model",
            "/v2/models/tiny/infer",
            step({"sequence_id": name, "sequence_start": True}),
        )
        talk.post(f"{name} start again", path, step({"sequence_id": name, "sequence_start": True}))
        talk.post(f"{name} end", path, step({"sequence_id": name, "sequence_end": True}))
        talk.post(f"{name} after the end", path, step({"sequence_id": name}))
    both = {"sequence_id": 8, "sequence_start": True, "sequence_end": True}
    talk.post("start and end", path, step(both), times=2)
    talk.post("outputs", path, step(both, outputs=[{"name": "output"}, {"name": "final_cell_state"}]))
    talk.post("trace", path, step(both, outputs=[{"name": "cell_state", "parameters": {"binary_data": True}}]))
    talk.post("with an id", path, step(both, id="abc"))
    state = [
        {"name": f"initial_{part}", "shape": [1, 1, 5], "datatype": "FP32", "data": [0.25] * 5}
        for part in ("hidden_state", "cell_state")
    ]
    begun = step(both)
    talk.post("with a state", path, begun | {"inputs": begun["inputs"] + state})
    talk.post("start", path, step({"sequence_id": 9, "sequence_start": True}))
    later = step({"sequence_id": 9})
    talk.post("later with a state", path, later | {"inputs": later["inputs"] + state})
    two = batch(2, 2, width=2)
    flat = [value for sequence in two for row in sequence for value in row]
    tensor = {"name": "inputs", "shape": [2, 2, 2], "datatype": "FP32", "data": flat}
    talk.post("batch of two", path, {"inputs": [tensor], "parameters": {"sequence_id": 9}})
    talk.post("end", path, step({"sequence_id": 9, "sequence_end": True}))
    for parameters in (
        {"sequence_start": True},
        {"sequence_end": True},
        {"sequence_id": 0, "sequence_start": True},
        {"sequence_id": ""},
        {"sequence_id": "a/b", "sequence_start": True},
        {"sequence_id": -1, "sequence_start": True},
        {"sequence_id": 1.5, "sequence_start": True},
        {"sequence_id": 2**64, "sequence_start": True},
        {"sequence_id": True, "sequence_start": True},
        {"sequence_id": None},
        {"sequence_id": 3, "sequence_start": 1},
        {"sequence_id": 404},
    ):
        talk.post(f"parameters {json.dumps(parameters)}", path, step(parameters))
    for model in ("both-ways", "mood", "nobody"):
        talk.post(f"of {model}", f"/v2/models/{model}/infer", step({"sequence_id": 5, "sequence_start": True}))
    talk.get("none is left", "/v1/sessions")
    return talk.done()
