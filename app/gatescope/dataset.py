"""A trace as an `xarray.Dataset` with named axes, for `.nc` files."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

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


def write(content: bytes, info: Mapping[str, Any], path: Path) -> None:
    """Write a trace reply in `application/x-npz` as a netCDF file; `info` is the model's ModelInfo."""
    from_npz(content, info).to_netcdf(path, engine="h5netcdf")


def _axes(values: np.ndarray, described: Mapping[str, Any]) -> list[str]:
    """A projected hidden state is narrower than the cell and has units of its own."""
    *others, unit = described["axes"]
    return [*others, unit if values.shape[-1] == len(described["units"]) else f"projected_{unit}"]
