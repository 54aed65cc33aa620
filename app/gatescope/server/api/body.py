"""Reads a request's body: bytes -> fields -> a validated schema, with the right error at each step."""

from __future__ import annotations

from functools import cache
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from gatescope.errors import UnsupportedMediaType
from gatescope.server.api import codecs, offload, problems
from gatescope.server.api.codecs.codec import BodyReader, Fields
from gatescope.server.api.messages import Head, Request
from gatescope.server.api.schema.shapes import Expected

Schema = TypeVar("Schema", bound=BaseModel)


async def read(request: Request, schema: type[Schema], expected: Expected) -> Schema:
    """The request's body as this schema.

    Args:
        request: with a body in one of the formats that are read here.
        schema: what it must be.
        expected: the lengths of the model's axes.

    Raises:
        UnsupportedMediaType: it comes in another format, or compressed.
        BodyTooLarge, InvalidJSON: as their names say.
        InvalidInput: it does not fit the schema; every place is named.
    """
    reader, limits = request.head.find(reader_of), request.context.limits
    content = await request.content(limits.max_body_bytes)
    return await offload.run(
        len(content) > offload.MAX_LOOP_BYTES, decode, content, reader, schema, expected.within(limits)
    )


async def read_fields(request: Request) -> Fields:
    """The request's body as its fields, before any is looked at; raises what `read` raises."""
    reader = request.head.find(reader_of)
    content = await request.content(request.context.limits.max_body_bytes)
    return await offload.run(len(content) > offload.MAX_LOOP_BYTES, reader.decode, content)


def decode(content: bytes, reader: BodyReader, schema: type[Schema], expected: Expected) -> Schema:
    """These bytes as this schema; raises `InvalidJSON`, `InvalidInput`."""
    empty = _empty(schema)
    sequences = None if empty is None else reader.sequences(content, expected)
    if empty is None or sequences is None:
        return validate(reader.decode(content), schema, expected)
    request: Schema = empty.model_copy(update={"inputs": sequences})  # such a body needs nothing of pydantic
    return request


def validate(given: Fields, schema: type[Schema], expected: Expected) -> Schema:
    """These fields as this schema; raises `InvalidInput`, every place is named."""
    try:
        return schema.model_validate(given, context=expected)
    except ValidationError as error:
        raise problems.from_validation(error) from None


def reader_of(head: Head) -> BodyReader:
    """The codec that reads a body that comes as this head says.

    Raises:
        UnsupportedMediaType: none does, or the body comes compressed.
    """
    reader = codecs.reader_of(head.get(b"content-type"))
    encoding = head.text(b"content-encoding")
    if encoding and encoding.strip().lower() != "identity":
        raise UnsupportedMediaType(f"send the body as it is, without 'Content-Encoding: {encoding}'")
    return reader


@cache
def _empty(schema: type[Schema]) -> Schema | None:
    """A request that says nothing, of a schema that has `inputs` and requires nothing."""
    if "inputs" not in schema.model_fields or any(field.is_required() for field in schema.model_fields.values()):
        return None
    return schema.model_construct()
