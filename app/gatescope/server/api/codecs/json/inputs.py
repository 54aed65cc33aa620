"""`{"inputs": [[[…]]]}` of nothing but numbers, read without making an object for each of them.

With its numbers and spaces taken out, such a body is all brackets and commas, and must be exactly what as many rows of
as many features look like. Whatever looks different is read the general way, which finds what is wrong and where.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import simdjson

from gatescope.server.api import offload
from gatescope.server.api.codecs.floats import finite
from gatescope.server.api.schema.arrays import Sequences
from gatescope.server.api.schema.elements import INPUTS
from gatescope.server.api.schema.shapes import Expected

_NUMBERS = b"0123456789+-.eE \t\r\n"
_OPENING, _CLOSING = b'{"inputs":', b"}"
_BETWEEN = b"]],[["

_local = threading.local()


def sequences(content: bytes, expected: Expected) -> Sequences | None:
    """The `inputs` of a body that has nothing else, batch or lone sequence of features; None of any other body."""
    if expected.kind != "features" or not content.startswith(b"{"):
        return None
    skeleton = skeleton_of(content)
    if not (skeleton.startswith(_OPENING) and skeleton.endswith(_CLOSING)):
        return None
    features = expected.sizes["feature"]
    array = skeleton[len(_OPENING) : -len(_CLOSING)]
    is_single = not array.startswith(b"[[[")
    lengths = _lengths(array if is_single else array[1:-1], features)
    if lengths is None or not _within(lengths, expected):
        return None
    numbers = numbers_of(content, expected.doubles.get(INPUTS))
    if numbers is None or len(numbers) != sum(lengths) * features:
        return None
    rows = numbers.reshape(-1, features)
    if len(lengths) == 1:
        return Sequences([rows], is_single=is_single)
    return Sequences(np.split(rows, np.cumsum(lengths[:-1])))


def skeleton_of(content: bytes) -> bytes:
    """A body without its numbers and spaces."""
    return content.translate(None, _NUMBERS)


def is_inputs_alone(skeleton: bytes) -> bool:
    """Whether a sound body with this skeleton has `inputs`, and nothing else that is a number or a name."""
    return skeleton.startswith(_OPENING) and not skeleton[len(_OPENING) :].translate(None, b"[],}")


def _lengths(skeleton: bytes, features: int) -> list[int] | None:
    """How many rows each sequence has; None where anything is not a row of so many numbers."""
    row = b"[" + b"," * (features - 1) + b"]"
    sizes = [len(part) + len(_BETWEEN) - 1 for part in skeleton.split(_BETWEEN)]
    sizes[0] -= 2  # there is no sequence before the first,
    sizes[-1] -= 2  # and none behind the last
    lengths = [size // (len(row) + 1) for size in sizes]
    expected = b",".join([b"[" + b",".join([row] * count) + b"]" for count in lengths])
    return lengths if expected == skeleton and 0 not in lengths else None


def _within(lengths: list[int], expected: Expected) -> bool:
    """Whether no axis is longer than this server takes."""
    batch, time = expected.most.get("batch"), expected.most.get("time")
    return (time is None or max(lengths) <= time) and (batch is None or sum(lengths) <= batch)


def numbers_of(content: bytes, largest: float | None = None) -> np.ndarray | None:
    """All numbers of `inputs`, flat, as `finite` gives them; None where one is none, or too large."""
    return _floats(content, lambda document: document["inputs"], largest)


def numbers_in(content: bytes) -> np.ndarray | None:
    """All numbers of an array that stands alone, as float32."""
    return _floats(content, lambda document: document)


def _floats(content: bytes, array_in: Callable[[Any], Any], largest: float | None = None) -> np.ndarray | None:
    try:
        flat = array_in(_parser(content).parse(content)).as_buffer(of_type="d")
    except (ValueError, TypeError, LookupError, RuntimeError, AttributeError):
        return None
    return finite(np.frombuffer(flat, dtype=np.float64), largest)


def _parser(content: bytes) -> simdjson.Parser:
    """This thread's, for a parser keeps its buffers; one for once where they would be large.

    Nothing of what it parsed is kept here.
    """
    if len(content) > offload.MAX_LOOP_BYTES:
        return simdjson.Parser()
    if not hasattr(_local, "parser"):
        _local.parser = simdjson.Parser()
    parser: simdjson.Parser = _local.parser
    return parser
