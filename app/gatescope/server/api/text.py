"""`Text` in requests: one text or several."""

from __future__ import annotations

from typing import Any

from pydantic import GetJsonSchemaHandler
from pydantic_core import core_schema

from gatescope.errors import Place
from gatescope.server.api.nested import Nested, ShapeError, shown
from gatescope.server.api.parsed import Parsed


class Text(Parsed):
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
            lambda texts: set(map(type, texts)) <= {str}, lambda text: None if isinstance(text, str) else _wrong(text)
        )
        return value

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """A string or a list of strings."""
        return {"anyOf": [{"type": "string"}, {"type": "array", "minItems": 1, "items": {"type": "string"}}]}


def _wrong(text: Any) -> str:
    return f"must be a text, not {shown(text)}"
