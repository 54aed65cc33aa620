"""Messages with one tensor of numbers, which most are: begun quickly, as `gatescope/server/api/quick.py` has it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import orjson

from gatescope.pipeline.model import Model
from gatescope.pipeline.query import Answer, Query
from gatescope.server.api import dense
from gatescope.server.api.context import Context
from gatescope.server.api.limits import Limits
from gatescope.server.api.prepared import Prepared, floats_behind
from gatescope.server.api.quick import Asked, Encode, Encoded, Headers
from gatescope.server.api.v2 import message, question
from gatescope.server.api.v2.infer import more
from gatescope.server.api.v2.message import Message, Output
from gatescope.server.api.v2.question import Question
from gatescope.server.api.v2.schemas import InferParameters

_LENGTH = message.LENGTH_HEADER.lower().encode()
_DATA, _PROBE = b'"data":', b"[0.5]"


def _posed(asked: Message, model: Model, limits: Limits) -> tuple[Query, Question] | None:
    """What a message asks; None where another one with the same head may ask something else."""
    parameters = asked.request.parameters or InferParameters()
    plain = InferParameters(binary_data_output=parameters.binary_data_output)
    names = [tensor.name for tensor in asked.request.inputs]
    if names != ["inputs"] or asked.request.id or parameters != plain:
        return None
    posed = question.of(asked, model, limits)
    return posed.query, posed


class _PreparedBinary(Prepared[Question]):
    """Of messages whose tensor comes in binary, in float32: their head is their JSON."""

    def _read(self, head: bytes, content: bytes, model: Model, limits: Limits) -> tuple[Query, Question] | None:
        asked = message.of(content, len(head))
        is_binary = asked.binary[0] is not None and asked.request.inputs[0].datatype == "FP32"
        return _posed(asked, model, limits) if is_binary else None

    def _numbers(self, content: bytes, head: bytes) -> np.ndarray | None:
        return floats_behind(content, len(head))


class _PreparedJSON(Prepared[Question]):
    """Of messages whose tensor's data stands in their JSON, flat: their head is all around it."""

    def _read(
        self,
        head: bytes,  # noqa: ARG002 - it is not the beginning
        content: bytes,
        model: Model,
        limits: Limits,
    ) -> tuple[Query, Question] | None:
        begin, end = _data(content)
        other = content[:begin] + _PROBE + content[end:]
        probed = message.of(other, len(other)).request.inputs[0]
        if probed.datatype != "FP32" or probed.data != orjson.loads(_PROBE):  # it is somebody else's "data"
            return None
        return _posed(message.of(content, len(content)), model, limits)

    def _numbers(self, content: bytes, head: bytes) -> np.ndarray | None:  # noqa: ARG002 - likewise
        return dense.numbers_in(content[slice(*_data(content))])


def _data(content: bytes) -> tuple[int, int]:
    """Where the first list of data begins and ends; nowhere, if there is none."""
    begin = content.find(_DATA) + len(_DATA)
    end = content.find(b"]", begin) + 1
    return (begin, end) if begin >= len(_DATA) and end else (0, 0)


def _quickly(prepared: Prepared[Question], head_of: Callable[[bytes, Headers], bytes]) -> Callable[..., Asked | None]:
    def begin(here: Context, content: bytes, headers: Headers, name: str, version: str | None = None) -> Asked | None:
        """Answer a message like most others; None of any other."""
        model, head = here.engine.model(name, version), head_of(content, headers)
        found = None if headers.get(b"accept-encoding") else prepared.find(head, content, model, here.limits)
        if found is None:
            return None
        wanted, posed = found

        def encode(answer: Answer) -> Encoded | Encode:
            told = {"model_name": model.name, "model_version": model.version} | more(answer, {})
            outputs = posed.outputs(answer)
            return partial(_encoded, told, outputs) if message.is_large(outputs) else _encoded(told, outputs)

        return Asked(here.engine.submit(model, wanted), encode)

    return begin


def _encoded(told: dict[str, Any], outputs: list[Output]) -> Encoded:
    size, pieces = message.encode(told, outputs)
    if size is None:
        return Encoded(pieces, message.JSON)
    return Encoded(pieces, message.BINARY, b"%b: %d\r\n" % (_LENGTH, size))


def _head_of_binary(content: bytes, headers: Headers) -> bytes:
    length = headers.get(_LENGTH, b"")
    return content[: int(length)] if length.isdigit() else b""


def _head_of_json(content: bytes, headers: Headers) -> bytes:
    begin, end = _data(content)
    return b"" if _LENGTH in headers else content[:begin] + content[end:]


QUICKLY = {
    message.BINARY: _quickly(_PreparedBinary(), _head_of_binary),
    message.JSON: _quickly(_PreparedJSON(), _head_of_json),
}
"""What answers messages like most others, by their content type."""
