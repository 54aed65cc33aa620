"""A request as a safetensors file: its arrays as they are, and the other fields as JSON in the file's metadata."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
from safetensors import SafetensorError, deserialize

from gatescope.errors import InvalidInput, Place

MEDIA_TYPE = "application/vnd.safetensors"

ARRAYS = ("inputs", "sequence_lengths", "initial_state.hidden_state", "initial_state.cell_state", "future_inputs")
"""What may come as a tensor; a dot leads into a field."""

METADATA = "__metadata__"
"""What stands there is no tensor."""

_LENGTH_BYTES = 8
_DTYPES = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "I64": np.int64, "I32": np.int32}


def fields_of(content: bytes) -> dict[str, Any]:
    """The fields of a request in this format.

    Raises:
        InvalidInput: it is no such file, or holds what no request has.
    """
    try:
        arrays = deserialize(content)  # type: ignore[no-untyped-call]
    except SafetensorError as error:
        raise _refused(f"the body is no safetensors file: {error}") from None
    fields: dict[str, Any] = _metadata(content)
    for name, described in arrays:
        if name not in ARRAYS:
            raise _refused(f"the file holds a tensor '{name[:64]}'; a request has {', '.join(ARRAYS)}")
        _put(fields, name, _array(name, described))
    return fields


def _array(name: str, described: dict[str, Any]) -> np.ndarray | list[int]:
    dtype = _DTYPES.get(described["dtype"])
    if dtype is None:
        raise _refused(f"'{name}' holds {described['dtype']}; known are {', '.join(_DTYPES)}")
    array = np.frombuffer(described["data"], dtype=dtype).reshape(described["shape"])
    return array.tolist() if name == "sequence_lengths" else array


def head_of(content: bytes) -> bytes:
    """All that stands before the numbers; whether it is a head at all is not looked at."""
    return content[: _LENGTH_BYTES + int.from_bytes(content[:_LENGTH_BYTES], "little")]


def described_in(head: bytes) -> dict[str, Any]:
    """What the head of a sound file says of its tensors, by name, and its metadata."""
    described: dict[str, Any] = orjson.loads(head[_LENGTH_BYTES:])
    return described


def _metadata(content: bytes) -> dict[str, Any]:
    """The fields that stand in the metadata, each as JSON; the file was read, so its head is sound."""
    fields = {}
    for name, text in (described_in(head_of(content)).get(METADATA) or {}).items():
        if name == "format":  # written by common tools
            continue
        try:
            fields[name] = orjson.loads(text)
        except orjson.JSONDecodeError:
            raise _refused(f"'{name[:64]}' in the file's metadata is not JSON") from None
    return fields


def _put(fields: dict[str, Any], name: str, value: object) -> None:
    *path, last = name.split(".")
    for part in path:
        inner = fields.setdefault(part, {})
        if not isinstance(inner, dict):
            raise _refused(f"'{part}' stands in the metadata and as a tensor, too")
        fields = inner
    fields[last] = value


def _refused(message: str) -> InvalidInput:
    return InvalidInput.at(Place(("body",), message))
