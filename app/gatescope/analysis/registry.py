"""Every analysis by name, and `analyse`, which runs one.

A module of this package that has an `ANALYSIS` is an analysis: nothing else need be told of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from pydantic import ValidationError
from torch import Tensor

import gatescope.analysis
from gatescope.analysis.analysis import Analysis, Need, Parameters, coordinates_of
from gatescope.analysis.result import Array, Findings, Result
from gatescope.analysis.subject import Head, Scope, Subject
from gatescope.errors import AnalysisNotFound, InvalidInput, Place
from gatescope.tracing import Trace

NO_HEAD: Mapping[Need, str] = {"head": "none is given"}
"""What is missing where nothing is known behind the module."""

_NEEDED = {
    "head": "what makes the prediction of the module's output (its head)",
    "gradient": "the gradient of the prediction with respect to the module's output",
}


@cache
def analyses() -> Mapping[str, Analysis]:
    """Every analysis by name, in alphabetical order."""
    modules = (import_module(f"gatescope.analysis.{each.name}") for each in iter_modules(gatescope.analysis.__path__))
    found: list[Analysis] = [module.ANALYSIS for module in modules if hasattr(module, "ANALYSIS")]
    return {analysis.name: analysis for analysis in found}


def analysis_named(name: str) -> Analysis:
    """The analysis of this name; raises `AnalysisNotFound`."""
    if name not in analyses():
        near = get_close_matches(name[:64], analyses(), n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(analyses())}"
        raise AnalysisNotFound(f"there is no analysis '{name[:64]}'; {hint}")
    return analyses()[name]


def analyse(
    subject: Trace | Subject,
    name: str,
    *,
    head: Head | Callable[[Tensor], Tensor] | None = None,
    **parameters: Any,
) -> Result:
    """Answer a question about what a trace shows.

    Args:
        subject: a trace, or a `Subject` where more is known.
        name: of the analysis, such as "timescales".
        head: what makes the prediction of the traced module's output, for analyses that need it: a function or module,
            such as an `nn.Linear`, of (batch, time, directions · unit). Its values are called by their numbers, unless
            it is a `Head`, which names them.
        parameters: of the analysis.

    Raises:
        AnalysisNotFound: there is no such analysis.
        InvalidInput: a parameter cannot be, the analysis has no mathematics for this cell, or needs what is not known.
    """
    analysis = analysis_named(name)
    given = Subject.of(subject, head) if isinstance(subject, Trace) else subject
    stated = read_parameters(analysis, parameters)
    check(analysis, given.scope, NO_HEAD if given.head is None else {})
    return to_result(analysis, stated, given.scope, analysis.find(given, stated))


def read_parameters(analysis: Analysis, given: Mapping[str, Any]) -> Parameters:
    """The parameters of an analysis; raises `InvalidInput` with the place of each that cannot be."""
    fields = analysis.parameters.model_fields
    unknown = [name for name in given if name not in fields]
    if unknown:
        raise InvalidInput.at(*(Place((name,), _unknown(analysis, name)) for name in unknown))
    try:
        return analysis.parameters.model_validate(dict(given))
    except ValidationError as error:
        raise InvalidInput.at(*(Place(each["loc"], each["msg"]) for each in error.errors())) from None


def check(analysis: Analysis, scope: Scope, missing: Mapping[Need, str]) -> None:
    """Refuse a cell that the analysis has no mathematics for, and needs that are not met.

    Args:
        analysis: is to be run.
        scope: what it looks at.
        missing: what cannot be had, each with the reason.

    Raises:
        InvalidInput: it cannot be run.
    """
    cell = scope.spec.cell.name
    if cell not in analysis.cells:
        known = ", ".join(analysis.cells)
        raise InvalidInput(f"'{analysis.name}' has no mathematics for the cell '{cell}'; it is for {known}")
    for need in analysis.needs:
        if need in missing:
            raise InvalidInput(f"'{analysis.name}' needs {_NEEDED[need]}: {missing[need]}")


def to_result(analysis: Analysis, parameters: Parameters, scope: Scope, found: Findings) -> Result:
    """The result with the axes that the analysis declares."""
    arrays = {name: Array(analysis.arrays[name], values) for name, values in found.arrays.items()}
    axes = list(dict.fromkeys(axis for array in arrays.values() for axis in array.axes))
    coordinates = coordinates_of(axes, scope, found.coordinates)
    for name, array in arrays.items():
        sizes = tuple(len(coordinates[axis]) for axis in array.axes)
        if array.values.shape != sizes:
            raise TypeError(f"'{analysis.name}' gave {name} as {array.values.shape}; its coordinates are {sizes}")
    stated = parameters.model_dump(mode="json")
    return Result(analysis.name, stated, coordinates, arrays, found.check, list(found.notes))


def _unknown(analysis: Analysis, name: str) -> str:
    fields = analysis.parameters.model_fields
    near = get_close_matches(name[:64], fields, n=1)
    known = f"did you mean '{near[0]}'?" if near else f"it has {', '.join(fields) or 'none'}"
    return f"'{analysis.name}' has no parameter '{name[:64]}'; {known}"
