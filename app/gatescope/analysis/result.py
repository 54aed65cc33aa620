"""`Result`: what an analysis found, as arrays with named axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import xarray

CheckKind = Literal["residual", "control", "interval"]


class Check(NamedTuple):
    """A number by which a reader can tell whether to believe a result.

    A `residual` is how far the parts are from what they must add up to; 0 is perfect. A `control` is what the same
    analysis finds where there is nothing to find. An `interval` is half the width of a confidence interval of 95 %.
    """

    kind: CheckKind
    value: float


class Array(NamedTuple):
    """An array whose axes have names."""

    axes: tuple[str, ...]
    values: np.ndarray


@dataclass(frozen=True)
class Findings:
    """What the function of an analysis returns; its arrays have the axes that the analysis declares."""

    arrays: Mapping[str, np.ndarray]
    coordinates: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    """Of the axes other than layer, direction and unit."""
    check: Check | None = None
    notes: Sequence[str] = ()
    """What was assumed, left out or could not be told, a sentence each."""


@dataclass(frozen=True)
class Result:
    """What an analysis found."""

    analysis: str
    parameters: Mapping[str, Any]
    coordinates: Mapping[str, Sequence[Any]]  # of each axis that an array has
    arrays: Mapping[str, Array]
    check: Check | None
    notes: Sequence[str]

    @classmethod
    def of_reply(cls, reply: Mapping[str, Any]) -> Result:
        """From a reply of the API in JSON."""
        return cls(
            reply["analysis"],
            reply["parameters"],
            reply["coordinates"],
            {name: Array(tuple(each["axes"]), _array(each["values"])) for name, each in reply["arrays"].items()},
            None if reply["check"] is None else Check(**reply["check"]),
            [note["message"] for note in reply["notes"]],
        )

    def __getitem__(self, name: str) -> np.ndarray:
        """The values of one array."""
        return self.arrays[name].values

    def __repr__(self) -> str:
        shapes = (f"{name} {self._shape(array)}" for name, array in self.arrays.items())
        return f"Result({self.analysis}: {'; '.join(shapes)})"

    def to_xarray(self) -> xarray.Dataset:
        """The same as a dataset; parameters, check and notes are its attributes.

        Raises:
            ModuleNotFoundError: xarray is not installed.
        """
        import xarray  # noqa: PLC0415 - an extra, wanted for this alone

        check = {} if self.check is None else {"check": self.check.kind, "check_value": self.check.value}
        attributes = {"analysis": self.analysis, **self.parameters, **check, "notes": list(self.notes)}
        variables = {name: (array.axes, array.values) for name, array in self.arrays.items()}
        coordinates = {name: list(values) for name, values in self.coordinates.items()}
        return xarray.Dataset(variables, coordinates, {name: _plain(value) for name, value in attributes.items()})

    def _repr_html_(self) -> str:
        """What a notebook shows: the arrays, the check and the notes."""
        rows = "".join(
            f"<tr><td><code>{escape(name)}</code></td><td>{escape(self._shape(array))}</td></tr>"
            for name, array in self.arrays.items()
        )
        check = "" if self.check is None else f"<p>{self.check.kind}: {self.check.value:.3g}</p>"
        notes = "".join(f"<p>{escape(note)}</p>" for note in self.notes)
        return f"<b>{escape(self.analysis)}</b><table>{rows}</table>{check}{notes}"

    def _shape(self, array: Array) -> str:
        return " × ".join(f"{axis} {size}" for axis, size in zip(array.axes, array.values.shape, strict=True))


def _array(values: Any) -> np.ndarray:
    """Nested lists, NaN in place of null."""
    found = np.array(values)
    return found.astype(np.float64) if found.dtype == object else found


def _plain(value: Any) -> Any:
    """As a netCDF attribute can hold it."""
    return value if isinstance(value, str | int | float) else str(value)
