"""Reading a request's body: bytes -> fields -> a validated schema, with the right error at each step."""

from __future__ import annotations

import gc
import re
import threading
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, ValidationError

from gatescope.errors import InvalidInput, InvalidJSON, Place, UnsupportedMediaType
from gatescope.server.api import aside, dense, problems, tensors
from gatescope.server.api.messages import Head, Request
from gatescope.server.api.nested import Expected

Schema = TypeVar("Schema", bound=BaseModel)
Fields = dict[str, Any]
Decode = Callable[[bytes], Fields]
"""Reads a body's fields."""

MOST_FIELDS = 10_000
"""A large body with more names of fields is none of ours, and to read it would hold up others."""

_NOT_FINITE = re.compile(r"(?:NaN|-?Infinity)\b")
"""What Python and others write for numbers that JSON does not have."""

_SHOWN = {"NaN": "nan", "Infinity": "inf", "-Infinity": "-inf"}
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{},:]')


async def read(request: Request, schema: type[Schema], expected: Expected) -> Schema:
    """The request's body as this schema.

    Args:
        request: with a body in JSON, or in safetensors.
        schema: what it must be.
        expected: the lengths of the model's axes.

    Raises:
        UnsupportedMediaType: it comes in another format, or compressed.
        BodyTooLarge, InvalidJSON: as their names say.
        InvalidInput: it does not fit the schema; every place is named.
    """
    decode, limits = decoder(request.head), request.context.limits
    content = await request.content(limits.max_body_bytes)
    return await aside.run(len(content) > aside.MOST_BYTES, decoded, content, decode, schema, expected.within(limits))


async def fields_of(request: Request) -> Fields:
    """The request's body as its fields, before any is looked at; raises what `read` raises."""
    decode = decoder(request.head)
    content = await request.content(request.context.limits.max_body_bytes)
    return await aside.run(len(content) > aside.MOST_BYTES, decode, content)


def decoded(content: bytes, decode: Decode, schema: type[Schema], expected: Expected) -> Schema:
    """These bytes as this schema; raises `InvalidJSON`, `InvalidInput`."""
    if decode is from_json and (inputs_alone := dense_request(content, schema, expected)) is not None:
        return inputs_alone
    return checked(decode(content), schema, expected)


def dense_request(content: bytes, schema: type[Schema], expected: Expected) -> Schema | None:
    """A body that is nothing but `inputs`, which need nothing of pydantic; None of any other."""
    empty = _empty(schema)
    sequences = None if empty is None else dense.sequences(content, expected)
    return None if empty is None or sequences is None else empty.model_copy(update={"inputs": sequences})


@cache
def _empty(schema: type[Schema]) -> Schema | None:
    """A request that says nothing, of a schema that has `inputs` and requires nothing."""
    if "inputs" not in schema.model_fields or any(field.is_required() for field in schema.model_fields.values()):
        return None
    return schema.model_construct()


def from_json(content: bytes) -> Fields:
    """A JSON object's fields; raises `InvalidJSON`, `InvalidInput`."""
    with _without_collector:
        value = _parse(content)
    if not isinstance(value, dict):
        raise InvalidInput.at(Place(("body",), "the body must be a JSON object"))
    return value


def checked(given: Fields, schema: type[Schema], expected: Expected) -> Schema:
    """These fields as this schema; raises `InvalidInput`, every place is named."""
    try:
        return schema.model_validate(given, context=expected)
    except ValidationError as error:
        raise problems.from_validation(error) from None


def decoder(head: Head) -> Decode:
    """What reads a body that comes as this head says.

    Raises:
        UnsupportedMediaType: nothing does, or it comes compressed.
    """
    decode = _DECODERS.get(head.get(b"content-type") or b"") or _decoder(head.text(b"content-type"))
    encoding = head.text(b"content-encoding")
    if encoding and encoding.strip().lower() != "identity":
        raise UnsupportedMediaType(f"send the body as it is, without 'Content-Encoding: {encoding}'")
    return decode


_DECODERS: dict[bytes, Decode] = {b"application/json": from_json, tensors.MEDIA_TYPE.encode(): tensors.fields_of}


def _decoder(content_type: str | None) -> Decode:
    media_type = (content_type or "").partition(";")[0].strip().lower()
    if media_type == tensors.MEDIA_TYPE:
        return tensors.fields_of
    if media_type == "application/json" or (media_type.startswith("application/") and media_type.endswith("+json")):
        return from_json
    raise UnsupportedMediaType(
        f"send the body with 'Content-Type: application/json' or '{tensors.MEDIA_TYPE}', not "
        f"{content_type or 'without one'}"
    )


class _WithoutCollector:
    """JSON has no cycles, and to look for some over and over, while millions of lists are made, takes seconds.

    Several threads may be inside at once: the last one that leaves has the collector on again, if it was.
    """

    def __init__(self) -> None:
        self._lock, self._inside, self._was_enabled = threading.Lock(), 0, False

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._was_enabled = gc.isenabled()
                gc.disable()
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside and self._was_enabled:
                gc.enable()


_without_collector = _WithoutCollector()


def _parse(body: bytes) -> Any:
    if len(body) > aside.MOST_BYTES and _count_fields(body) > MOST_FIELDS:
        raise InvalidInput.at(Place(("body",), f"has more than {MOST_FIELDS:,} fields; a request has a few"))
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        number = _NOT_FINITE.match(error.doc, max(error.pos - 1, 0)) or _NOT_FINITE.match(error.doc, error.pos)
        if number is None and "infinity" not in error.msg:
            raise InvalidJSON(f"the body is not JSON: {error}") from None
        shown = "inf" if number is None else _SHOWN[number[0]]
        place = Place(("body", *_place_at(error.doc, error.pos)), f"must be a finite float32 number, not {shown}")
        raise InvalidInput.at(place) from None


def _count_fields(body: bytes) -> int:
    """How many names of fields a body has, about: what looks like one inside of a text counts, too."""
    return body.translate(None, b" \t\r\n").count(b'":')


def _place_at(document: str, position: int) -> list[str | int]:
    """The names and indices that lead to what stands at this position; all before it is sound."""
    path: list[str | int] = []
    name = ""
    for token in _TOKEN.finditer(document, 0, position):
        match token[0][0]:
            case "[":
                path.append(0)
            case "{":
                path.append("")
            case "]" | "}":
                path.pop()
            case ",":
                last = path[-1]
                path[-1] = last + 1 if isinstance(last, int) else ""
            case ":":
                path[-1] = orjson.loads(name)
            case _:
                name = token[0]
    return path
