"""`/v2/models/{name}/infer`: tensors in JSON and in binary, compressed or not, and what is wrong with them."""

import gzip
import json
import zlib
from collections.abc import Iterator, Sequence

import numpy as np
from conversation import SLOWLY, Conversation, Talk
from sequences import rows

INFER = "/v2/models/founding/infer"
BINARY = "application/octet-stream"
LENGTH = "Inference-Header-Content-Length"

BODY = '{"inputs":[{"name":"inputs","shape":[1,1,5],"datatype":"FP32","data":%s}]}'
DATA = (
    "[1,2,3,4,5]",
    "[ 1.0, 2e0 ,-0,\n0.5,1e-3 ]",
    "[[1,2,3,4,5]]",
    "[[[1,2,3,4,5]]]",
    "[[1,2],[3,4,5]]",
    "[[1,2,3],4,5]",
    "[1,2,3,4]",
    "[1,2,3,4,5,6]",
    "[]",
    "[1,2,3,4,01]",
    "[1,2,,3 4,5]",
    "[1,2,3,4,1e39]",
    "[1,2,3,4,1e400]",
    "[1,2,3,4,NaN]",
    "[1,2,3,4,null]",
    "[1,2,3,4,true]",
    '[1,2,3,4,"5"]',
    "[1,2,3,4,5",
    "[1,2,3,4,5]]",
    "null",
    "5",
    '"AAAA"',
    "{}",
    '[1,2,3,4,5],"data":[5,4,3,2,1]',
    '[1,2,3,4,5],"parameters":{"data":[5,4,3,2,1]}',
)
MESSAGES = (
    '{"inputs":[{"data":[1,2,3,4,5],"name":"inputs","shape":[1,1,5],"datatype":"FP32"}]}',
    '{"inputs":[{"name":"inputs","shape":[1,1,5],"datatype":"FP64","data":[1,2,3,4,5]}]}',
    '{"inputs":[{"name":"inputs","shape":[1,1,5],"datatype":"INT32","data":[1,2,3,4,5]}]}',
    '{"inputs":[{"name":"inputs","shape":[1,1,5],"datatype":"INT8","data":[1,2,3,4,300]}]}',
    '{"inputs":[{"name":"inputs","shape":[1,1,5],"datatype":"UINT8","data":[1,2,3,4,-5]}]}',
    '{"inputs":[{"name":"inputs","shape":[1,1,5],"datatype":"BF16","data":[1,2,3,4,5]}]}',
    '{"inputs":[{"name":"inputs","shape":[1,1,5],"datatype":"BYTES","data":[1,2,3,4,5]}]}',
    '{"inputs":[{"name":"inputs","shape":[1,1,5],"datatype":"fp32","data":[1,2,3,4,5]}]}',
    '{"inputs":[{"name":"inputs","shape":[1,1,4],"datatype":"FP32","data":[1,2,3,4]}]}',
    '{"inputs":[{"name":"inputs","shape":[-1,1,5],"datatype":"FP32","data":[1,2,3,4,5]}]}',
    '{"inputs":[{"name":"inputs","shape":[1,2,5],"datatype":"FP32","data":[1,2,3,4,5]}]}',
    '{"inputs":[{"name":"inputs","shape":[5,1],"datatype":"FP32","data":[1,2,3,4,5]}]}',
    '{"inputs":[{"name":"inputs","shape":[1,1,5,1,1,1,1,1,1],"datatype":"FP32","data":[1,2,3,4,5]}]}',
    '{"inputs":[{"name":"inputs","shape":[1,0,5],"datatype":"FP32","data":[]}]}',
    '{"inputs":[{"name":"inputs","shape":[0,1,5],"datatype":"FP32","data":[]}]}',
    '{"inputs":[{"name":"inputs","shape":["1",1,5],"datatype":"FP32","data":[1,2,3,4,5]}]}',
    '{"inputs":[{"name":"inputs","shape":5,"datatype":"FP32","data":[1,2,3,4,5]}]}',
    '{"inputs":[{"name":"input","shape":[1,1,5],"datatype":"FP32","data":[1,2,3,4,5]}]}',
    '{"inputs":[{"name":"text","shape":[1],"datatype":"BYTES","data":["abc"]}]}',
    '{"inputs":[{"name":7,"shape":[1,1,5],"datatype":"FP32","data":[1,2,3,4,5]}]}',
    '{"inputs":[{"shape":[1,1,5],"datatype":"FP32","data":[1,2,3,4,5]}]}',
    '{"inputs":[{"name":"inputs","datatype":"FP32","data":[1,2,3,4,5]}]}',
    '{"inputs":[{"name":"inputs","shape":[1,1,5],"data":[1,2,3,4,5]}]}',
    '{"id":"a","inputs":[{"name":"inputs","shape":[1,1,5],"datatype":"FP32","data":[1,2,3,4,5]}]}',
    '{"id":"","inputs":[{"name":"inputs","shape":[1,1,5],"datatype":"FP32","data":[1,2,3,4,5]}]}',
    '{"id":3,"inputs":[{"name":"inputs","shape":[1,1,5],"datatype":"FP32","data":[1,2,3,4,5]}]}',
    '{"inputs":[{"name":"inputs","shape":[1,1,5],"datatype":"FP32","data":[1,2,3,4,5]}],"outputs":[]}',
    '{"inputs":[{"name":"inputs","shape":[1,1,5],"datatype":"FP32","data":[1,2,3,4,5]}],"outputs":null}',
    '{"inputs":[{"name":"inputs","shape":[1,1,5],"datatype":"FP32","data":[1,2,3,4,5]}],"other":[1]}',
    '{"inputs":[{"name":"inputs","shape":[1,1,5],"datatype":"FP32","other":1,"data":[1,2,3,4,5]}]}',
    '{"inputs":[{"name":"inputs","shape":[1,1,5],"datatype":"FP32"}]}',
    '{"inputs":[],"data":[1,2,3,4,5]}',
    '{"inputs":{}}',
    '{"inputs":[1]}',
    '{"inputs":null}',
    '{"data":[1,2,3,4,5]}',
    '"data":[1]',
    "{}",
    "[]",
    "null",
    "{",
    "",
    " ",
    "\ufeff{}",
)


def _tensor(**changed) -> dict:
    return {"name": "inputs", "shape": [1, 1, 5], "datatype": "FP32", "data": [1, 2, 3, 4, 5]} | changed


def _one(**more) -> dict:
    return {"inputs": [_tensor()]} | more


def _wanted(*names: str, **parameters) -> list[dict]:
    return [{"name": name} | ({"parameters": parameters} if parameters else {}) for name in names]


STATES = [_tensor(name=f"initial_{part}", shape=[1, 2, 6], data=[0.25] * 12) for part in ("hidden_state", "cell_state")]
FIELDS = {
    "output in binary": _one(outputs=_wanted("output", binary_data=True)),
    "output in JSON": _one(outputs=_wanted("output", binary_data=False)),
    "all outputs": _one(outputs=_wanted("final_cell_state", "output", "final_hidden_state")),
    "all signals": _one(
        outputs=_wanted("input_gate", "forget_gate", "cell_candidate", "output_gate", "cell_state", "hidden_state")
    ),
    "a signal in binary": _one(outputs=_wanted("forget_gate", binary_data=True)),
    "mixed": _one(outputs=_wanted("output", binary_data=True) + _wanted("cell_state") + _wanted("final_cell_state")),
    "all in binary": _one(parameters={"binary_data_output": True}),
    "all in binary but one": _one(
        parameters={"binary_data_output": True}, outputs=_wanted("output", binary_data=False) + _wanted("cell_state")
    ),
    "unknown output": _one(outputs=_wanted("outputs")),
    "output like none": _one(outputs=_wanted("zzz")),
    "prediction without a head": _one(outputs=_wanted("prediction")),
    "same output twice": _one(outputs=_wanted("output", "output")),
    "output without a name": _one(outputs=[{}]),
    "output that is a text": _one(outputs=["output"]),
    "too many outputs": _one(outputs=_wanted(*["output"] * 33)),
    "shared memory": _one(outputs=_wanted("output", shared_memory_region="x")),
    "shared memory in": {"inputs": [_tensor(parameters={"shared_memory_region": "x"})]},
    "classification": _one(outputs=_wanted("output", classification=2)),
    "binary that is a number": _one(outputs=_wanted("output", binary_data=1)),
    "states": {"inputs": [_tensor(), *STATES]},
    "half a state": {"inputs": [_tensor(), STATES[0]]},
    "narrow state": {"inputs": [_tensor(), STATES[0], STATES[1] | {"shape": [1, 2, 5], "data": [0] * 10}]},
    "state of two": {"inputs": [_tensor(), STATES[0], STATES[1] | {"shape": [2, 2, 6], "data": [0] * 24}]},
    "state with NaN": json.dumps({"inputs": [_tensor(), STATES[0], STATES[1] | {"data": [float("nan")] * 12}]}),
    "lengths": {
        "inputs": [
            _tensor(shape=[2, 2, 5], data=[0.5] * 20),
            _tensor(name="sequence_lengths", shape=[2], datatype="INT64", data=[2, 1]),
        ],
        "outputs": _wanted("output", "hidden_state"),
    },
    "lengths in binary out": {
        "inputs": [
            _tensor(shape=[2, 2, 5], data=[0.5] * 20),
            _tensor(name="sequence_lengths", shape=[2], datatype="INT32", data=[2, 1]),
        ],
        "outputs": _wanted("output", "hidden_state", binary_data=True),
    },
    "lengths as floats": {
        "inputs": [_tensor(), _tensor(name="sequence_lengths", shape=[1], datatype="FP32", data=[1])]
    },
    "too long a length": {
        "inputs": [_tensor(), _tensor(name="sequence_lengths", shape=[1], datatype="INT64", data=[2])]
    },
    "given twice": {"inputs": [_tensor(), _tensor()]},
    "too many inputs": {"inputs": [_tensor()] * 33},
    "data and binary": {"inputs": [_tensor(parameters={"binary_data_size": 0})]},
    "binary that is not there": {"inputs": [_tensor(data=None, parameters={"binary_data_size": 20})]},
    "negative binary": {"inputs": [_tensor(data=None, parameters={"binary_data_size": -1})]},
    "priority": _one(parameters={"priority": 1}),
    "negative priority": _one(parameters={"priority": -1}),
    "timeout": _one(parameters={"timeout": 20_000_000}),
    "timeout as a text": _one(parameters={"timeout": "1"}),
    "parameters of others": _one(parameters={"mine": {"deep": []}}),
    "parameters that are a list": _one(parameters=[]),
    "sequence of none": _one(parameters={"sequence_id": 0}),
}
HEAD = {"inputs": [{"name": "inputs", "shape": [1, 3, 5], "datatype": "FP32", "parameters": {"binary_data_size": 60}}]}


def conversations() -> Iterator[Conversation]:
    """All of them."""
    yield _json()
    yield _fields()
    yield _binary()
    yield _models()
    yield _compressed()
    yield _statistics()


def _json() -> Conversation:
    talk = Talk("plain", "infer/json")
    for data in DATA:
        talk.post("known", INFER, BODY % "[5,4,3,2,1]")
        talk.hot(f"data {data}", INFER, BODY % data)
    for body in MESSAGES:
        talk.post(f"message {body}", INFER, body, times=2)
        if "[1,2,3,4,5]" in body:
            talk.post(f"message {body}, other numbers", INFER, body.replace("[1,2,3,4,5]", "[5,4,3,2,1]"))
    return talk.done()


def _fields() -> Conversation:
    talk = Talk("plain", "infer/fields")
    for name, body in FIELDS.items():
        talk.post(name, INFER, body, times=2)
    good = BODY % "[1,2,3,4,5]"
    for content_type in (None, "text/plain", BINARY, "application/json; charset=utf-8", "", "multipart/form-data"):
        talk.post(f"as {content_type}", INFER, good, content_type=content_type, times=2)
    for name, value in (
        ("Accept", "text/html"),
        ("Accept", "application/octet-stream"),
        ("X-Request-ID", "mine"),
        ("X-Request-Timeout-Ms", "x"),
        ("X-Request-Timeout-Ms", "20000"),
        ("Expect", "100-continue"),
        ("Origin", "https://a.example"),
    ):
        talk.post(f"{name}: {value}", INFER, good, (name, value), times=2)
    talk.post("without a body", INFER)
    return talk.done()


def _framed(
    talk: Talk, name: str, head: dict | str, numbers: bytes, *headers: tuple[str, str], path: str = INFER, **more
) -> None:
    told = (head if isinstance(head, str) else json.dumps(head)).encode()
    length = (LENGTH, str(more.pop("length", len(told))))
    talk.post(name, path, told + numbers, length, *headers, content_type=BINARY, **more)


def _floats(*values: float, dtype: str = "<f4") -> bytes:
    return np.array(values, dtype=dtype).tobytes()


def _binary() -> Conversation:
    talk = Talk("plain", "infer/binary")
    numbers, others = (np.linspace(-1, end, 15, dtype="<f4").tobytes() for end in (1, 2))
    for more in (
        {},
        {"parameters": {"binary_data_output": True}},
        {"parameters": {"binary_data_output": False}},
        {"id": "7"},
        {"outputs": _wanted("final_hidden_state") + _wanted("output", binary_data=True)},
        {"outputs": _wanted("forget_gate")},
        {"outputs": _wanted("forget_gate", binary_data=True)},
        {"outputs": _wanted("nothing")},
        {"parameters": {"sequence_id": 0}},
        {"parameters": {"timeout": 20_000_000}},
        {"unknown": 1},
    ):
        name = json.dumps(more)
        _framed(talk, name, HEAD | more, numbers, times=2)
        _framed(talk, f"{name}, other numbers", HEAD | more, others)
        _framed(talk, f"{name} slowly", HEAD | more, numbers, SLOWLY)
    for name, content in {
        "nothing": b"",
        "short": b"\0" * 59,
        "a number short": b"\0" * 56,
        "long": b"\0" * 64,
        "NaN": _floats(*[float("nan")] * 15),
        "Infinity": _floats(*[1.0] * 14, float("inf")),
        "large": _floats(*[3e37] * 15),
    }.items():
        _framed(talk, "good", HEAD, b"\0" * 60)
        _framed(talk, name, HEAD, content, times=2)
        _framed(talk, f"{name} slowly", HEAD, content, SLOWLY)
    for length in ("0", "-1", "5", "100000", "9" * 23, "x", "", " 7 ", "\xb2", "1.0", "00", "+5"):
        _framed(talk, f"length {length!r}", HEAD, b"\0" * 60, length=length, times=2)
    for datatype, dtype in (
        ("FP64", "<f8"),
        ("FP16", "<f2"),
        ("INT8", "<i1"),
        ("INT16", "<i2"),
        ("INT32", "<i4"),
        ("INT64", "<i8"),
        ("UINT8", "<u1"),
        ("UINT16", "<u2"),
        ("UINT64", "<u8"),
        ("BF16", "<u2"),
        ("BOOL", "<u1"),
        ("BYTES", "<u1"),
        ("FP8", "<u1"),
    ):
        content = np.arange(5).astype(dtype).tobytes()
        tensor = {"name": "inputs", "shape": [1, 1, 5], "datatype": datatype}
        head = {"inputs": [tensor | {"parameters": {"binary_data_size": len(content)}}]}
        _framed(talk, f"as {datatype}", head, content, times=2)
    _framed(talk, "JSON alone", BODY % "[1,2,3,4,5]", b"", times=2)
    two = HEAD["inputs"] + [
        {"name": name, "shape": [1, 2, 6], "datatype": "FP32", "parameters": {"binary_data_size": 48}}
        for name in ("initial_cell_state", "initial_hidden_state")
    ]
    _framed(talk, "states", {"inputs": two}, numbers + _floats(*[0.5] * 12) + _floats(*[-0.5] * 12), times=2)
    raw = (LENGTH, "0")
    contents = {
        "founding": [_floats(*np.linspace(-1, 1, 10)), bytes(19), b"", _floats(*[float("nan")] * 5)],
        "letters": [b"abc", b"", b"\xff", b"xyz", "é".encode()],
        "mood": [b"sun is here.", b"", b"\xff"],
        "ids": [np.array([1, 5, 0]).tobytes(), bytes(9), b"", np.array([9]).tobytes(), np.array([-1]).tobytes()],
        "forecaster": [_floats(10, 1, 11, 2)],
    }
    for model, each in contents.items():
        for content in each:
            name = f"raw {model} of {content[:8].hex()} {len(content)}"
            talk.post(name, f"/v2/models/{model}/infer", content, raw, content_type=BINARY, times=2)
    talk.post("raw without a type", INFER, contents["founding"][0], (LENGTH, "000"), content_type=None)
    return talk.done()


def _models() -> Conversation:
    talk = Talk("plain", "infer/models")

    def tensor(values: Sequence, datatype: str = "FP32") -> dict:
        array = np.array(values)
        return {"name": "inputs", "shape": list(array.shape), "datatype": datatype, "data": array.reshape(-1).tolist()}

    widths = {"tiny": 3, "both-ways": 3, "verdict": 2, "final": 2, "peak": 2, "marks": 2, "single": 1, "unbiased": 2}
    for model, width in widths.items():
        path = f"/v2/models/{model}/infer"
        body = {"inputs": [tensor([rows(2, width)])]}
        talk.hot(model, path, body)
        talk.post(f"{model}, other numbers", path, {"inputs": [tensor([rows(2, width, 4)])]})
        names = ("output", "cell_state", "hidden_state", "final_cell_state")
        talk.post(f"{model} outputs", path, body | {"outputs": _wanted(*names)}, times=2)
        talk.post(f"{model} in binary", path, body | {"outputs": _wanted(*names, binary_data=True)})
        talk.post(f"{model} versioned", f"/v2/models/{model}/versions/1/infer", body)
        talk.post(f"{model} wide", path, {"inputs": [tensor([rows(2, width + 1)])]})
    texts = {"name": "text", "shape": [2], "datatype": "BYTES", "data": ["abc", "b"]}
    for model, body in {
        "river": {"inputs": [tensor([[[1.0, 7.0], [2.0, 9.0]]])]},
        "letters": {"inputs": [texts]},
        "drawn": {"inputs": [tensor([[0, 1, 2]], "INT64")]},
        "mood": {"inputs": [texts | {"data": ["sun is here.", "rain"]}]},
        "ids": {"inputs": [tensor([[0, 1], [5, 2]], "INT32")]},
    }.items():
        path = f"/v2/models/{model}/infer"
        talk.post(model, path, body, times=2)
        talk.post(f"{model} a signal", path, body | {"outputs": _wanted("forget_gate", "prediction")})
    for name, each in {
        "no category": ("river", tensor([[[1.0, 8.0]]])),
        "id too large": ("ids", tensor([[6]], "INT64")),
        "id in UINT64": ("ids", tensor([[2**63 + 1]], "UINT64")),
        "id as a float": ("ids", tensor([[1.0]])),
        "unknown letter": ("letters", texts | {"data": ["abc", "z"]}),
        "text that is a number": ("letters", texts | {"data": ["abc", 3]}),
        "text as numbers": ("letters", texts | {"datatype": "FP32", "data": [1, 2]}),
        "text of ids": ("ids", texts),
        "no such model": ("nobody", texts),
        "model that is not there": ("contradicting", tensor([rows(1, 5)])),
        "model without weights": ("weightless", tensor([rows(1, 5)])),
    }.items():
        model, content = each
        talk.post(name, f"/v2/models/{model}/infer", {"inputs": [content]}, times=2)
    both = {"inputs": [texts, tensor([[0, 1], [2, 0]], "INT64")]}
    talk.post("text beside inputs", "/v2/models/letters/infer", both)
    packed = b"".join(len(text).to_bytes(4, "little") + text for text in (b"abc", b"b"))
    for name, content in {
        "texts": packed,
        "texts, short": packed[:-1],
        "texts, long": packed + b"\0",
        "no UTF-8": packed[:-1] + b"\xff",
        "half a length": packed[:6],
    }.items():
        head = {"inputs": [{**texts, "parameters": {"binary_data_size": len(content)}}]}
        del head["inputs"][0]["data"]
        _framed(talk, f"{name} in binary", head, content, path="/v2/models/letters/infer")
    for version in ("1", "2", "10", "3"):
        body = {"inputs": [tensor([rows(1, 3)])]}
        talk.post(f"several {version}", f"/v2/models/several/versions/{version}/infer", body, times=2)
        talk.post(f"pinned {version}", f"/v2/models/pinned/versions/{version}/infer", body)
    return talk.done()


def _compressed() -> Conversation:
    talk = Talk("plain", "infer/compressed")
    good = (BODY % "[1,2,3,4,5]").encode()
    packed = {"gzip": gzip.compress(good, mtime=0), "deflate": zlib.compress(good)}
    for coding, content in packed.items():
        header = ("Content-Encoding", coding)
        talk.post(coding, INFER, content, header, times=2, key=coding)
        talk.post(f"{coding} in capitals", INFER, content, ("Content-Encoding", coding.upper()), key=coding)
        talk.post(f"{coding}, short", INFER, content[:-3], header, key=f"{coding} short")
        talk.post(f"{coding}, long", INFER, content + b"x", header, key=f"{coding} long")
        talk.post(f"{coding}, nothing", INFER, b"", header)
        talk.post(f"{coding} twice", INFER, content, header, header, key=coding)
    talk.post("no gzip", INFER, good, ("Content-Encoding", "gzip"))
    talk.post("raw deflate", INFER, zlib.compress(good)[2:-4], ("Content-Encoding", "deflate"), key="raw deflate")
    for coding in ("br", "identity", "gzip, deflate", "", "x-gzip"):
        talk.post(f"as {coding}", INFER, good, ("Content-Encoding", coding))
    told = json.dumps(HEAD).encode()
    framed = gzip.compress(told + b"\0" * 60, mtime=0)
    headers = [(LENGTH, str(len(told))), ("Content-Encoding", "gzip")]
    talk.post("binary in gzip", INFER, framed, *headers, content_type=BINARY, key="binary in gzip")
    for accepted in (
        "gzip",
        "deflate",
        "gzip, deflate",
        "deflate, gzip;q=0.5",
        "br",
        "br, gzip",
        "identity",
        "identity, gzip",
        "gzip;q=0",
        "*",
        "",
        "GZIP",
        "gzip;q=x, deflate",
        "x-gzip",
    ):
        header = ("Accept-Encoding", accepted)
        talk.post(f"reply in {accepted}", INFER, good, header, times=2)
        _framed(
            talk, f"binary reply in {accepted}", HEAD | {"parameters": {"binary_data_output": True}}, b"\0" * 60, header
        )
        talk.post(f"error in {accepted}", INFER, BODY % "[1]", header)
    for path in (
        "/v2",
        "/v2/models/founding",
        "/v2/models/founding/config",
        "/v2/models/nobody",
        "/v1/models/founding",
    ):
        talk.get(f"{path} is never compressed", path, ("Accept-Encoding", "gzip, deflate, br"))
    return talk.done()


def _statistics() -> Conversation:
    talk = Talk("plain", "infer/statistics")
    talk.get("before", "/v2/models/counted/stats")
    tensor = {"name": "inputs", "shape": [2, 1, 3], "datatype": "FP32", "data": [1, 2, 3, 4, 5, 6]}
    talk.post("infer", "/v2/models/counted/infer", {"inputs": [tensor]}, times=2)
    talk.post("predict", "/v1/models/counted/predict", {"inputs": [[1, 2, 3]]})
    talk.post("refused", "/v1/models/counted/predict", {"inputs": [[1, 2]]})
    talk.get("after", "/v2/models/counted/stats")
    talk.get("after, versioned", "/v2/models/counted/versions/1/stats")
    for path in ("/v2/models/nobody/stats", "/v2/models/tiny/versions/9/stats", "/v2/models/contradicting/stats"):
        talk.get(path, path)
    return talk.done()
