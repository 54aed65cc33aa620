"""Reading a request's body: bounded bytes -> JSON -> a validated schema, with the right error at each step."""

from __future__ import annotations

import json
from typing import Any, TypeVar

import orjson
from fastapi import Request
from pydantic import BaseModel, ValidationError

from app.api import problems
from app.api.arrays import Expected
from app.errors import BodyTooLarge, InvalidInput, InvalidJSON, Place, UnsupportedMediaType

Schema = TypeVar("Schema", bound=BaseModel)


async def read(request: Request, schema: type[Schema], expected: Expected, max_bytes: int) -> Schema:
    """The request's body as this schema.

    Args:
        request: with a JSON body.
        schema: what it must be.
        expected: the lengths of the model's axes.
        max_bytes: the most that is read.

    Raises:
        UnsupportedMediaType: it does not come as JSON.
        BodyTooLarge: it has more than `max_bytes`.
        InvalidJSON: it is not JSON.
        InvalidInput: it does not fit the schema; every place is named.
    """
    _check_media_type(request.headers.get("content-type"))
    value = _parse(await _bytes(request, max_bytes))
    if not isinstance(value, dict):
        raise InvalidInput.at(Place(("body",), "the body must be a JSON object"))
    try:
        return schema.model_validate(value, context=expected)
    except ValidationError as error:
        raise problems.from_validation(error, schema.model_fields) from None


def _check_media_type(given: str | None) -> None:
    media_type = (given or "").partition(";")[0].strip().lower()
    if media_type != "application/json" and not (
        media_type.startswith("application/") and media_type.endswith("+json")
    ):
        raise UnsupportedMediaType(f"send the body with 'Content-Type: application/json', not {given or 'without one'}")


async def _bytes(request: Request, max_bytes: int) -> bytes:
    too_large = BodyTooLarge(f"the body has more than the {max_bytes:,} bytes that this server takes")
    stated = request.headers.get("content-length", "0")
    if stated.isdecimal() and int(stated) > max_bytes:
        raise too_large
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > max_bytes:
            raise too_large
        chunks.append(chunk)
    return b"".join(chunks)


def _parse(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        return _parse_leniently(body, error)


def _parse_leniently(body: bytes, strict: orjson.JSONDecodeError) -> Any:
    """Take NaN and Infinity, which JSON does not have but Python writes: the schema then says where they stand."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise InvalidJSON(f"the body is not JSON: {strict}") from None
