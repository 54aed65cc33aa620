"""A trace as an `xarray.Dataset` with named axes, for `.nc` files."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import xarray

RANGES = {"cell_candidate": "-1 to 1", "hidden_state": "-1 to 1", "cell_state": "unbounded"}


def need() -> None:
    """Before an hour of computing, not after it.

    Raises:
        ModuleNotFoundError: xarray is not installed.
    """
    if find_spec("xarray") is None:
        raise ModuleNotFoundError("a trace as a dataset needs xarray: pip install 'gatescope[xarray]'", name="xarray")


def from_npz(content: bytes) -> xarray.Dataset:
    """The dataset of a trace reply in `application/x-npz`."""
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    described = json.loads(str(arrays.pop("metadata")))
    return of(described, arrays.pop("sequence_lengths"), arrays)


def of(described: Mapping[str, Any], lengths: np.ndarray, signals: Mapping[str, np.ndarray]) -> xarray.Dataset:
    """The dataset of a trace: coordinates name layers, directions, units and steps.

    Args:
        described: the rest of the trace reply.
        lengths: (batch), of the sequences.
        signals: each (batch, layer, direction, time, unit), padded with NaN.
    """
    import xarray  # noqa: PLC0415 - an extra, wanted for this alone

    variables = {
        name: _variable(name, values, described["axes"], described["units"]) for name, values in signals.items()
    }
    coordinates = {
        "layer": described["layers"],
        "direction": described["directions"],
        "time": described["time_steps"],
        "unit": described["units"],
    }
    attributes = {"model": described["model"]["name"], "version": described["model"]["version"]}
    attributes |= {name: described[name] for name in ("residual", "bins", "reduce") if name in described}
    dataset = xarray.Dataset(variables, coordinates, attributes)
    return dataset.assign(sequence_lengths=("batch", lengths))


def write(content: bytes, path: Path) -> None:
    """Write a trace reply in `application/x-npz` as a netCDF file."""
    from_npz(content).to_netcdf(path, engine="h5netcdf")


def _variable(
    name: str, values: np.ndarray, axes: list[str], units: list[int]
) -> tuple[list[str], np.ndarray, dict[str, str]]:
    narrower = values.shape[-1] != len(units)  # a projected hidden state has units of its own
    return [*axes[:-1], "projected_unit" if narrower else axes[-1]], values, {"range": RANGES.get(name, "0 to 1")}
