"""A reply, in JSON or safetensors, as fields: numbers, texts, lists and NumPy arrays."""

from __future__ import annotations

from typing import Any

import httpx
import numpy as np
import orjson

from gatescope.client.body import SAFETENSORS

_LENGTH_BYTES = 8
_DTYPES = {"F32": np.float32, "I64": np.int64}


def json(reply: httpx.Response) -> Any:
    """The reply's JSON."""
    return orjson.loads(reply.content)


def fields(reply: httpx.Response) -> dict[str, Any]:
    """The fields of a reply, whichever of the two it is in."""
    if reply.headers.get("content-type") != SAFETENSORS:
        given: dict[str, Any] = json(reply)
        return given
    content = bytearray(reply.content)  # so that the arrays can be written to
    start = _LENGTH_BYTES + int.from_bytes(content[:_LENGTH_BYTES], "little")
    tensors = orjson.loads(content[_LENGTH_BYTES:start])
    told = {name: orjson.loads(text) for name, text in tensors.pop("__metadata__").items()}
    for name, tensor in tensors.items():
        first, last = tensor["data_offsets"]
        array = np.frombuffer(memoryview(content)[start + first : start + last], _DTYPES[tensor["dtype"]])
        _put(told, name.split("."), array.reshape(tensor["shape"]))
    return told


def nothing(_: httpx.Response) -> None:
    """For replies that say no more than that it is done."""


def _put(fields: dict[str, Any], path: list[str], value: np.ndarray) -> None:
    """Under the name that the JSON reply has for it: a dot leads into a field."""
    for name in path[:-1]:
        fields = fields.setdefault(name, {})
    fields[path[-1]] = value
