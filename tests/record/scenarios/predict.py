"""`predict`: bodies that are as most are, bodies that differ, headers, and all kinds of models."""

import json
from collections.abc import Iterator

import numpy as np
from conversation import JSON, Conversation, Talk
from folders import tensors
from sequences import batch, filled, levels, rows

SAFETENSORS = "application/vnd.safetensors"
PREDICT = "/v1/models/founding/predict"
ROW = "[1,2,3,4,5]"
GOOD = f'{{"inputs":[{ROW}]}}'.encode()

QUICK = {
    "lone sequence": GOOD,
    "two steps": f'{{"inputs":[{ROW},{ROW}]}}',
    "batch of one": f'{{"inputs":[[{ROW}]]}}',
    "batch": json.dumps({"inputs": batch(3, 3, 3, width=5)}),
    "spaces everywhere": '\r\n\t { "inputs" \n : [ [ 1 , 2\t,3 , 4 , 5 ] \r] } \n',
    "minus nothing": '{"inputs":[[-0,-0.0,0.0,0,-0e0]]}',
    "exponents": '{"inputs":[[1e-3,1E5,1.5e+2,-2E-2,0e9]]}',
    "tiny": '{"inputs":[[1e-400,-1e-400,1e-45,1e-46,4.9e-324]]}',
    "largest": '{"inputs":[[3.4028234663852886e38,0,0,0,1]]}',
    "too large a sum": '{"inputs":[[3e38,3e38,0,0,-3e38]]}',
    "many digits": '{"inputs":[[0.1000000000000000055511151231257827021181583404541015625,1,2,3,4]]}',
    "whole numbers": '{"inputs":[[9007199254740993,-9223372036854775808,16777217,33554433,1]]}',
}

SLOW = {
    "nothing": "",
    "space": " ",
    "null": "null",
    "number": "5",
    "text": '"inputs"',
    "list": "[[1,2,3,4,5]]",
    "empty object": "{}",
    "ragged batch": json.dumps({"inputs": batch(1, 4, 2, width=5)}),
    "too large": '{"inputs":[[1,2,3,4,1e400]]}',
    "too large for float32": '{"inputs":[[1,2,3,4,1e39]]}',
    "just too large for float32": '{"inputs":[[1,2,3,4,3.4028236e38]]}',
    "more digits than a whole number has": '{"inputs":[[1,2,3,4,123456789012345678901234567890]]}',
    "huge whole number": f'{{"inputs":[[1,2,3,4,{"9" * 400}]]}}',
    "huge whole number beside NaN": f'{{"inputs":[[1,2,3,NaN,{"9" * 400}]]}}',
    "zero in front": '{"inputs":[[1,2,3,4,01]]}',
    "two zeros": '{"inputs":[[1,2,3,4,00]]}',
    "plus": '{"inputs":[[1,2,3,4,+1]]}',
    "dot in front": '{"inputs":[[1,2,3,4,.5]]}',
    "dot behind": '{"inputs":[[1,2,3,4,1.]]}',
    "sixteenth": '{"inputs":[[1,2,3,4,0x1]]}',
    "lone minus": '{"inputs":[[1,2,3,4,-]]}',
    "two signs": '{"inputs":[[1,2,3,4,--1]]}',
    "lone exponent": '{"inputs":[[1,2,3,4,e5]]}',
    "half an exponent": '{"inputs":[[1,2,3,4,1e]]}',
    "difference": '{"inputs":[[1,2,3,4,1-1]]}',
    "two dots": '{"inputs":[[1,2,3,4,1.2.3]]}',
    "NaN": '{"inputs":[[1,2,3,4,NaN]]}',
    "Infinity": '{"inputs":[[1,2,3,4,-Infinity]]}',
    "nan": '{"inputs":[[1,2,3,4,nan]]}',
    "null in a step": '{"inputs":[[1,2,3,4,null]]}',
    "truth": '{"inputs":[[1,2,3,4,true]]}',
    "text in a step": '{"inputs":[[1,2,3,4,"5"]]}',
    "object in a step": '{"inputs":[[1,2,3,4,{}]]}',
    "many wrong": '{"inputs":[[null,true,"x",{},[]],[NaN,1,2,3,4],["a","b","c","d","e"]]}',
    "no comma": '{"inputs":[[1,2,3,4 5]]}',
    "comma twice and one missing": '{"inputs":[[1,2,,3 4,5]]}',
    "comma at the end": '{"inputs":[[1,2,3,4,5,]]}',
    "only commas": '{"inputs":[[,,,,]]}',
    "number behind a row": '{"inputs":[[1,2,3,4,5]6]}',
    "number before a row": '{"inputs":[6[1,2,3,4,5]]}',
    "number that moved out of its row": '{"inputs":[[1,2,3,4,]5]}',
    "number before the body": '1{"inputs":[[1,2,3,4,5]]}',
    "number behind the body": '{"inputs":[[1,2,3,4,5]]}1',
    "number behind the field's name": '{"inputs"1:[[1,2,3,4,5]]}',
    "bracket too few": '{"inputs":[[1,2,3,4,5]}',
    "bracket too many": '{"inputs":[[1,2,3,4,5]]]}',
    "no end": '{"inputs":[[1,2,3,4,5]]',
    "no end of a number": '{"inputs":[[1,2,3,4,5',
    "no end of a text": '{"inputs',
    "brackets that do not fit": '{"inputs":[[1,2,3,4,5}]]',
    "something behind": GOOD + b"x",
    "two bodies": GOOD + GOOD,
    "two bodies in two lines": GOOD + b"\n" + GOOD,
    "byte order mark": b"\xef\xbb\xbf" + GOOD,
    "no UTF-8": b'{"inputs":[[1,2,3,4,5]],"\xff":1}',
    "no UTF-8 among the numbers": b'{"inputs":[[1,2,3,4,\xff5]]}',
    "zero byte": GOOD.replace(b"5", b"5\x00"),
    "space that JSON has not": GOOD.replace(b"5", b"5\x0b"),
    "UTF-16": GOOD.decode().encode("utf-16-le"),
    "another field": '{"inputs":[[1,2,3,4,5]],"outputs":["output","final_state"]}',
    "another field that says nothing": '{"inputs":[[1,2,3,4,5]],"horizon":null}',
    "another field before": '{"layout":"batch_time_feature","inputs":[[[1,2,3,4,5]]]}',
    "unknown field": '{"inputs":[[1,2,3,4,5]],"input":1}',
    "unknown field like none": '{"inputs":[[1,2,3,4,5]],"zzz":1}',
    "many unknown fields": f'{{"inputs":[[1,2,3,4,5]],{",".join(f"{chr(34)}f{i}{chr(34)}:1" for i in range(12))}}}',
    "field with a long name": f'{{"{"x" * 300}":1}}',
    "field without a name": '{"":1}',
    "another name": '{"input":[[1,2,3,4,5]]}',
    "name in capitals": '{"INPUTS":[[1,2,3,4,5]]}',
    "number in the name": '{"inputs1":[[1,2,3,4,5]]}',
    "space in the name": '{"in puts":[[1,2,3,4,5]]}',
    "e in the name": '{"inputse":[[1,2,3,4,5]]}',
    "sign before the name": '{"-inputs":[[1,2,3,4,5]]}',
    "name that is escaped": r'{"\u0069nputs":[[1,2,3,4,5]]}',
    "half a surrogate": r'{"text":"\ud800"}',
    "half a surrogate beside NaN": r'{"text":"\ud800","x":NaN}',
    "same field twice": '{"inputs":[[1,2,3,4,5]],"inputs":[[1,2,3,4,6]]}',
    "single quotes": "{'inputs':[[1,2,3,4,5]]}",
    "no quotes": "{inputs:[[1,2,3,4,5]]}",
    "comment": '{"inputs":[[1,2,3,4,5]]/* all */}',
    "form": "inputs=1&b=2",
    "too few features": '{"inputs":[[1,2,3,4]]}',
    "too many features": '{"inputs":[[1,2,3,4,5,6]]}',
    "too few features once": '{"inputs":[[1,2,3,4,5],[1,2,3,4]]}',
    "too few features often": '{"inputs":[[1,2,3,4],[1,2,3],[1],[1,2,3,4,5],[],[1,2],[1,2],[1,2],[1,2],[1],[2],[3]]}',
    "feature moved to the next step": '{"inputs":[[1,2,3,4],[5,1,2,3,4,5]]}',
    "too flat": '{"inputs":[1,2,3,4,5]}',
    "number as inputs": '{"inputs":5}',
    "text as inputs": '{"inputs":"abc"}',
    "truth as inputs": '{"inputs":true}',
    "object as inputs": '{"inputs":{"a":[[1,2,3,4,5]]}}',
    "array within": '{"inputs":[[1,2,3,4,[5]]]}',
    "too deep": '{"inputs":[[[[1,2,3,4,5]]]]}',
    "much too deep": '{"inputs":' + "[" * 2000 + "]" * 2000 + "}",
    "deep elsewhere": '{"x":' + "[" * 500 + "]" * 500 + "}",
    "depths that differ": '{"inputs":[[1,2,3,4,5],[[1,2,3,4,5]]]}',
    "no sequences": '{"inputs":[]}',
    "no steps": '{"inputs":[[]]}',
    "no features": '{"inputs":[[[]]]}',
    "sequence without steps": '{"inputs":[[[1,2,3,4,5]],[]]}',
    "null as a sequence": '{"inputs":[[[1,2,3,4,5]],null]}',
    "null as a step": '{"inputs":[[1,2,3,4,5],null]}',
    "inputs that are null": '{"inputs":null}',
    "text for features": '{"text":"abc"}',
    "text beside inputs": '{"inputs":[[1,2,3,4,5]],"text":"abc"}',
}

STEP = [1.0, 2.0, 3.0, 4.0, 5.0]
ONE = {"inputs": [[STEP]]}
STATE = {"hidden_state": filled(2, 1, 6), "cell_state": filled(2, 1, 6, value=-0.5)}
TWO_STATES = {"hidden_state": filled(2, 2, 6), "cell_state": filled(2, 2, 6, value=-0.5)}

FIELDS = {
    "layout that is the default": ONE | {"layout": "batch_time_feature"},
    "time first": {"inputs": [[STEP, STEP], [STEP, STEP], [STEP, STEP]], "layout": "time_batch_feature"},
    "time first, one sequence": {"inputs": [STEP, STEP], "layout": "time_batch_feature"},
    "time first, ragged": {"inputs": [[STEP, STEP], [STEP]], "layout": "time_batch_feature"},
    "time first, wrong width": {"inputs": [[STEP, STEP], [STEP, STEP[:4]]], "layout": "time_batch_feature"},
    "unknown layout": ONE | {"layout": "time_major"},
    "layout that is no text": ONE | {"layout": 3},
    "wrong width far inside": {"inputs": [[STEP], [STEP], [STEP], [STEP] * 17 + [[1.0, 2.0]]]},
    "state": ONE | {"initial_state": STATE},
    "state that is null": ONE | {"initial_state": None},
    "state that is a list": ONE | {"initial_state": [1]},
    "state of two": {"inputs": [[STEP], [STEP, STEP]], "initial_state": TWO_STATES},
    "state of too few layers": ONE | {"initial_state": STATE | {"hidden_state": filled(1, 1, 6)}},
    "state of too many layers": ONE | {"initial_state": STATE | {"cell_state": filled(3, 1, 6)}},
    "state of the wrong width": ONE | {"initial_state": STATE | {"cell_state": [filled(1, 6), filled(1, 5)]}},
    "state of another batch": {"inputs": [[STEP], [STEP]], "initial_state": STATE},
    "state that is flat": ONE | {"initial_state": STATE | {"cell_state": [0.0] * 6}},
    "state with a text": ONE | {"initial_state": STATE | {"cell_state": [[["0"] * 6], filled(1, 6)]}},
    "half a state": ONE | {"initial_state": {"hidden_state": STATE["hidden_state"]}},
    "no part of a state": ONE | {"initial_state": {}},
    "state with an unknown part": ONE | {"initial_state": STATE | {"hiden_state": []}},
    "lengths": {"inputs": [[STEP] * 3, [STEP] * 3], "sequence_lengths": [3, 1]},
    "lengths that are all": {"inputs": [[STEP] * 2], "sequence_lengths": [2]},
    "length beyond the padding": ONE | {"sequence_lengths": [2]},
    "length of zero": ONE | {"sequence_lengths": [0]},
    "negative length": ONE | {"sequence_lengths": [-1]},
    "length as text": ONE | {"sequence_lengths": ["1"]},
    "length as a float": ONE | {"sequence_lengths": [1.0]},
    "length as truth": ONE | {"sequence_lengths": [True]},
    "no lengths": ONE | {"sequence_lengths": []},
    "lengths that are a number": ONE | {"sequence_lengths": 1},
    "too many lengths": ONE | {"sequence_lengths": [1, 1]},
    "lengths beside ragged inputs": {"inputs": [[STEP, STEP], [STEP]], "sequence_lengths": [2, 1]},
    "padding is not looked at": {"inputs": [[STEP, [9e9] * 5], [STEP, STEP]], "sequence_lengths": [1, 2]},
    "NaN in the padding": '{"inputs":[[[1,2,3,4,5],[NaN,0,0,0,0]]],"sequence_lengths":[1]}',
    "all outputs": ONE | {"outputs": ["output", "final_state"]},
    "outputs in another order": ONE | {"outputs": ["final_state", "output"]},
    "one output": ONE | {"outputs": ["final_state"]},
    "same output twice": ONE | {"outputs": ["output", "output"]},
    "unknown output": ONE | {"outputs": ["logits"]},
    "no outputs": ONE | {"outputs": []},
    "too many outputs": ONE | {"outputs": ["output"] * 4},
    "outputs that are a text": ONE | {"outputs": "output"},
    "output that is null": ONE | {"outputs": [None]},
    "prediction without a head": ONE | {"outputs": ["prediction"]},
    "horizon without a head": ONE | {"horizon": 3},
    "horizon of zero": ONE | {"horizon": 0},
    "horizon that is a text": ONE | {"horizon": "3"},
    "horizon that is a float": ONE | {"horizon": 2.5},
    "horizon that is huge": f'{{"inputs":[{ROW}],"horizon":{"9" * 40}}}',
    "future without a horizon": ONE | {"future_inputs": [STEP]},
    "module": ONE | {"module": "lstm"},
    "unknown module": ONE | {"module": "lstn"},
    "module that is a number": ONE | {"module": 1},
    "fields of a trace": ONE | {"signals": ["forget_gate"]},
    "fields of a session": ONE | {"step_number": 0},
    "two things wrong": {"inputs": [[1, 2]], "layout": "x", "horizon": 0, "outputs": []},
}

HEADERS = {
    "accept all": [("Accept", "*/*")],
    "accept JSON": [("Accept", "application/json")],
    "accept safetensors": [("Accept", SAFETENSORS)],
    "accept any application": [("Accept", "application/*")],
    "accept nothing said": [("Accept", "")],
    "accept weights": [("Accept", f"application/json;q=0.5, {SAFETENSORS};q=0.9")],
    "accept weights turned": [("Accept", f"{SAFETENSORS};q=0.1, application/json;q=0.2")],
    "accept weight of zero": [("Accept", f"application/json;q=0, {SAFETENSORS}")],
    "accept only what is ruled out": [("Accept", "application/json;q=0")],
    "accept half a weight": [("Accept", "application/json;q=x, */*")],
    "accept with spaces": [("Accept", " application/json ; q=0.9 , text/html ")],
    "accept in capitals": [("Accept", "APPLICATION/JSON")],
    "accept with a charset": [("Accept", "application/json; charset=utf-8")],
    "accept html": [("Accept", "text/html")],
    "accept html and all": [("Accept", "text/html, */*;q=0.1")],
    "accept npz": [("Accept", "application/x-npz")],
    "accept lines": [("Accept", "application/x-ndjson")],
    "accept twice": [("Accept", "text/html"), ("Accept", "application/json")],
    "accept encoding": [("Accept-Encoding", "gzip, deflate, br")],
    "request id": [("X-Request-ID", "mine-1")],
    "request id that is none": [("X-Request-ID", 'a"} b')],
    "request id too long": [("X-Request-ID", "x" * 129)],
    "request id empty": [("X-Request-ID", "")],
    "request id twice": [("X-Request-ID", "one"), ("X-Request-ID", "two")],
    "deadline": [("X-Request-Timeout-Ms", "20000")],
    "deadline beyond all": [("X-Request-Timeout-Ms", "999999999999999")],
    "deadline of too many digits": [("X-Request-Timeout-Ms", "9" * 16)],
    "deadline of nothing": [("X-Request-Timeout-Ms", "0")],
    "negative deadline": [("X-Request-Timeout-Ms", "-5")],
    "deadline as a float": [("X-Request-Timeout-Ms", "1000.0")],
    "deadline as a text": [("X-Request-Timeout-Ms", "soon")],
    "deadline with spaces": [("X-Request-Timeout-Ms", "  20000  ")],
    "empty deadline": [("X-Request-Timeout-Ms", "")],
    "deadline twice": [("X-Request-Timeout-Ms", "20000"), ("X-Request-Timeout-Ms", "x")],
    "gzip": [("Content-Encoding", "gzip")],
    "identity": [("Content-Encoding", "identity")],
    "identity in capitals": [("Content-Encoding", " Identity ")],
    "no encoding": [("Content-Encoding", "")],
    "origin": [("Origin", "https://a.example")],
    "own origin": [("Origin", "http://localhost:8000")],
    "others": [("User-Agent", "curl/8"), ("Cookie", "a=b"), ("Range", "bytes=0-1"), ("If-None-Match", "x")],
    "cookie twice": [("Cookie", "a=b"), ("Cookie", "c=d")],
    "keep alive": [("Connection", "keep-alive")],
    "forwarded": [("X-Forwarded-For", "1.2.3.4"), ("X-Forwarded-Proto", "https"), ("Forwarded", "for=1.2.3.4")],
    "key that nobody needs": [("Authorization", "Bearer x"), ("X-API-Key", "y")],
    "method override": [("X-HTTP-Method-Override", "DELETE")],
    "content length of v2": [("Inference-Header-Content-Length", "0")],
    "obscure letters": [("X-Other", "caf\xe9 \xfc")],
    "preference": [("Prefer", "respond-async")],
}

CONTENT_TYPES = (
    "application/json; charset=utf-8",
    "application/json;charset=latin-1",
    "Application/JSON",
    " application/json ",
    "application/problem+json",
    "application/vnd.api+json",
    "application/jsonx",
    "text/json",
    "text/plain",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x",
    "application/octet-stream",
    "application/vnd.safetensors",
    "application/vnd.safetensors; x=1",
    "text/csv",
    "*/*",
    "json",
    "",
)


def conversations() -> Iterator[Conversation]:
    """All of them."""
    yield _bodies()
    yield _single()
    yield _fields()
    yield _headers()
    yield _numbers()
    yield from _kinds()
    yield _tokens()
    yield _horizons()
    yield _versions()


def _bodies() -> Conversation:
    talk = Talk("plain", "predict/bodies")
    for name, body in (QUICK | SLOW).items():
        talk.hot(name, PREDICT, body)
    return talk.done()


def _single() -> Conversation:
    talk = Talk("plain", "predict/narrow bodies")
    for name, body in SLOW.items():
        content = body if isinstance(body, bytes) else body.encode()
        narrow = content.replace(b"1,2,3,4,", b"").replace(b"1,2,3,4", b"")
        if narrow != content:
            talk.post(name, "/v1/models/single/predict", narrow, times=2)
    good = '{"inputs":[[[1],[2]],[[3],[4]]]}'
    for broken in ("[[[1],[]],[[2],[3]]]", "[[[1],[2]],[[3],]]", "[[[1],[]2],[[3],[4]]]", "[[[1 2],[]],[[3],[4]]]"):
        talk.hot("good", "/v1/models/single/predict", good)
        talk.hot(f"broken {broken}", "/v1/models/single/predict", f'{{"inputs":{broken}}}')
    return talk.done()


def _fields() -> Conversation:
    talk = Talk("plain", "predict/fields")
    for name, body in FIELDS.items():
        talk.post(name, PREDICT, body, times=2)
    return talk.done()


def _headers() -> Conversation:
    talk = Talk("plain", "predict/headers")
    for name, headers in HEADERS.items():
        talk.post(name, PREDICT, GOOD, *headers, times=2)
        talk.post(f"{name}, of an error", PREDICT, '{"inputs":[[1,2,3]]}', *headers)
    for content_type in CONTENT_TYPES:
        talk.post(f"as {content_type}", PREDICT, GOOD, content_type=content_type, times=2)
    talk.post("as nothing", PREDICT, GOOD, content_type=None, times=2)
    talk.post("as two", PREDICT, GOOD, ("Content-Type", JSON), times=2)
    talk.post("without a body", PREDICT)
    talk.post("without a body, but a type", PREDICT, None, ("Content-Type", JSON))
    return talk.done()


def _numbers() -> Conversation:
    """The same shapes over and over, with other numbers, on one connection."""
    talk = Talk("plain", "predict/numbers")
    for turn in range(12):
        talk.post("numbers", PREDICT, {"inputs": rows(2, 5, turn)})
    for turn in range(12):
        length = turn % 4 + 1
        talk.post(f"batches of {length}", PREDICT, {"inputs": batch(length, length, width=5, seed=turn)})
    for name, body in (("broken", '{"inputs":[[1,2,3,4,01]]}'), ("narrow", '{"inputs":[[1,2]]}'), ("good", GOOD)):
        talk.post(f"in between, {name}", PREDICT, body)
        talk.post("after that", PREDICT, {"inputs": rows(2, 5, 50)})
    return talk.done()


def _kinds() -> Iterator[Conversation]:
    """Models of features, JSON and safetensors in and out."""
    widths = {"tiny": 3, "both-ways": 3, "verdict": 2, "final": 2, "peak": 2, "marks": 2, "single": 1, "unbiased": 2}
    for model, width in widths.items():
        talk = Talk("plain", f"predict/of {model}")
        path = f"/v1/models/{model}/predict"
        bodies = {"lone": rows(3, width), "batch": batch(2, 2, width=width), "ragged": batch(2, 4, 1, width=width)}
        for name, inputs in bodies.items():
            talk.hot(name, path, {"inputs": inputs})
        talk.post("lone, other numbers", path, {"inputs": rows(3, width, 5)})
        talk.post("all outputs", path, {"inputs": bodies["ragged"], "outputs": ["output", "final_state"]})
        with_prediction = ["prediction", "output", "final_state"]
        talk.post("prediction and all outputs", path, {"inputs": bodies["lone"], "outputs": with_prediction})
        talk.post("in safetensors", path, {"inputs": bodies["ragged"]}, ("Accept", SAFETENSORS), times=2)
        array = {"inputs": np.array(bodies["batch"], dtype=np.float32)}
        talk.hot("from safetensors", path, tensors(array), content_type=SAFETENSORS)
        asked = tensors(array, {"outputs": '["output","final_state"]'})
        talk.post("there and back", path, asked, ("Accept", SAFETENSORS), content_type=SAFETENSORS, times=2)
        talk.post("wrong width", path, {"inputs": rows(2, width + 1)}, times=2)
        talk.post("horizon", path, {"inputs": bodies["lone"], "horizon": 2})
        yield talk.done()


def _tokens() -> Conversation:
    talk = Talk("plain", "predict/tokens")
    for model in ("letters", "mood", "ids"):
        path = f"/v1/models/{model}/predict"
        word = {"letters": "abc a", "mood": "sun is here .", "ids": "0"}[model]
        bodies = {
            "ids": {"inputs": [[0, 1, 2]]},
            "lone": {"inputs": [0, 1, 2]},
            "ragged": {"inputs": [[0, 1, 2], [3]]},
            "padded": {"inputs": [[0, 1, 2], [3, 0, 0]], "sequence_lengths": [3, 1]},
            "time first": {"inputs": [[0, 1], [2, 3], [1, 1]], "layout": "time_batch_feature"},
            "text": {"text": word},
            "texts": {"text": [word, word[:1]]},
            "no text": {"text": ""},
            "no texts": {"text": []},
            "text of spaces": {"text": "  "},
            "unknown token": {"text": "zebra"},
            "unknown token in a list": {"text": [word, "abz"]},
            "text that is a number": {"text": 5},
            "text with a null": {"text": [word, None]},
            "letters of others": {"text": "日本"},
            "text beside inputs": {"text": word, "inputs": [[0]]},
            "text with lengths": {"text": [word], "sequence_lengths": [1]},
            "id too large": {"inputs": [[0, 9]]},
            "id negative": {"inputs": [[0, -1]]},
            "id huge": {"inputs": [[0, 10**30]]},
            "id as a float": {"inputs": [[0, 1.5]]},
            "id as a whole float": {"inputs": [[0, 1.0]]},
            "id as truth": {"inputs": [[True, 1]]},
            "id as text": {"inputs": [["a"]]},
            "id null": {"inputs": [[None]]},
            "too deep": {"inputs": [[[0]]]},
            "too flat": {"inputs": 0},
            "no ids": {"inputs": [[]]},
            "nothing": {},
            "outputs": {"inputs": [[0, 1]], "outputs": ["prediction", "output", "final_state"]},
            "horizon": {"inputs": [[0, 1], [2]], "horizon": 3},
            "horizon of a text": {"text": [word, word], "horizon": 2, "outputs": ["output"]},
            "future": {"inputs": [[0, 1]], "horizon": 1, "future_inputs": [[1]]},
        }
        for name, body in bodies.items():
            talk.post(f"{model} {name}", path, body, times=2)
        array = {"inputs": np.array([[0, 1, 2]])}
        talk.post(f"{model} tensor", path, tensors(array), content_type=SAFETENSORS, times=2)
        floats = {"inputs": np.array([[0.0, 1.0]], dtype=np.float32)}
        talk.post(f"{model} tensor of floats", path, tensors(floats), content_type=SAFETENSORS)
        both = [("Accept", SAFETENSORS)]
        talk.post(f"{model} in safetensors", path, {"inputs": [[0, 1, 2], [1]]}, *both)
        texts = tensors({}, {"text": json.dumps([word])})
        talk.post(f"{model} text in metadata", path, texts, *both, content_type=SAFETENSORS)
    for body in ({"text": "ab", "horizon": 6}, {"text": ["ab", "c"], "horizon": 3}):
        talk.post("drawn", "/v1/models/drawn/predict", body, times=2)
    return talk.done()


def _horizons() -> Conversation:
    talk = Talk("plain", "predict/horizons")
    path, good = "/v1/models/forecaster/predict", levels(4)
    bodies = {
        "no horizon": {"inputs": good},
        "batch": {"inputs": [good, levels(4, 1)]},
        "with the future": {"inputs": good, "horizon": 2, "future_inputs": [[None, 4.0], [None, 5.0]]},
        "without the future": {"inputs": good, "horizon": 2},
        "value given": {"inputs": good, "horizon": 2, "future_inputs": [[9.5, 4.0], [None, 5.0]]},
        "batched future": {"inputs": [good], "horizon": 1, "future_inputs": [[[None, 4.0]]]},
        "two futures": {"inputs": [good, good[:2]], "horizon": 1, "future_inputs": [[[None, 4.0]], [[None, 2.0]]]},
        "lone future for two": {"inputs": [good, good], "horizon": 1, "future_inputs": [[None, 4.0]]},
        "future too short": {"inputs": good, "horizon": 3, "future_inputs": [[None, 4.0]]},
        "future too narrow": {"inputs": good, "horizon": 1, "future_inputs": [[None]]},
        "future with a null": {"inputs": good, "horizon": 1, "future_inputs": [[None, None]]},
        "future with NaN": '{"inputs":[[10,0]],"horizon":1,"future_inputs":[[NaN,3]]}',
        "future that is a text": {"inputs": good, "horizon": 1, "future_inputs": "x"},
        "future of other counts": {"inputs": [good], "horizon": 1, "future_inputs": filled(2, 1, 2)},
        "outputs": {
            "inputs": good,
            "horizon": 1,
            "future_inputs": [[None, 4.0]],
            "outputs": ["prediction", "output", "final_state"],
        },
        "outputs alone": {"inputs": good, "horizon": 1, "future_inputs": [[None, 4.0]], "outputs": ["output"]},
        "too long a horizon": {"inputs": good, "horizon": 100_000},
    }
    for name, body in bodies.items():
        talk.post(name, path, body, times=2)
    river = "/v1/models/river/predict"
    bodies = {
        "categories": {"inputs": [[1.0, 7], [2.0, 9]]},
        "no category": {"inputs": [[1.0, 7], [2.0, 8]]},
        "no category in a batch": {"inputs": [[[1, 7]], [[1, 7], [1, 9], [1, 8]]]},
        "no category, time first": {"inputs": [[[1, 7], [1, 7]], [[1, 8], [1, 7]]], "layout": "time_batch_feature"},
        "half a category": {"inputs": [[1, 7.5]]},
        "known ahead": {"inputs": [[1.0, 7], [2.0, 9]], "horizon": 2, "future_inputs": [[3.0, 7], [0.0, 9]]},
        "not known ahead": {"inputs": [[1.0, 7]], "horizon": 2},
        "null ahead": {"inputs": [[1.0, 7]], "horizon": 2, "future_inputs": [[1.0, 7], [1.0, None]]},
        "no category ahead": {"inputs": [[1.0, 7]], "horizon": 2, "future_inputs": [[1.0, 7], [1.0, 8]]},
    }
    for name, body in bodies.items():
        talk.post(f"river {name}", river, body, times=2)
    future = {"inputs": np.array(good, dtype=np.float32), "future_inputs": np.array([[np.nan, 4.0]], dtype=np.float32)}
    talk.post("from safetensors", path, tensors(future, {"horizon": "1"}), content_type=SAFETENSORS, times=2)
    return talk.done()


def _versions() -> Conversation:
    talk = Talk("plain", "predict/versions")
    body = {"inputs": rows(2, 3)}
    for model in ("several", "pinned", "partly", "tiny"):
        talk.hot(f"{model}", f"/v1/models/{model}/predict", body)
        for version in ("1", "2", "10", "3", "latest", "1.0", "%31"):
            talk.post(f"{model} {version}", f"/v1/models/{model}/versions/{version}/predict", body, times=2)
    return talk.done()
