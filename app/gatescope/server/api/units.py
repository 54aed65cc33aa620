"""`Units` in requests: a list of indices or a slice."""

from __future__ import annotations

import re
from typing import Any

from pydantic import GetJsonSchemaHandler
from pydantic_core import core_schema

from gatescope.errors import Place
from gatescope.server.api.nested import Nested, ShapeError, shown
from gatescope.server.api.parsed import Parsed

PATTERN = r"^[0-9]{0,9}:[0-9]{0,9}(:[1-9][0-9]{0,8})?$"

_SLICE = re.compile(PATTERN)


class Units(Parsed):
    """The pydantic type of `units`: a list such as `[3, 17]` or a slice such as `"0:16"`."""

    @staticmethod
    def parse(value: Any) -> str | list[int]:
        """The units as they were sent.

        Raises:
            ShapeError: with the places.
        """
        if isinstance(value, list):
            Nested.of(value).check(lambda units: set(map(type, units)) <= {int}, _wrong)
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
        return {"anyOf": [indices, {"type": "string", "pattern": PATTERN}]}


def _wrong(unit: Any) -> str | None:
    return None if type(unit) is int else f"must be a unit's index, a whole number, not {shown(unit)}"
