"""The types of fields that read their values themselves, so that an error names the value's own place."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import core_schema

from gatescope.errors import Place
from gatescope.server.api.schema.nested_lists import Nested, shown
from gatescope.server.api.schema.shapes import ShapeError, as_validation_error

_SLICE_PATTERN = r"^[0-9]{0,9}:[0-9]{0,9}(:[1-9][0-9]{0,8})?$"

MOST_STOPS, LONGEST_STOP = 16, 256

_SLICE = re.compile(_SLICE_PATTERN)


class ParsedField(ABC):
    """A pydantic type whose `parse` answers the value or raises `ShapeError`; no union's branches in its places."""

    @staticmethod
    @abstractmethod
    def parse(value: Any) -> Any:
        """The value, checked."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        """A validator that turns a `ShapeError` into pydantic's own."""

        def validate(value: Any) -> Any:
            with as_validation_error():
                return cls.parse(value)

        return core_schema.no_info_plain_validator_function(validate)


class Text(ParsedField):
    """The pydantic type of `text`: a string or a list of strings, with one message for whatever else comes."""

    @staticmethod
    def parse(value: Any) -> str | list[str]:
        """The text as it was sent.

        Raises:
            ShapeError: with the places.
        """
        if isinstance(value, str):
            return value
        if not isinstance(value, list):
            raise ShapeError(Place((), f"must be a text or a list of texts, not {shown(value)}"))
        Nested.of(value).check(
            lambda texts: set(map(type, texts)) <= {str},
            lambda text: None if isinstance(text, str) else _describe_text_error(text),
        )
        return value

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """A string or a list of strings."""
        return {"anyOf": [{"type": "string"}, {"type": "array", "minItems": 1, "items": {"type": "string"}}]}


class Stop(ParsedField):
    """The pydantic type of `stop`: a list of strings, or of token ids."""

    @staticmethod
    def parse(value: Any) -> list[str] | list[int] | None:
        """What was sent.

        Raises:
            ShapeError: with the places.
        """
        if value is None:
            return None
        if not isinstance(value, list):
            raise ShapeError(Place((), f"must be a list of texts, or of token ids, not {shown(value)}"))
        if len(value) > MOST_STOPS:
            raise ShapeError(Place((), f"has {len(value):,} entries; there may be {MOST_STOPS}"))
        for index, stop in enumerate(value):
            if type(stop) not in (str, int):
                raise ShapeError(Place((index,), f"must be a text or a token id, not {shown(stop)}"))
            if isinstance(stop, str) and not 0 < len(stop) <= LONGEST_STOP:
                raise ShapeError(Place((index,), f"has {len(stop):,} characters; a stop has 1 to {LONGEST_STOP}"))
        return value

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """A list of strings or of whole numbers, or null."""
        texts = {"type": "string", "minLength": 1, "maxLength": LONGEST_STOP}
        ids = {"type": "integer", "minimum": 0}
        lists = [{"type": "array", "maxItems": MOST_STOPS, "items": each} for each in (texts, ids)]
        return {"anyOf": [*lists, {"type": "null"}]}


class Units(ParsedField):
    """The pydantic type of `units`: a list such as `[3, 17]` or a slice such as `"0:16"`."""

    @staticmethod
    def parse(value: Any) -> str | list[int]:
        """The units as they were sent.

        Raises:
            ShapeError: with the places.
        """
        if isinstance(value, list):
            Nested.of(value).check(lambda units: set(map(type, units)) <= {int}, _describe_unit_error)
            return value
        if isinstance(value, str) and _SLICE.fullmatch(value):
            return value
        raise ShapeError(Place((), f'must be a list such as [3, 17] or a slice such as "0:16", not {shown(value)}'))

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """A list of whole numbers or a string."""
        indices = {"type": "array", "minItems": 1, "items": {"type": "integer", "minimum": 0}}
        return {"anyOf": [indices, {"type": "string", "pattern": _SLICE_PATTERN}]}


def _describe_text_error(text: Any) -> str:
    return f"must be a text, not {shown(text)}"


def _describe_unit_error(unit: Any) -> str | None:
    return None if type(unit) is int else f"must be a unit's index, a whole number, not {shown(unit)}"
