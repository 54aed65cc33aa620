"""A trace as an `xarray.Dataset` with named axes, for `.nc` files."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from gatescope.records import About, Record, padded
from gatescope.signal_info import signals_of

if TYPE_CHECKING:
    import xarray


def need() -> None:
    """Before an hour of computing, not after it.

    Raises:
        ModuleNotFoundError: xarray is not installed.
    """
    if find_spec("xarray") is None:
        raise ModuleNotFoundError("a trace as a dataset needs xarray: pip install 'gatescope[xarray]'", name="xarray")


def from_npz(content: bytes, info: Mapping[str, Any]) -> xarray.Dataset:
    """The dataset of a trace reply in `application/x-npz`; `info` is the model's ModelInfo."""
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    described = json.loads(str(arrays.pop("metadata")))
    return of(described, arrays.pop("sequence_lengths"), arrays, info)


def of(
    described: Mapping[str, Any], lengths: np.ndarray, signals: Mapping[str, np.ndarray], info: Mapping[str, Any]
) -> xarray.Dataset:
    """The dataset of a trace: coordinates name layers, directions, units and steps.

    Each signal has the attributes `range`, `symbol` and `description`, as far as `info` describes it.

    Args:
        described: the rest of the trace reply; without `model`, the dataset does not name one.
        lengths: (batch), of the sequences.
        signals: each (batch, layer, direction, time, unit), padded with NaN.
        info: the model's ModelInfo.
    """
    import xarray  # noqa: PLC0415 - an extra, wanted for this alone

    known = signals_of(info, described.get("module"))
    variables = {
        name: (_axes(values, described), values, known[name].attributes() if name in known else {})
        for name, values in signals.items()
    }
    coordinates = {
        "layer": described["layers"],
        "direction": described["directions"],
        "time": described["time_steps"],
        "unit": described["units"],
    }
    model = described.get("model")
    attributes = {"model": model["name"], "version": model["version"]} if model else {}
    attributes |= {name: described[name] for name in ("residual", "bins", "reduce") if name in described}
    dataset = xarray.Dataset(variables, coordinates, attributes)
    return dataset.assign(sequence_lengths=("batch", lengths))


def with_records(dataset: xarray.Dataset, records: Sequence[Record], about: About) -> xarray.Dataset:
    """The dataset of a trace with what else is known of its sequences, or all of it where it is empty.

    Added are `inputs`, `observed`, `prediction` and, as coordinates, `ids`, `timestamps`, `tokens`, `prediction_steps`,
    `prediction_timestamps` and the names of features and outputs.

    Args:
        dataset: of all time steps of these sequences.
        records: of its sequences.
        about: what they have in common.
    """
    arrays = padded(records, about)
    variables = {name: array for name, array in arrays.items() if name in {"inputs", "observed", "prediction"}}
    coordinates = {name: array for name, array in arrays.items() if name not in variables}
    if "time" not in dataset.coords:
        coordinates["time"] = ("time",), np.arange(max(each.steps for each in records))
        variables["sequence_lengths"] = ("batch",), np.array([each.steps for each in records])
    return dataset.assign(variables).assign_coords(coordinates).assign_attrs(about.attributes())


def of_records(records: Sequence[Record], about: About) -> xarray.Dataset:
    """The dataset of records without signals."""
    import xarray  # noqa: PLC0415

    return with_records(xarray.Dataset(), records, about)


def _axes(values: np.ndarray, described: Mapping[str, Any]) -> list[str]:
    """A projected hidden state is narrower than the cell and has units of its own."""
    *others, unit = described["axes"]
    return [*others, unit if values.shape[-1] == len(described["units"]) else f"projected_{unit}"]
