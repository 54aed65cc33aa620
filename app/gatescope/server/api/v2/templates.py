"""Messages with one tensor of numbers, which most are, read by the template of one that differs in numbers only."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import orjson

from gatescope.errors import AppError
from gatescope.pipeline.model import Model
from gatescope.server.api import query
from gatescope.server.api.codecs import floats
from gatescope.server.api.codecs.json import inputs
from gatescope.server.api.codecs.templates import MAX_BODY_BYTES, MAX_KEY_BYTES, Template, Templates
from gatescope.server.api.schema.elements import INPUTS
from gatescope.server.api.v2 import message
from gatescope.server.api.v2.message import Message
from gatescope.server.api.v2.question import Question
from gatescope.server.api.v2.schemas import InferParameters

_DATA, _PROBE = b'"data":', b"[0.5]"


class MessageTemplates:
    """The templates of messages, by all that they say beside their numbers."""

    def __init__(self) -> None:
        self._templates: Templates[Question] = Templates()

    def question(self, content: bytes, json_length: int | None, model: Model) -> Question | None:
        """What a message asks, by the template of an earlier one; None where there is none.

        Args:
            content: the message.
            json_length: how much of it is JSON, where the client says that.
            model: is asked.
        """
        parts = _parts(content, json_length)
        template = self._templates.get(model, parts.key) if parts.key else None
        if template is None:
            return None
        numbers = _numbers(content, parts, template.largest)
        if numbers is None or len(numbers) != template.numbers:
            return None
        return template.kept._replace(query=template.filled(numbers))

    def learn(self, content: bytes, json_length: int | None, model: Model, asked: Message, posed: Question) -> None:
        """Keep the template of this message, if others may differ from it in their numbers only."""
        parts = _parts(content, json_length)
        if not parts.key or len(parts.key) > MAX_KEY_BYTES or not model.takes_any_numbers or posed.query.is_ragged:
            return
        if _has_inputs_alone(asked) and _has_numbers_alone(content, parts, asked):
            largest = query.expected(model).doubles.get(INPUTS)
            self._templates.put(model, parts.key, Template.of(posed.query, posed, largest))


class _Parts(NamedTuple):
    """A message: its numbers, and the rest of it."""

    key: bytes
    """The rest; empty where it cannot be told from the numbers."""
    begin: int
    end: int
    is_binary: bool


def _has_inputs_alone(asked: Message) -> bool:
    """Whether a message has one tensor, and says nothing of itself alone."""
    parameters = asked.request.parameters or InferParameters()
    plain = InferParameters(binary_data_output=parameters.binary_data_output)
    names = [tensor.name for tensor in asked.request.inputs]
    return names == ["inputs"] and not asked.request.id and parameters == plain


def _has_numbers_alone(content: bytes, parts: _Parts, asked: Message) -> bool:
    """Whether what stands where the key has nothing is the tensor's numbers."""
    tensor = asked.request.inputs[0]
    if tensor.datatype != "FP32":
        return False
    if parts.is_binary:
        return asked.binary[0] is not None
    probe = b"".join((content[: parts.begin], _PROBE, content[parts.end :]))
    try:
        probed = message.decode(probe, None).request.inputs[0]
    except AppError:  # the data are nested: their first list is not all of them
        return False
    return bool(probed.data == orjson.loads(_PROBE))  # else it is somebody else's "data"


def _parts(content: bytes, json_length: int | None) -> _Parts:
    if len(content) > MAX_BODY_BYTES:
        return _Parts(b"", 0, 0, is_binary=False)
    if json_length is not None:
        key = content[:json_length] if json_length < len(content) else b""
        return _Parts(key, json_length, len(content), is_binary=True)
    begin, end = _data(content)
    return _Parts(content[:begin] + content[end:] if end else b"", begin, end, is_binary=False)


def _numbers(content: bytes, parts: _Parts, largest: float | None) -> np.ndarray | None:
    """The numbers, which are float32 as the message says, also where the model scales them in float64."""
    if parts.is_binary:
        return floats.floats_behind(content, parts.begin, largest)
    numbers = inputs.numbers_in(content[parts.begin : parts.end])
    return numbers if numbers is None or largest is None else floats.finite(numbers, largest)


def _data(content: bytes) -> tuple[int, int]:
    """Where the first list of data begins and ends; nowhere, if there is none."""
    begin = content.find(_DATA) + len(_DATA)
    end = content.find(b"]", begin) + 1
    return (begin, end) if begin >= len(_DATA) and end else (0, 0)
