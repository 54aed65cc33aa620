"""States in requests: of a lone recurrent module, or of each of several, checked against its own sizes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationInfo
from pydantic_core import core_schema

from gatescope.errors import Place
from gatescope.server.api.schema.arrays import Axes
from gatescope.server.api.schema.field_names import check_known
from gatescope.server.api.schema.nested_lists import shown
from gatescope.server.api.schema.shapes import Expected, ShapeError, as_validation_error

MODULES = "modules"

STATES = {
    "hidden_state": Axes("layer_direction batch hidden_unit"),
    "cell_state": Axes("layer_direction batch cell_unit"),
}
"""The states that a module can have; each cell has some of them."""

ByState = dict[str, np.ndarray]


class ModuleStates:
    """The pydantic type of the states of several modules, by the names of the model's modules."""

    @staticmethod
    def parse(value: Any, expected: Expected) -> dict[str, ByState]:
        """The states of each module.

        Raises:
            ShapeError: a module or a state is missing, there is none of this name, or it does not fit.
        """
        if not isinstance(value, Mapping):
            raise ShapeError(Place((), f"must be an object of states by module, not {shown(value)}"))
        check_known(value, expected.modules)
        _check_missing(value, expected.modules)
        return {name: _states(value[name], expected, name) for name in expected.modules}

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        """A validator that reads the modules' sizes from the validation's context."""

        def validate(value: Any, info: ValidationInfo) -> dict[str, ByState]:
            if not isinstance(info.context, Expected):
                raise TypeError("states are validated with the model's `Expected` as context")
            with as_validation_error():
                return cls.parse(value, info.context)

        return core_schema.with_info_plain_validator_function(validate)

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """States by name."""
        properties = {name: axes.json_schema() for name, axes in STATES.items()}
        return {"type": "object", "additionalProperties": {"type": "object", "properties": properties}}


def check_fields(given: Mapping[str, Any], expected: Expected) -> None:
    """Refuse the states of one module where the model has several, the other way round, and what is unknown or missing.

    A state that the cell lacks is refused, too.

    Raises:
        ShapeError: with the places.
    """
    if not expected.modules:
        _check_lacking(given, expected, f"model '{expected.model}'")
        check_known(given, (*_own_or_null(given, expected), MODULES))
        if MODULES in given:
            wanted = _listed(expected)
            raise ShapeError(Place((MODULES,), f"model '{expected.model}' has one recurrent module: give {wanted}"))
        _check_missing(given, expected.states)
        return
    check_known(given, (*STATES, MODULES))
    if given.get(MODULES) is None or STATES.keys() & given.keys():
        names = ", ".join(map(repr, expected.modules))
        message = f"model '{expected.model}' has several recurrent modules: give '{MODULES}' with the states of {names}"
        raise ShapeError(Place((), message))


def _states(value: Any, expected: Expected, module: str) -> ByState:
    """The states of one module; its name stands before the places."""
    own = replace(expected.modules[module], most=expected.most)
    if not isinstance(value, Mapping):
        raise ShapeError(Place((module,), f"must be an object with {_listed(own)}, not {shown(value)}"))
    try:
        _check_lacking(value, own, f"module '{module}' of model '{expected.model}'")
        check_known(value, _own_or_null(value, own))
        _check_missing(value, own.states)
    except ShapeError as error:
        raise _within(error, module) from None
    parsed = {}
    for name in own.states:
        try:
            parsed[name] = STATES[name].parse(value[name], own, name)
        except ShapeError as error:
            raise _within(error, module, name) from None
    return parsed


def _listed(expected: Expected) -> str:
    return " and ".join(map(repr, expected.states))


def _own_or_null(given: Mapping[str, Any], expected: Expected) -> list[str]:
    """The states of the cell, and others that are null, which is as if they were not given."""
    return [name for name in STATES if name in expected.states or (name in given and given[name] is None)]


def _check_lacking(given: Mapping[str, Any], expected: Expected, owner: str) -> None:
    """Refuse states that other cells have."""
    lacking = [name for name in STATES if name not in expected.states and given.get(name) is not None]
    if lacking:
        raise ShapeError(*(Place((name,), lacks(owner, expected.cell, name)) for name in lacking))


def lacks(owner: str, cell: str, name: str) -> str:
    """What is said of a state or a signal that a cell does not have."""
    return f"{owner} is {article(cell)} {cell}: it has no {name}"


def article(cell: str) -> str:
    """What stands before the name of a cell: it is said letter by letter."""
    return "a" if cell[0] in "gG" else "an"


def _check_missing(given: Mapping[str, Any], wanted: Collection[str]) -> None:
    if missing := [name for name in wanted if given.get(name) is None]:
        raise ShapeError(*(Place((name,), f"'{name}' is missing") for name in missing))


def _within(error: ShapeError, *names: str) -> ShapeError:
    return ShapeError(*(Place((*names, *place.loc), place.message) for place in error.places))
