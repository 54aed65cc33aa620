"""safetensors: a body's arrays as they are, and its other fields as JSON in the file's metadata."""

from __future__ import annotations

import re
from typing import Any, ClassVar

import numpy as np
import orjson
from safetensors import SafetensorError, deserialize

from gatescope import safetensors_file
from gatescope.errors import InvalidInput, Place
from gatescope.server.api import offload
from gatescope.server.api.codecs import arrays, floats
from gatescope.server.api.codecs.codec import BodyReader, Fields, ReplyKind, ReplyWriter
from gatescope.server.api.codecs.json import writing

TENSORS = (
    "inputs",
    "sequence_lengths",
    "initial_state.hidden_state",
    "initial_state.cell_state",
    "future_inputs",
    "static_inputs",
)
"""What may come as a tensor; a dot leads into a field."""

_MODULE_STATE = re.compile(r"initial_state\.modules\.(.+)\.(hidden_state|cell_state)")
"""Of a model with several recurrent modules, whose names may have dots, too."""

_METADATA = "__metadata__"  # not the name of a tensor
_LENGTH_BYTES = 8
_DTYPES = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "I64": np.int64, "I32": np.int32}


class Safetensors(BodyReader, ReplyWriter):
    """Arrays are padded with NaN where sequences differ in length."""

    media_type = "application/vnd.safetensors"
    writes: ClassVar[frozenset[ReplyKind]] = frozenset(("prediction", "trace", "analysis", "intervention"))
    max_loop_bytes = 16 * offload.MAX_LOOP_BYTES  # arrays are copied, which is faster than writing text

    def decode(self, content: bytes) -> Fields:
        """The fields of a request in this format; raises `InvalidInput`."""
        return _fields_of(content)

    def template_key(self, content: bytes) -> bytes:
        """The file's head: whatever a body says beside its numbers stands there."""
        return _head_of(content)

    def template_numbers(self, content: bytes, key: bytes, largest: float | None) -> np.ndarray | None:
        """All that stands behind the head."""
        return floats.floats_behind(content, len(key), largest)

    def is_template(self, key: bytes) -> bool:
        """Whether the file has one tensor, `inputs` in float32."""
        described = {name: value for name, value in _described_in(key).items() if name != _METADATA}
        return described.keys() == {"inputs"} and described["inputs"]["dtype"] == "F32"

    def encode(self, reply: Fields) -> memoryview:
        """The file."""
        named, rest = arrays.split(reply)
        metadata = {name: writing.dumps(value).decode() for name, value in rest.items()}
        return safetensors_file.write(named, metadata, orjson.dumps)


def _fields_of(content: bytes) -> Fields:
    """The fields of a request; raises `InvalidInput` where it is no such file, or holds what no request has."""
    try:
        tensors = deserialize(content)  # type: ignore[no-untyped-call]
    except SafetensorError as error:
        raise _refused(f"the body is no safetensors file: {error}") from None
    fields = _metadata(content)
    for name, described in tensors:
        path = _path_of(name)
        if path is None:
            raise _refused(f"the file holds a tensor '{name[:64]}'; a request has {', '.join(TENSORS)}")
        _put(fields, path, _array(name, described))
    return fields


def _array(name: str, described: dict[str, Any]) -> np.ndarray | list[int]:
    dtype = _DTYPES.get(described["dtype"])
    if dtype is None:
        raise _refused(f"'{name}' holds {described['dtype']}; known are {', '.join(_DTYPES)}")
    array = np.frombuffer(described["data"], dtype=dtype).reshape(described["shape"])
    return array.tolist() if name == "sequence_lengths" else array


def _head_of(content: bytes) -> bytes:
    """All that stands before the numbers; whether it is a head at all is not looked at."""
    return content[: _LENGTH_BYTES + int.from_bytes(content[:_LENGTH_BYTES], "little")]


def _described_in(head: bytes) -> dict[str, Any]:
    """What the head of a sound file says of its tensors, by name, and its metadata."""
    described: dict[str, Any] = orjson.loads(head[_LENGTH_BYTES:])
    return described


def _metadata(content: bytes) -> dict[str, Any]:
    """The fields that stand in the metadata, each as JSON; the file was read, so its head is sound."""
    fields: Fields = {}
    for name, text in (_described_in(_head_of(content)).get(_METADATA) or {}).items():
        if name == "format":  # written by common tools
            continue
        try:
            fields[name] = orjson.loads(text)
        except orjson.JSONDecodeError:
            raise _refused(f"'{name[:64]}' in the file's metadata is not JSON") from None
    return fields


def _path_of(name: str) -> list[str] | None:
    """The fields that a tensor stands in; None of one that no request has."""
    if name in TENSORS:
        return name.split(".")
    found = _MODULE_STATE.fullmatch(name)
    return None if found is None else ["initial_state", "modules", *found.groups()]


def _put(fields: dict[str, Any], path: list[str], value: object) -> None:
    *before, last = path
    for part in before:
        inner = fields.setdefault(part, {})
        if not isinstance(inner, dict):
            raise _refused(f"'{part}' stands in the metadata and as a tensor, too")
        fields = inner
    fields[last] = value


def _refused(message: str) -> InvalidInput:
    return InvalidInput.at(Place(("body",), message))
