"""Safetensors files: the header read and held against the file; of tensors, where they are.

Source: https://huggingface.co/docs/safetensors#format. The package `safetensors` maps the file into memory, where a
later change of the file would change the weights, and opens it a second time, by its name.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import torch

from gatescope.checkpoints.formats.plain import Entries
from gatescope.errors import CheckpointError
from gatescope.names import printable
from gatescope.pipeline.stored_tensors import MOST_DIMENSIONS, Storage, StoredTensor, are_counts
from gatescope.source import Source

MOST_BYTES = 16 * 2**20
LENGTH_BYTES = 8
METADATA = "__metadata__"

DTYPES = {
    "BF16": torch.bfloat16,
    "BOOL": torch.bool,
    "C64": torch.complex64,
    "F16": torch.float16,
    "F32": torch.float32,
    "F64": torch.float64,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I16": torch.int16,
    "I32": torch.int32,
    "I64": torch.int64,
    "I8": torch.int8,
    "U16": torch.uint16,
    "U32": torch.uint32,
    "U64": torch.uint64,
    "U8": torch.uint8,
}


def read(source: Source) -> tuple[Entries, Mapping[str, Any]]:
    """The tensors under their names, and the texts of `__metadata__`.

    Raises:
        CheckpointError: the header is damaged, or does not fit the file.
    """
    length = int.from_bytes(source.at(0, LENGTH_BYTES), "little")
    if length > min(source.size - LENGTH_BYTES, MOST_BYTES):
        raise CheckpointError(
            f"its header says that it has {length} bytes, of {source.size} in all: it is cut off or damaged"
        )
    header = _object(source.at(LENGTH_BYTES, length))
    metadata = header.pop(METADATA, None) or {}
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        raise _damaged(f"{METADATA} is no object of texts")
    start = LENGTH_BYTES + length
    tensors = Entries()
    ends = [(start, start), (source.size, source.size)]
    for name, entry in header.items():
        stored, end = _tensor(source, start, name, entry)
        tensors.named[name] = stored
        ends.append((stored.storage.offset, end))
    if any(before != after for (_, before), (after, _) in pairwise(sorted(ends))):
        raise _damaged("its tensors do not lie one behind the other up to its end")
    return tensors, metadata


def _object(text: bytes) -> dict[str, Any]:
    try:
        value = json.loads(text, object_pairs_hook=_distinct)
    except (ValueError, RecursionError) as error:
        raise _damaged(f"its header is no JSON: {type(error).__name__}") from None
    if not isinstance(value, dict):
        raise _damaged("its header is no JSON object")
    return value


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries = dict(pairs)
    if len(entries) != len(pairs):
        raise ValueError("two entries have the same name")
    return entries


def _tensor(source: Source, start: int, name: str, entry: Any) -> tuple[StoredTensor, int]:
    """The tensor, and where its numbers end in the file."""
    match entry:
        case {"dtype": str(code), "shape": [*shape], "data_offsets": [begin, end]} if code in DTYPES:
            pass
        case _:
            raise _damaged(f"'{printable(name)}' has no known dtype, shape and data_offsets")
    if not are_counts((begin, end, *shape)) or len(shape) > MOST_DIMENSIONS:
        raise _damaged(f"'{printable(name)}' has no valid shape and data_offsets")
    storage = Storage(DTYPES[code], math.prod(shape), source, start + begin)
    if storage.nbytes != end - begin:
        raise _damaged(f"'{printable(name)}' has another number of bytes than its shape in {code} takes")
    strides = tuple(math.prod(shape[dimension + 1 :]) for dimension in range(len(shape)))
    return StoredTensor(storage, storage.dtype, 0, tuple(shape), strides), start + end


def _damaged(reason: str) -> CheckpointError:
    return CheckpointError(f"it is damaged ({reason}); copy or save the file again")
