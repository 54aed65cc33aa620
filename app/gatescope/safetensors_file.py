"""Files in the safetensors format, read and written with NumPy alone.

Source: https://huggingface.co/docs/safetensors#format. The package `safetensors` reads and writes the same files. It is
not used here because the client needs NumPy and httpx alone, and because it takes longer to write: the writer below
takes 0.6 to 0.85 of its time (`docs/performance.md`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from itertools import pairwise
from math import prod
from typing import Any, NamedTuple, TypeGuard

import numpy as np

MAX_HEADER_BYTES = 100_000_000
"""A longer header is refused, as the package `safetensors` does."""

METADATA = "__metadata__"
"""The entry of the header that is no tensor."""

LENGTH_BYTES = 8
"""At the start of the file: the length of the header, a little-endian integer."""

_ALIGNMENT_BYTES = 8  # of the header, and so of the numbers behind it
_JOINED_BYTES = 16 * 1024  # up to this size, joining bytes is faster than copying arrays into a buffer
_DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "|i1",
    "U64": "<u8",
    "U32": "<u4",
    "U16": "<u2",
    "U8": "|u1",
    "BOOL": "|b1",
}
_CODES = {dtype: code for code, dtype in _DTYPES.items()}


class Contents(NamedTuple):
    """What a file holds."""

    arrays: dict[str, np.ndarray]
    metadata: dict[str, str]


def _json_bytes(texts: Mapping[str, str]) -> bytes:
    return json.dumps(texts, ensure_ascii=False, separators=(",", ":")).encode()


def write(
    arrays: Mapping[str, np.ndarray],
    metadata: Mapping[str, str],
    dumps: Callable[[Mapping[str, str]], bytes] = _json_bytes,
) -> memoryview:
    """A file with these arrays; strided arrays are copied once, straight to their place.

    Args:
        arrays: of any strides. The file holds the widest numbers first, so that all of them are aligned.
        metadata: the texts of `__metadata__`.
        dumps: writes them as a JSON object. The service gives `orjson.dumps`, which takes a third of the time where
            they are long.

    Raises:
        TypeError: the format has no such numbers.
    """
    ordered = sorted(arrays.items(), key=lambda item: -item[1].itemsize)
    described = tuple((name, array.dtype.str, array.shape) for name, array in ordered)
    header = _header(_tensor_entries(described), dumps(metadata))
    size = sum(array.nbytes for array in arrays.values())
    if size <= _JOINED_BYTES:
        return memoryview(b"".join([header, *(array.tobytes() for _, array in ordered)]))
    buffer = np.empty(len(header) + size, dtype=np.uint8)  # not zeroed: every byte is written below
    buffer[: len(header)] = np.frombuffer(header, dtype=np.uint8)
    position = len(header)
    for _, array in ordered:
        place = buffer[position : position + array.nbytes]
        np.copyto(place.view(array.dtype).reshape(array.shape), array)
        position += array.nbytes
    return buffer.data


def read(content: bytes | bytearray | memoryview) -> Contents:
    """What a file holds; the arrays share its memory where they are aligned, and can be written to if it can.

    Raises:
        ValueError: this is no such file, or it holds numbers that NumPy does not have. Nothing outside `content` is
            read, and no memory is allocated for numbers that are not there.
    """
    start = header_end(content)
    if start > len(content):
        raise ValueError(f"the header has {start - LENGTH_BYTES} bytes, but the file has {len(content)} in all")
    entries = _json_object(bytes(content[LENGTH_BYTES:start]))
    metadata = entries.pop(METADATA, None) or {}
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        raise ValueError(f"'{METADATA}' is no object of texts")
    tensors = {name: _tensor(name, entry) for name, entry in entries.items()}
    data = memoryview(content)[start:]
    _check_offsets([tensor.offsets for tensor in tensors.values()], len(data))
    return Contents({name: tensor.array(data) for name, tensor in tensors.items()}, metadata)


def header_end(content: bytes | bytearray | memoryview) -> int:
    """Where the header ends and the numbers begin, by the length that stands first.

    Raises:
        ValueError: there is no length, or a longer one than `MAX_HEADER_BYTES`.
    """
    if len(content) < LENGTH_BYTES:
        raise ValueError(f"it has {len(content)} bytes; the length of the header alone takes {LENGTH_BYTES}")
    length = int.from_bytes(content[:LENGTH_BYTES], "little")
    if length > MAX_HEADER_BYTES:
        raise ValueError(f"its header is said to have {length} bytes; at most {MAX_HEADER_BYTES} are read")
    return LENGTH_BYTES + length


class _Tensor(NamedTuple):
    """An entry of the header whose parts fit each other."""

    dtype: np.dtype
    shape: tuple[int, ...]
    offsets: tuple[int, int]

    def array(self, data: memoryview) -> np.ndarray:
        """Its numbers; `data` is all that stands behind the header."""
        array = np.frombuffer(data[slice(*self.offsets)], self.dtype).reshape(self.shape)
        return array if array.flags.aligned else array.copy()


def _header(tensor_entries: bytes, metadata: bytes) -> bytes:
    header = b'{"%b":%b%b}' % (METADATA.encode(), metadata, tensor_entries)
    header += b" " * (-len(header) % _ALIGNMENT_BYTES)
    return len(header).to_bytes(LENGTH_BYTES, "little") + header


@lru_cache(maxsize=1024)
def _tensor_entries(described: tuple[tuple[str, str, tuple[int, ...]], ...]) -> bytes:
    """The entries of the header for arrays with these names, types and shapes, each with a comma before it."""
    entries = []
    start = 0
    for name, dtype, shape in described:
        if dtype not in _CODES:
            raise TypeError(f"'{name}' is an array of {np.dtype(dtype)}; a file has {', '.join(_DTYPES)}")
        stop = start + prod(shape) * np.dtype(dtype).itemsize
        entry = {"dtype": _CODES[dtype], "shape": shape, "data_offsets": (start, stop)}
        entries.append(f",{json.dumps(name)}:{json.dumps(entry, separators=(',', ':'))}")
        start = stop
    return "".join(entries).encode()


def _json_object(text: bytes) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"its header is no JSON: {error}") from None
    if not isinstance(value, dict):
        raise ValueError("its header is no JSON object")  # noqa: TRY004 - of the file, not of an argument
    return value


def _tensor(name: str, entry: object) -> _Tensor:
    described = entry if isinstance(entry, dict) else {}
    dtype, shape, offsets = (described.get(part) for part in ("dtype", "shape", "data_offsets"))
    if not isinstance(dtype, str) or not _is_counts(shape) or not _is_counts(offsets) or len(offsets) != 2:  # noqa: PLR2004
        raise ValueError(f"'{name[:64]}' has no valid dtype, shape and data_offsets")
    if dtype not in _DTYPES:
        raise ValueError(f"'{name[:64]}' holds {dtype[:16]}; known are {', '.join(_DTYPES)}")
    tensor = _Tensor(np.dtype(_DTYPES[dtype]), tuple(shape), (offsets[0], offsets[1]))
    if offsets[1] - offsets[0] != prod(shape) * tensor.dtype.itemsize:
        message = f"'{name[:64]}' has the shape {shape} in {dtype}, which takes another number of bytes than {offsets}"
        raise ValueError(message)
    return tensor


def _is_counts(value: object) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(item) is int and item >= 0 for item in value)


def _check_offsets(offsets: list[tuple[int, int]], size: int) -> None:
    """Every byte behind the header belongs to one tensor."""
    if any(before != after for (_, before), (after, _) in pairwise([(0, 0), *sorted(offsets), (size, size)])):
        raise ValueError(f"its tensors do not lie one behind the other in the {size} bytes after the header")
