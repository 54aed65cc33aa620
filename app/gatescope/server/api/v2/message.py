"""Messages: JSON, and behind it the tensors that come in binary; either way perhaps compressed."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from fastapi import Request, Response
from pydantic import BaseModel

from gatescope.errors import InvalidInput, Place
from gatescope.server.api import aside, body, compression, context, written
from gatescope.server.api.nested import Expected
from gatescope.server.api.v2 import tensors
from gatescope.server.api.v2.schemas import InferRequest
from gatescope.server.api.written import Content, InPieces

LENGTH_HEADER = "Inference-Header-Content-Length"
JSON, BINARY = FORMATS = "application/json", "application/octet-stream"

_BINARY_GAIN = 16  # so much sooner is a tensor written in binary

_WHOLE_NUMBER = re.compile(r"[0-9]{1,15}")


@dataclass(frozen=True)
class Message:
    """A request, and the bytes of each of its inputs that came in binary."""

    request: InferRequest
    binary: Sequence[memoryview | None]
    is_large: bool = False
    """Whether its JSON is so long that its tensors are to be read aside."""


@dataclass(frozen=True)
class Output:
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
    most, encoding = context.of(request).limits.max_body_bytes, request.headers.get("content-encoding")
    content = b"".join([chunk async for chunk in body.chunks(request, most, encoded=True)])
    return content if encoding is None else await asyncio.to_thread(compression.inflate, content, encoding, most)


def is_raw(request: Request) -> bool:
    """Whether the body is the one tensor that the model needs, and nothing else."""
    given = request.headers.get(LENGTH_HEADER)
    return given is not None and given.isdecimal() and not given.strip("0")


async def parse(request: Request, content: bytes) -> Message:
    """The message that these bytes are.

    Raises:
        InvalidJSON: what should be JSON is none.
        InvalidInput: it says what cannot be, or the lengths that it states are not those that it has.
    """
    length = _json_length(request.headers.get(LENGTH_HEADER), len(content))
    return await aside.run(length > aside.MOST_BYTES, of, content, length)


def of(content: bytes, length: int) -> Message:
    """The same, its JSON having this length."""
    parsed = body.checked(body.from_json(content[:length]), InferRequest, Expected(""))
    return Message(parsed, _cut(memoryview(content)[length:], parsed), length > aside.MOST_BYTES)


def schema_of(content: bytes, schema: type[BaseModel]) -> Any:
    """A body that may be left out as this schema; raises `InvalidJSON`, `InvalidInput`."""
    return body.checked(body.from_json(content) if content.strip() else {}, schema, Expected(""))


async def respond(reply: dict[str, Any], outputs: Sequence[Output], accept_encoding: str | None) -> Response:
    """The reply with these outputs, compressed if the client asks for that."""
    takes_long = is_large(outputs)
    length, pieces = await aside.write(encode, reply, outputs) if takes_long else encode(reply, outputs)
    headers = {} if length is None else {LENGTH_HEADER: str(length)}
    if coding := compression.choose(accept_encoding):
        pieces = await asyncio.to_thread(compression.deflate, pieces, coding)
        headers["Content-Encoding"] = coding
    media_type = JSON if length is None else BINARY
    if takes_long:
        return InPieces(pieces, media_type, headers)
    return Response(b"".join(pieces), headers=headers, media_type=media_type)


def is_large(outputs: Sequence[Output]) -> bool:
    """Whether these are to be written aside."""
    return sum(output.values.nbytes // (_BINARY_GAIN if output.binary else 1) for output in outputs) > aside.MOST_BYTES


def encode(reply: dict[str, Any], outputs: Sequence[Output]) -> tuple[int | None, Sequence[Content]]:
    """The reply with these outputs in pieces, and how much of it is JSON; None for that where all of it is."""
    told = reply | {"outputs": [_described(output) for output in outputs]}
    text = written.pieces(told) if is_large(outputs) else [written.dumps(told)]
    behind = [tensors.to_binary(output.values) for output in outputs if output.binary]
    return sum(map(len, text)) if behind else None, [*text, *behind]


def _described(output: Output) -> dict[str, Any]:
    described = {"name": output.name, "datatype": "FP32", "shape": output.values.shape}
    if output.binary:
        return described | {"parameters": {"binary_data_size": output.values.nbytes}}
    return described | {"data": tensors.to_json(output.values)}


def _json_length(given: str | None, size: int) -> int:
    if given is None:
        return size
    if not _WHOLE_NUMBER.fullmatch(given) or int(given) > size:
        message = f"must be the length of the JSON, at most that of the unpacked body, {size:,}; not {given[:20]!r}"
        raise InvalidInput.at(Place(("header", LENGTH_HEADER), message))
    return int(given)


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
