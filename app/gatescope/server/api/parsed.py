"""`Parsed`: the base of a field's type that reads its value itself, so that a refusal names the value's own place."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from pydantic import GetCoreSchemaHandler
from pydantic_core import core_schema

from gatescope.server.api.arrays import located


class Parsed(ABC):
    """A pydantic type whose `parse` answers the value or raises `ShapeError`; no union's branches in its places."""

    @staticmethod
    @abstractmethod
    def parse(value: Any) -> Any:
        """The value, checked."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        """A validator that turns a `ShapeError` into pydantic's own."""

        def validate(value: Any) -> Any:
            with located():
                return cls.parse(value)

        return core_schema.no_info_plain_validator_function(validate)
