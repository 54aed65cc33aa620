"""`Form`: a way to put a sequence into an HTTP request, and to read the prediction out of the reply."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx
import numpy as np
import orjson
from safetensors.numpy import load, save

JSON, SAFETENSORS = "application/json", "application/vnd.safetensors"
BINARY = "application/octet-stream"
_LENGTH = "Inference-Header-Content-Length"


@dataclass(frozen=True)
class Request:
    """A POST."""

    path: str
    content: bytes
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def raw(self) -> bytes:
        """All its bytes, as HTTP/1.1 sends them."""
        fields = {"Host": "127.0.0.1", "Content-Length": str(len(self.content))} | self.headers
        lines = (f"POST {self.path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", "")
        return "\r\n".join(lines).encode() + self.content


@dataclass(frozen=True)
class Form:
    """One server's, in one format.

    Args:
        path: of the route, with `{network}` where the network's name stands.
        encode: a sequence (time, feature) -> the body.
        decode: a reply -> the prediction's numbers.
        headers: of the request; `encode` may add some.
    """

    path: str
    encode: Callable[[np.ndarray], tuple[bytes, dict[str, str]]]
    decode: Callable[[httpx.Response], np.ndarray]
    headers: dict[str, str] = field(default_factory=dict)

    def request(self, network: str, inputs: np.ndarray) -> Request:
        """The request for this sequence (time, feature)."""
        content, headers = self.encode(inputs)
        return Request(self.path.format(network=network), content, self.headers | headers)


def to_json(value: object) -> bytes:
    """JSON with float32 as short as it reads back."""
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)


def _safetensors(inputs: np.ndarray) -> tuple[bytes, dict[str, str]]:
    return save({"inputs": inputs[None]}), {}


def _tensors(inputs: np.ndarray) -> tuple[bytes, dict[str, str]]:
    """As stock clients put a tensor behind the JSON that describes it."""
    tensor = {
        "name": "inputs",
        "shape": [1, *inputs.shape],
        "datatype": "FP32",
        "parameters": {"binary_data_size": inputs.nbytes},
    }
    text = to_json({"inputs": [tensor], "parameters": {"binary_data_output": True}})
    return text + inputs.tobytes(), {_LENGTH: str(len(text))}


def _first_tensor(reply: httpx.Response) -> np.ndarray:
    return np.frombuffer(reply.content[int(reply.headers[_LENGTH]) :], dtype=np.float32)


def _flat(inputs: np.ndarray) -> tuple[bytes, dict[str, str]]:
    tensor = {"name": "inputs", "shape": [1, *inputs.shape], "datatype": "FP32", "data": inputs.ravel()}
    return to_json({"inputs": [tensor]}), {}


def json_form(path: str, decode: Callable[[httpx.Response], np.ndarray]) -> Form:
    """`{"inputs": [time][feature]}`."""
    return Form(path, lambda inputs: (to_json({"inputs": inputs}), {}), decode, {"Content-Type": JSON})


def numbers(*path: str | int) -> Callable[[httpx.Response], np.ndarray]:
    """Reads the numbers at this path of a JSON reply."""

    def decode(reply: httpx.Response) -> np.ndarray:
        value = json.loads(reply.content)
        for part in path:
            value = value[part]
        return np.ravel(np.array(value, dtype=np.float32))

    return decode


PREDICT = json_form("/v1/models/{network}/predict", numbers("prediction", "values"))
PREDICT_BINARY = Form(
    "/v1/models/{network}/predict",
    _safetensors,
    lambda reply: np.ravel(load(reply.content)["prediction.values"]),
    {"Content-Type": SAFETENSORS, "Accept": SAFETENSORS},
)
TRACE_BINARY = Form(
    "/v1/models/{network}/trace",
    _safetensors,
    lambda reply: np.ravel(load(reply.content)["hidden_state"][0, -1, 0]),
    {"Content-Type": SAFETENSORS, "Accept": SAFETENSORS},
)
INFER = Form("/v2/models/{network}/infer", _flat, numbers("outputs", 0, "data"), {"Content-Type": JSON})
INFER_BINARY = Form("/v2/models/{network}/infer", _tensors, _first_tensor, {"Content-Type": BINARY})
