"""Messages: JSON, and behind it the tensors that come in binary; either way perhaps compressed."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from pydantic import BaseModel

from gatescope.errors import InvalidInput, Place
from gatescope.server.api import body, codecs, compression, offload
from gatescope.server.api.codecs.json import parsing, writing
from gatescope.server.api.messages import Content, Head, Reply, Request
from gatescope.server.api.schema.shapes import Expected
from gatescope.server.api.v2 import tensors
from gatescope.server.api.v2.schemas import InferRequest

LENGTH_HEADER = "Inference-Header-Content-Length"
_LENGTH = LENGTH_HEADER.lower().encode()
JSON, BINARY = FORMATS = codecs.JSON.media_type, "application/octet-stream"

_BINARY_GAIN = 16  # so much sooner is a tensor written in binary

_WHOLE_NUMBER = re.compile(r"[0-9]{1,15}")


@dataclass(frozen=True)
class Message:
    """A request, and the bytes of each of its inputs that came in binary."""

    request: InferRequest
    binary: Sequence[memoryview | None]
    is_large: bool = False
    """Whether its JSON is so long that its tensors are to be read on another thread."""


class Output(NamedTuple):
    """A tensor that goes out: float32."""

    name: str
    values: np.ndarray
    binary: bool


async def read(request: Request) -> bytes:
    """The request's body, unpacked.

    Raises:
        UnsupportedMediaType: it is compressed in a way that is not known here.
        BodyTooLarge: it has more bytes than this server takes, as it comes or unpacked.
        BadRequest: it cannot be unpacked.
    """
    most, encoding = request.context.limits.max_body_bytes, request.head.text(b"content-encoding")
    content = await request.content(most)
    return content if encoding is None else await asyncio.to_thread(compression.inflate, content, encoding, most)


def json_length(head: Head, size: int) -> int | None:
    """How much of a body of this size is JSON, where the client says that; 0 where it is one tensor and nothing else.

    Raises:
        InvalidInput: it cannot be.
    """
    length = head.find(_stated_length)
    if length is not None and not 0 <= length <= size:
        given = (head.text(_LENGTH) or "")[:20]
        message = f"must be the length of the JSON, at most that of the unpacked body, {size:,}; not {given!r}"
        raise InvalidInput.at(Place(("header", LENGTH_HEADER), message))
    return length


def _stated_length(head: Head) -> int | None:
    """What the header says; -1 where it is no whole number, None where there is none."""
    given = head.text(_LENGTH)
    if given is None:
        return None
    return int(given) if _WHOLE_NUMBER.fullmatch(given) else -1


async def parse(content: bytes, length: int | None) -> Message:
    """The message that these bytes are.

    Raises:
        InvalidJSON: what should be JSON is none.
        InvalidInput: it says what cannot be, or the lengths that it states are not those that it has.
    """
    return await offload.run((length or len(content)) > offload.MAX_LOOP_BYTES, decode, content, length)


def decode(content: bytes, length: int | None) -> Message:
    """The same; its JSON has this length, or is all of it."""
    length = len(content) if length is None else length
    parsed = body.validate(parsing.fields_of(content[:length]), InferRequest, Expected(""))
    return Message(parsed, _cut(memoryview(content)[length:], parsed), length > offload.MAX_LOOP_BYTES)


def schema_of(content: bytes, schema: type[BaseModel]) -> Any:
    """A body that may be left out as this schema; raises `InvalidJSON`, `InvalidInput`."""
    return body.validate(parsing.fields_of(content) if content.strip() else {}, schema, Expected(""))


async def respond(reply: dict[str, Any], outputs: Sequence[Output], accept_encoding: str | None) -> Reply:
    """The reply with these outputs, compressed if the client asks for that."""
    length, pieces = await offload.write(encode_large, reply, outputs) if is_large(outputs) else encode(reply, outputs)
    headers = [] if length is None else [(_LENGTH, b"%d" % length)]
    if accept_encoding and (coding := compression.choose(accept_encoding)):
        pieces = await asyncio.to_thread(compression.deflate, pieces, coding)
        headers.append((b"content-encoding", coding.encode()))
    return Reply(200, pieces, JSON if length is None else BINARY, headers)


def is_large(outputs: Sequence[Output]) -> bool:
    """Whether these are to be written on another thread."""
    sizes = [output.values.nbytes // (_BINARY_GAIN if output.binary else 1) for output in outputs]
    return sum(sizes) > offload.MAX_LOOP_BYTES


def encode(reply: dict[str, Any], outputs: Sequence[Output]) -> tuple[int | None, Sequence[Content]]:
    """The reply with these outputs in pieces, and how much of it is JSON; None for that where all of it is."""
    return _with_binary([writing.dumps(_with_outputs(reply, outputs))], outputs)


def encode_large(reply: dict[str, Any], outputs: Sequence[Output]) -> tuple[int | None, Sequence[Content]]:
    """The same of large outputs; not for the event loop to call."""
    return _with_binary(writing.pieces(_with_outputs(reply, outputs)), outputs)


def _with_outputs(reply: dict[str, Any], outputs: Sequence[Output]) -> dict[str, Any]:
    return reply | {"outputs": [_described(output) for output in outputs]}


def _with_binary(text: Sequence[bytes], outputs: Sequence[Output]) -> tuple[int | None, Sequence[Content]]:
    behind = [tensors.to_binary(output.values) for output in outputs if output.binary]
    return sum(map(len, text)) if behind else None, [*text, *behind]


def _described(output: Output) -> dict[str, Any]:
    described: dict[str, Any] = {"name": output.name, "datatype": "FP32", "shape": output.values.shape}
    if output.binary:
        described["parameters"] = {"binary_data_size": output.values.nbytes}
    else:
        described["data"] = tensors.to_json(output.values)
    return described


def _cut(behind: memoryview, request: InferRequest) -> list[memoryview | None]:
    """The bytes of each input, in the order of the inputs."""
    sizes = [tensor.binary_size for tensor in request.inputs]
    stated = sum(size or 0 for size in sizes)
    if stated != len(behind):
        message = f"the inputs state {stated:,} bytes of binary data, but {len(behind):,} stand behind the JSON"
        raise InvalidInput.at(Place(("body",), message))
    cut: list[memoryview | None] = []
    for size in sizes:
        cut.append(None if size is None else behind[:size])
        behind = behind[size or 0 :]
    return cut
